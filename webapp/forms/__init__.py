"""Forms of the pages: each error names its field and says what to change."""
