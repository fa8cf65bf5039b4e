"""The public classes for one host: one-line methods over operations."""
