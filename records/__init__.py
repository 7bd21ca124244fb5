"""The contract between the two worlds: dialogues, preferences, demonstrations, configs, run files."""
