"""People and their judgements: rounds, dialogues, samples, comparisons, review, snapshots."""
