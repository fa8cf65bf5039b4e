"""Runs ``python -m hussh``, the command line of `hussh._command_line`.

`main` in `_command_line/main.py` does all of it. Nothing imports this module.
"""

import sys

from ._command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
