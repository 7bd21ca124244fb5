"""`make demo`: the whole loop from an empty database to a table of versions."""
