"""Our side of each benchmark: scripts that run alone with one thread and print one JSON object."""
