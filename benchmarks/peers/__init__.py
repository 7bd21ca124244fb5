"""Scripts that run inside a peer's own environment; each prints one JSON object."""
