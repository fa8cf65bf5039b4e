"""The subcommand ``explain``: says for each hop what happened, and why it does not connect.

`main.py` imports it. Exit status: 0 connected, 1 not connected, 2 usage. `_api/explain.py` connects
and makes the report; nothing here does.
"""

from __future__ import annotations

import argparse
import sys

from .._api.explain import explain
from .._policy.report import Report
from .connection_arguments import (
    HOST,
    HostArgument,
    add_arguments,
    ask_password,
    check_seconds,
    get_common_options,
)
from .output import forget_stdout

__all__ = ["add_parser", "run", "show"]

CONNECTED, NOT_CONNECTED = 0, 1
#: Seconds for everything together, unless the user says otherwise.
TIMEOUT = 30.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to those of the program."""
    parser = commands.add_parser(
        "explain",
        help="connect, and tell for each hop what happened and what to do",
        description="Connect as hussh.Connection does, close again, and tell for each hop what"
        " happened. Nothing is run on the target. Exit status: 0 connected, 1 not, 2 usage.",
    )
    parser.add_argument("host", help=HOST)
    add_arguments(parser)
    parser.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"for everything together; default {TIMEOUT:g}, 0: no limit",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(given: argparse.Namespace) -> int:
    """Explain one host; return the exit status."""
    host, username, port = HostArgument.parse(given.host)
    options = get_common_options(given)
    if username is not None:
        options["username"] = username
    if port is not None:
        options["port"] = port
    seconds = check_seconds("--timeout", given.timeout)
    options["timeout"] = max(1, round(seconds * 1000)) if seconds else 0
    options |= ask_password(given, given.host)
    report = explain(host, **options)
    try:
        if given.json:
            print(report.to_json())
        else:
            show(report)
        sys.stdout.flush()
    except BrokenPipeError:  # such as of `| head`
        forget_stdout()
    return CONNECTED if report.connected else NOT_CONNECTED


def show(report: Report) -> None:
    """Print a report, with `rich` if that is installed."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        print(report)
        return
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if not console.is_terminal:
        print(report)
        return
    colours = {"connected": "green", "connected before": "green", "failed": "bold red"}
    # Text, never a string: what servers say may look like markup.
    for hop in report.hops:
        console.print(
            Text(f"{hop.index + 1}. {hop.hop}  ", "bold"),
            Text(hop.state, colours.get(hop.state, "dim")),
            sep="",
        )
        table = Table.grid(padding=(0, 2))
        table.add_column(width=15)
        table.add_column(overflow="fold")
        for word, text in hop.lines():
            table.add_row(Text(f"  {word}", "cyan"), Text(text))
        console.print(table)
    console.print(Text(report.verdict, "bold green" if report.connected else "bold red"))
    if not report.connected:
        table = Table.grid(padding=(0, 2))
        table.add_column(width=15)
        table.add_column(overflow="fold")
        table.add_row(Text("  cause", "cyan"), Text(report.cause))
        table.add_row(Text("  advice", "cyan"), Text(report.advice))
        console.print(table)
