"""The compiled module and the owners of its C objects."""
