"""The command line ``python -m hussh``, also installed as the program ``hussh``.

`main` parses and dispatches, `connection_arguments` has the options that all subcommands take, and
each subcommand is a module of its own. Only `hussh.__main__` and the console script import it.
"""
