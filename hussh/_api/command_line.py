"""Runs ``python -m hussh explain user@host``, which says why it does not connect.

Exit status: 0 connected, 1 not connected, 2 usage. Passwords are asked for and never arguments,
because every user of a machine can read those.
"""

from __future__ import annotations

import argparse
import getpass
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from .._policy.hostkeys.known_hosts import POLICIES
from .._policy.report import Report
from .explain import explain

__all__ = ["main"]

CONNECTED, NOT_CONNECTED, USAGE = 0, 1, 2
#: Seconds for everything together, unless the user says otherwise.
TIMEOUT = 30.0


def main(arguments: Sequence[str]) -> int:
    """Run a subcommand; return the exit status."""
    parser = _parser()
    try:
        given = parser.parse_args(arguments)
    except SystemExit as end:  # argparse has said why; 0 for --help
        return end.code if isinstance(end.code, int) else USAGE
    try:
        return _explain(given)
    except (TypeError, ValueError, ImportError) as error:
        print(f"hussh explain: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hussh", description="SSH for hosts that you cannot reach directly."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser(
        "explain",
        help="connect, and tell for each hop what happened and what to do",
        description="Connect as hussh.Connection does, close again, and tell for each hop what"
        " happened. Nothing is run on the target. Exit status: 0 connected, 1 not, 2 usage.",
    )
    one.add_argument(
        "host", help="[user@]host or ssh://[user@]host[:port]; the user of hussh is root"
    )
    one.add_argument("-J", dest="jump", metavar="HOPS", help="jump hosts: [user@]host[:port],…")
    one.add_argument("-p", dest="port", type=int, metavar="PORT", help="default 22")
    one.add_argument("-i", dest="key", metavar="FILE", help="private key")
    one.add_argument(
        "-l", dest="user", metavar="USER", help="user, unless it stands before the host"
    )
    one.add_argument("--proxy-command", metavar="COMMAND", help='such as "nc %%h %%p"')
    one.add_argument("--known-hosts", metavar="FILE", action="append", help="may be repeated")
    one.add_argument("--host-key-policy", choices=POLICIES)
    one.add_argument(
        "-F", dest="config_file", metavar="FILE", help="an ssh configuration; default: none is read"
    )
    one.add_argument(
        "--config", action="store_true", help="read ~/.ssh/config and the system's, as ssh does"
    )
    one.add_argument("--no-agent", action="store_true", help="do not ask the ssh-agent")
    one.add_argument("--gssapi", action="store_true", help="log in with the Kerberos ticket")
    one.add_argument(
        "--ask-password",
        action="store_true",
        help="ask for a password, or with -i for the key's passphrase",
    )
    one.add_argument(
        "--timeout",
        type=float,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"for everything together; default {TIMEOUT:g}, 0: no limit",
    )
    one.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _explain(given: argparse.Namespace) -> int:
    host, options = _options(given)
    if given.ask_password:
        what = f"passphrase of {given.key}" if given.key else f"password for {given.host}"
        try:
            options["password"] = getpass.getpass(f"{what}: ")
        except EOFError:
            raise ValueError("--ask-password got no password: the input has ended") from None
    report = explain(host, **options)
    try:
        if given.json:
            print(report.to_json())
        else:
            show(report)
        sys.stdout.flush()
    except BrokenPipeError:  # such as of `| head`
        with open(os.devnull, "wb") as nowhere:  # for what is flushed at the exit
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    return CONNECTED if report.connected else NOT_CONNECTED


def _options(given: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    user, host, port = _split(given.host)
    options: dict[str, Any] = {
        "port": given.port if given.port is not None else port,
        "username": user or given.user,
        "private_key": given.key,
        "proxy_jump": given.jump,
        "proxy_command": given.proxy_command,
        "known_hosts": given.known_hosts,
        "host_key_policy": given.host_key_policy,
        "config": given.config_file or given.config or None,
        "agent": False if given.no_agent else None,
        "gssapi": given.gssapi or None,
    }
    options = {name: value for name, value in options.items() if value is not None}
    return host, {**options, "timeout": _milliseconds(given.timeout)}


def _milliseconds(seconds: float) -> int:
    if not 0 <= seconds < 1e9:
        raise ValueError("--timeout must be a number of seconds, not negative")
    return max(1, round(seconds * 1000)) if seconds else 0


def _split(place: str) -> tuple[str | None, str, int | None]:
    """Split ``[user@]host``, or an ``ssh://`` URL, which may have a port."""
    url = re.fullmatch(r"ssh://(?:(.+)@)?(\[[^]]+\]|[^:@/]+)(?::(\d+))?/?", place, re.IGNORECASE)
    user, host, port = url.groups() if url else (*place.rpartition("@")[::2], None)
    if user and ":" in user:  # and what follows it is never shown
        raise ValueError("the host takes no password: --ask-password asks for it")
    return user or None, host, None if port is None else int(port)


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
