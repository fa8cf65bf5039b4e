"""The file system for fsspec; `hussh.fsspec` has its public name.

Only `hussh.fsspec` imports these modules, because they need the package fsspec.
"""
