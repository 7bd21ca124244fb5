"""The contract between both worlds: dialogues, preferences, prompts, configs, run directories."""
