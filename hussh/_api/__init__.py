"""The public classes: facades of one-line methods over operations."""
