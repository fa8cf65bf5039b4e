"""SFTP version 3 as operations: no I/O of its own, like all of `_protocol`.

`_api` runs them for `SFTP` and `AsyncSFTP`.
"""
