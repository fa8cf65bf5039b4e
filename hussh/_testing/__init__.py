"""Throw-away servers for the tests of users; `hussh.testing` has their public names.

Nothing else of hussh imports them.
"""
