"""The pages, one module each. Views are thin: they call services and selectors."""
