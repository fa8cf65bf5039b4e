"""Parses the command line and runs the subcommand.

``python -m hussh`` (`hussh.__main__`) and the program ``hussh`` call `main`. Passwords are asked
for and never arguments, because every user of a machine can read those.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from . import explain, run
from .version import format_version

__all__ = ["main"]

USAGE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; return the exit status.

    Args:
        arguments: without the name of the program; None means those of this process.
    """
    options, command = run.split_command(sys.argv[1:] if arguments is None else arguments)
    try:
        given = _make_parser().parse_args(options)
    except SystemExit as end:  # argparse has said why; 0 for --help
        return end.code if isinstance(end.code, int) else USAGE
    try:
        if given.subcommand == "run":
            return run.run(given, command)
        if command is not None:
            raise ValueError("takes no command: nothing is run on the target")
        return explain.run(given)
    except (TypeError, ValueError, ImportError) as error:
        print(f"hussh {given.subcommand}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


class _ShowVersion(argparse.Action):
    """Prints the version; asks for it only then, because that loads libraries."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(format_version())
        parser.exit()


def _make_parser() -> argparse.ArgumentParser:
    name = os.path.basename(sys.argv[0])
    parser = argparse.ArgumentParser(
        prog="hussh" if name == "hussh" else "python -m hussh",
        description="SSH for hosts that you cannot reach directly.",
    )
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    explain.add_parser(commands)
    run.add_parser(commands)
    return parser
