"""Evaluation: everything that judges a finished policy."""
