"""Real OpenSSH servers, agents, keys and awkward peers for the tests.

Imported by ``tests/conftest.py`` and by tests; never by the package itself. Nothing here imports
``hussh``: what the tests compare against must not share code with what they test. Nothing here
changes a file of the machine: servers see generated accounts in a mount namespace of their own, or
by a preloaded library.
"""
