"""Benchmarks: Concord against its peers and against the machine, one JSON line each."""
