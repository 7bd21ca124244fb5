"""Text and tokens: chat format, models, generation, log-probabilities, checkpoints. No rewards."""
