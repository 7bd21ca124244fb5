"""The sandbox: a small language in which true preference is known, and simulated annotators."""
