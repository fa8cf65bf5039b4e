"""Many hosts: the public classes for them, what is done on each, and in which loop.

`multi_conn.py` has the public names, and the subcommand ``run`` uses the group of hosts. Each host
is an `AsyncConnection`; nothing here opens one in any other way.
"""
