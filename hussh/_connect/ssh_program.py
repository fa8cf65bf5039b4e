"""Asks OpenSSH's ``ssh -G`` what the user's configuration says; never more than a batch needs.

`configure.py` and `async_configure.py` use it for ``config=``. An answer serves all connections of
a batch that ask the same (`set_batch_start`), and everything inside of one attempt to connect. The
program gets no terminal and no input, and is ended with all that it started (``Match exec``) when
time is over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import OrderedDict
from time import monotonic

from .._policy.file_cache import get_batch_start
from .._policy.ssh_config.answer import Answer, Lookup, Question, parse_answer
from .._protocol.core import DeadlineExceeded
from .._runtime.single_flight import one_at_a_time
from ..errors import ConfigError, Phase, printable

__all__ = ["SshProgram", "look_up"]

#: Seconds that ssh gets, where the connection has no time limit; it may run programs itself.
MOST_SECONDS = 30.0
#: Seconds after which it is asked whether a program has ended whose output has not.
LOOK_AGAIN = 0.2
#: Answers that are kept.
ANSWERS_MAX = 4096
#: What ssh says besides about a run without a terminal.
_NOISE = "Pseudo-terminal will not be allocated"


class _Asked:
    """What ssh was asked, and its last answer; an object that threads can take turns for."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.when = float("-inf")


class SshProgram:
    """``ssh -G`` with one configuration.

    Args:
        file: the configuration; None means the user's and the system's; "none": no file at all.
        lasting: an answer holds as long as the process lives.
    """

    def __init__(self, file: str | None, *, lasting: bool = False) -> None:
        self._file = None if file is None else os.path.expanduser(file)
        self._lasting = lasting
        self._asked: OrderedDict[Question, _Asked] = OrderedDict()

    def get_cached(self, question: Question) -> Answer | None:
        """Return an answer that was given since this batch began."""
        asked = self._asked.get(question)
        if asked is None or asked.answer is None:
            return None
        return asked.answer if self._lasting or asked.when >= get_batch_start() else None

    def ask(self, question: Question, seconds_left: float | None) -> Answer:
        """Return the answer; blocks.

        Raises:
            ConfigError: there is no ssh, or it refuses the configuration.
            DeadlineExceeded: time was over.
        """
        asked = self._asked.setdefault(question, _Asked())
        while len(self._asked) > ANSWERS_MAX:
            with contextlib.suppress(KeyError):
                self._asked.popitem(last=False)

        def call() -> Answer:
            found = self.get_cached(question)
            if found is None:
                when = monotonic()
                found = parse_answer(question, self._run(question, seconds_left))
                asked.answer, asked.when = found, when
            return found

        return one_at_a_time(asked, call, seconds_left)

    def _run(self, question: Question, seconds_left: float | None) -> str:
        from shutil import which  # slow to import, and few connections need it

        program = which("ssh")
        if program is None:
            raise ConfigError(
                "config= asks OpenSSH's client what the configuration means (ssh -G), and there is "
                "no program called ssh in PATH: install openssh-client, or pass the options "
                "themselves"
            )
        where = [] if self._file is None else ["-F", self._file]
        what = f"ssh -G {question.host}"
        code, out, err = _run(
            what, [program, "-G", *where, *question.list_arguments()], seconds_left
        )
        if code:
            lines = err.decode("utf-8", "replace").splitlines()
            program_text = "; ".join([line for line in lines if not line.startswith(_NOISE)])
            raise ConfigError(f"ssh refuses the configuration for {question.host}: "
                              f"{printable(program_text, 1000)}")  # fmt: skip
        return out.decode("utf-8", "surrogateescape")


def look_up(lookup: Lookup, seconds_left: float | None) -> bytes:
    """Return a file's content, or what a program prints; blocks.

    Raises:
        ConfigError: it cannot be read, or the program fails.
        DeadlineExceeded: time was over.
    """
    try:
        if lookup.path:
            with open(lookup.path, "rb") as file:
                return file.read()
        code, out, err = _run(lookup.what, list(lookup.argv), seconds_left)
    except OSError as error:
        name = lookup.path or lookup.argv[0]
        raise ConfigError(f"{lookup.what}: {name}: {error.strerror}") from error
    if code:
        program_text = printable(err.decode("utf-8", "replace"), 1000)
        raise ConfigError(
            f"{lookup.what} failed with exit status {code}: {program_text or 'no reason'}"
        )
    return out


def _run(what: str, argv: list[str], seconds_left: float | None) -> tuple[int, bytes, bytes]:
    """Run a program within its time; returns exit status, output and errors."""
    limit = MOST_SECONDS if seconds_left is None else min(seconds_left, MOST_SECONDS)
    child = subprocess.Popen(  # noqa: S603
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = _read_outputs(child, monotonic() + limit)
    except subprocess.TimeoutExpired:
        if seconds_left is not None and seconds_left <= MOST_SECONDS:
            raise DeadlineExceeded(Phase.CONFIG) from None
        raise ConfigError(
            f"{what} did not end within {MOST_SECONDS:g} s; does a program that the ssh "
            'configuration runs ("Match exec", KnownHostsCommand) wait for something?'
        ) from None
    finally:
        if child.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
    return child.returncode, out, err


def _read_outputs(child: subprocess.Popen[bytes], deadline: float) -> tuple[bytes, bytes]:
    """Return output and errors of a program once it has ended.

    What it leaves behind may hold its pipes for longer, such as a tunnel that ``Match exec`` starts
    in the background. That is not waited for.

    Raises:
        subprocess.TimeoutExpired: the program had not ended at the deadline of `monotonic()`.
    """
    while True:
        has_ended = child.poll() is not None
        left = deadline - monotonic()
        try:
            return child.communicate(timeout=max(min(left, LOOK_AGAIN), 0.001))
        except subprocess.TimeoutExpired as unfinished:
            if has_ended:
                return unfinished.output or b"", unfinished.stderr or b""
            if left <= LOOK_AGAIN:
                raise
