"""Reward models: learn a score from comparisons, serve it, and report how often it is right."""
