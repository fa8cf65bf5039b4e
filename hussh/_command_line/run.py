"""The subcommand ``run``: runs one command on many hosts, and prints what comes, host by host.

`main.py` imports it. A `HostGroup` does the work, as it does for a `MultiConnection`. What a host
writes is printed line by line as it comes, because some commands never end, and Ctrl-C must lose
nothing.

Exit status: 0 the command ended with 0 on every host; 1 it ran to its end everywhere, and somewhere
with another status; 255 somewhere it did not run to its end; 2 usage; 130 Ctrl-C; 141 nobody reads
stdout.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from .._api.arguments import check_command
from .._api.transfer_bars import can_show
from .._host_results import HostResult
from .._multi.host_group import BATCH_SIZE, HostGroup
from .._multi.hosts import make_connections
from .._multi.multi_options import add_group_defaults
from .._multi.progress import Display
from .connection_arguments import (
    HOST,
    HostArgument,
    add_arguments,
    ask_password,
    check_seconds,
    get_common_options,
)
from .output import BrokenOutput, HostLines, forget_stdout, format_json_line

__all__ = ["add_parser", "run", "split_command"]

SUCCEEDED, FAILED, NOT_RUN, INTERRUPTED, UNREAD = 0, 1, 255, 130, 141
#: Seconds for connecting to one host, unless the user says otherwise.
CONNECT_TIMEOUT = 30.0
#: Seconds between signs of life, so that a host that vanished ends even without a time limit.
KEEPALIVE = 30.0
#: How many hosts the last line names.
NAMED = 10

EPILOG = """\
The command is for the login shell of each host: its words are joined with blanks, as ssh does.
Every line that a host writes is printed with the host's name before it, stdout to stdout and
stderr to stderr, as it comes. Commands get no input unless --input names some.

exit status:
    0  the command ended with 0 on every host
    1  it ran on every host, and ended with another status, or by a signal, on some
  255  some host could not be reached, was lost, or had no time left
    2  wrong usage; nothing was opened
  130  Ctrl-C; what had come until then was printed
  141  nobody reads stdout any more
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to those of the program."""
    parser = commands.add_parser(
        "run",
        usage="%(prog)s [OPTIONS] HOST… -- COMMAND [ARGUMENT…]",
        help="run a command on many hosts at once",
        description="Run a command on many hosts at once, through one login on their bastion.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("hosts", nargs="*", metavar="HOST", help=HOST)
    add_arguments(parser)
    add("--hosts", dest="files", metavar="FILE", action="append", default=[],
        help="read more hosts from a file, one a line, '#' begins a comment; '-' is stdin; may be"
        " repeated")  # fmt: skip
    add("--concurrency", type=int, default=BATCH_SIZE, metavar="N",
        help=f"at most so many hosts are busy at once; default {BATCH_SIZE}")  # fmt: skip
    add("--connect-timeout", type=float, default=CONNECT_TIMEOUT, metavar="SECONDS",
        help=f"for connecting to one host; default {CONNECT_TIMEOUT:g}, 0: no limit")  # fmt: skip
    add("--timeout", type=float, default=0.0, metavar="SECONDS",
        help="for one host altogether; default 0: no limit")  # fmt: skip
    add("--input", metavar="FILE", help="what each command reads; '-' is stdin")
    add("-t", "--pty", action="store_true",
        help="give each command a terminal, so that it ends when the connection does; stderr then"
        " comes with stdout")  # fmt: skip
    add("--json", action="store_true",
        help="print one line of JSON for each host when it is done")  # fmt: skip
    add("--max-output", type=int, metavar="BYTES",
        help="with --json, how much of one host's output is kept; default: all")  # fmt: skip
    add("--no-progress", action="store_true",
        help="do not show how far it is, as a terminal sees it if rich is installed")  # fmt: skip
    add("-v", "--verbose", action="count", default=0, help="say more on stderr; -vv: even more")


def split_command(arguments: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Split the arguments at the first ``--``; the second part is None if there is no ``--``."""
    options = list(arguments)
    if "--" not in options:
        return options, None
    at = options.index("--")
    return options[:at], options[at + 1 :]


def run(given: argparse.Namespace, command: Sequence[str] | None) -> int:
    """Run the command on the hosts; return the exit status."""
    line = check_command(" ".join(command or ()))
    if not line.strip():
        raise ValueError("needs a command after --, as in: hussh run web1 web2 -- uptime")
    places = _read_places(given)
    timeout = check_seconds("--timeout", given.timeout)
    connecting = check_seconds("--connect-timeout", given.connect_timeout)
    if given.max_output is not None and not given.json:
        raise ValueError("--max-output is for --json: without it all output is printed")
    data = None if given.input is None else _read_bytes(given.input)
    common = {**_list_defaults(), **get_common_options(given), "timeout": connecting}
    common |= ask_password(given, f"{len(places)} hosts" if len(places) > 1 else next(iter(places)))
    group = HostGroup(
        make_connections([_get_own_options(place) for place in places.values()], common),
        given.concurrency,
        None,
        add_group_defaults({}),
    )
    group.rename(list(places))
    lines = HostLines()
    work = group.execute(
        group.pair_all(line),
        timeout,
        given.max_output if given.json else 0,
        data,
        "eof",
        given.pty or None,
        None,
        None,
        None if given.json else lines.add,
    )
    batch = _Batch(lines, list(places), given.json)
    shows = not given.no_progress and can_show()
    with _log_to_stderr(given.verbose), contextlib.closing(group):
        try:
            with (
                Display(shows, "run", len(places)) as display,
                contextlib.closing(group.run_each(work)) as each,
            ):
                for index, result in each:
                    display.add(result)
                    batch.add(index, result)
            return batch.finish()
        except KeyboardInterrupt:
            return batch.report_interrupt()
        except BrokenOutput as broken:
            forget_stdout()
            if not str(broken):
                return UNREAD
            _say(str(broken))
            return NOT_RUN


class _Batch:
    """What is known of the hosts so far."""

    def __init__(self, lines: HostLines, names: Sequence[str], as_json: bool) -> None:
        self._lines = lines
        self._missing = dict(enumerate(names))
        self._count = len(names)
        self._as_json = as_json
        self._failed: list[str] = []
        self._not_run = 0

    def add(self, index: int, result: HostResult) -> None:
        """Print the end of a host.

        Raises:
            BrokenOutput: nothing can be printed any more.
        """
        if self._lines.broken is not None:  # a thread met it, which made that host fail
            raise self._lines.broken
        del self._missing[index]
        host = result.host
        if result.status != 0:
            self._failed.append(host)
            self._not_run += result.error is not None
        if self._as_json:
            self._lines.print_plain(format_json_line(result))
            return
        self._lines.end(host)
        if result.error is not None:
            self._lines.tell(host, f"failed: {result.error}")
        elif result.signal is not None:
            self._lines.tell(host, f"killed by SIG{result.signal}")
        elif result.status != 0:
            self._lines.tell(host, f"exit status {result.status}")

    def finish(self) -> int:
        """Say how many have failed; return the exit status."""
        if not self._failed:
            return SUCCEEDED
        _say(f"{self._format_counts()}; failed: {_name_some(self._failed)}")
        return NOT_RUN if self._not_run else FAILED

    def report_interrupt(self) -> int:
        """Print what is there, and say what is missing; return the exit status."""
        with contextlib.suppress(BrokenOutput):
            self._lines.end_all()
        missing = _name_some([*self._missing.values()])
        _say(f"interrupted; {self._format_counts()}; not done: {missing}")
        return INTERRUPTED

    def _format_counts(self) -> str:
        done = self._count - len(self._missing)
        failed = len(self._failed)
        return f"{done} of {self._count} hosts done, {done - failed} succeeded, {failed} failed"


def _say(text: str) -> None:
    with contextlib.suppress(OSError):
        print(f"hussh run: {text}", file=sys.stderr)


def _name_some(hosts: Sequence[str]) -> str:
    shown = [*hosts[:NAMED], *([f"{len(hosts) - NAMED} more"] if len(hosts) > NAMED else [])]
    return ", ".join(shown) or "none"


def _list_defaults() -> dict[str, Any]:
    """Return what `AsyncConnection` takes and `make_connections` has no default for."""
    return {"proxy_jump": None, "proxy_command": None, "keepalive_interval": KEEPALIVE}


def _get_own_options(place: HostArgument) -> dict[str, Any]:
    own = {"host": place.host, "username": place.username, "port": place.port}
    return {name: value for name, value in own.items() if value is not None}


def _read_places(given: argparse.Namespace) -> dict[str, HostArgument]:
    """Return the hosts by name, each once, in the order in which they were given."""
    if sum(name == "-" for name in [*given.files, given.input]) > 1:
        raise ValueError("only one of --hosts and --input can be stdin")
    texts = [*given.hosts]
    for file in given.files:
        for line in _read_bytes(file).decode("utf-8-sig", "replace").splitlines():
            text = line.partition("#")[0].strip()
            if text:
                texts.append(text)
    if not texts:
        raise ValueError("needs a host, as in: hussh run web1 web2 -- uptime")
    return {text: HostArgument.parse(text) for text in texts}


def _read_bytes(name: str) -> bytes:
    try:
        if name == "-":
            return sys.stdin.buffer.read()
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise ValueError(f"cannot read {name}: {error.strerror}") from None


class _ToStderr(logging.Handler):
    """Writes to the stderr of the moment, which a progress display may have taken."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


@contextlib.contextmanager
def _log_to_stderr(verbose: int) -> Iterator[None]:
    """Print what hussh logs: warnings, and more if the user wants it."""
    logger = logging.getLogger("hussh")
    handler, level = _ToStderr(), logger.level
    logger.addHandler(handler)
    logger.setLevel([logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)])
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
