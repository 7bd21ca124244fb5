"""What exists and what made it: versions, snapshots, runs, iterations, artifacts, lineage."""
