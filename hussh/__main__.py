"""Runs ``python -m hussh``, the command line of `hussh._api.command_line`."""

import sys

from ._api.command_line import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
