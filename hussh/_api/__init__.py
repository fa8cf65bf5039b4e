"""The public classes for one host: one-line methods over operations.

`_multi`, `_fsspec` and `_command_line` build on them. Nothing here waits, locks or knows the
protocol; the layers below do that.
"""
