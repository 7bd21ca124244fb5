"""PostgreSQL, Redis and the processes of one machine, with nothing to install or start by hand."""
