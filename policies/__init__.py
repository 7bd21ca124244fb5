"""Policies: pre-training, SFT, rejection sampling and PPO, each against any score function."""
