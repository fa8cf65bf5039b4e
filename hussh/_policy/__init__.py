"""Parses and decides: routes, options, keys, known hosts. It opens no socket and never waits.

All layers above import its modules.
"""
