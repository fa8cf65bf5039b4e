"""The file system for fsspec; `hussh.fsspec` has its public name."""
