"""SFTP version 3 as operations: sans I/O, like all of `_protocol`."""
