"""Read-models of the pages: what one page shows, gathered in few queries."""
