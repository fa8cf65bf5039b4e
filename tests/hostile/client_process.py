"""Runs `client_main.py`, hands it tasks, and notices when it dies or hangs.

For the tests of this folder.  Knows nothing of attacks.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tests.support import leaks
from tests.support.hostile import HostileServer

TOP = Path(__file__).resolve().parents[2]
#: Seconds beyond the client's own time limit after which it counts as hanging.
SLACK = 10.0


class ClientDied(AssertionError):
    """The client's process crashed, or did not answer and was killed."""


@dataclass(frozen=True)
class Outcome:
    """How one task ended.

    Attributes:
        kinds: class names of the error, most special first; empty if there was no error.
        where: "connect" or "execute", which was under way at the end.
        results: stdout, stderr and status of each command that ended.
        peak: KiB by which the resident memory grew at most.
        kept: bytes of malloc that were not given back.
    """

    kinds: tuple[str, ...]
    text: str
    where: str
    results: list[tuple[str, str, int]]
    peak: int
    kept: int
    seconds: float

    @property
    def typed(self) -> bool:
        """Whether it is an error of hussh's own tree."""
        return "HusshError" in self.kinds

    @property
    def is_timeout(self) -> bool:
        """Whether time was over; `ServerBusy` and its like are TimeoutErrors for old code only."""
        return bool({"ConnectTimeout", "CommandTimeout", "SFTPTimeout"} & set(self.kinds))

    @property
    def refused(self) -> bool:
        """Whether the client itself gave up, not merely its clock."""
        return self.typed and not self.is_timeout


class ClientProcess:
    """A client process; started when needed, and again after it died."""

    def __init__(
        self, package: Path = TOP, *, wrapper: Sequence[str] = (), slowness: float = 1.0
    ) -> None:
        """`package` holds the `hussh` to use; `wrapper` is a command that runs the client."""
        self._package = package
        self._wrapper = wrapper
        self._slowness = slowness
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None

    def __enter__(self) -> ClientProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._end(self._process)

    def connect_to(
        self,
        server: HostileServer,
        *commands: str,
        timeout: int = 20_000,
        times: int = 1,
        max_output: int | None = None,
        bastion: HostileServer | None = None,
        end: str = "close",
        **connect: Any,
    ) -> Outcome:
        """Connect to the server and run the commands, `timeout` ms for each step.

        With `bastion` the connection goes through a connection to that server.  `end` says how
        the connections end: "close", or dropped "in order" or "in reverse".
        Raises ClientDied.
        """
        task = {
            "connect": {"port": server.port, "timeout": timeout, **connect},
            "bastion": bastion and bastion.port,
            "commands": commands,
            "limit": max_output,
            "end": end,
            "times": times,
        }
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(task).encode() + b"\n")
            process.stdin.flush()
            seconds = SLACK * self._slowness + times * (2 + len(commands)) * timeout / 1000
            ready, _, _ = select.select([process.stdout], [], [], seconds)
            line = process.stdout.readline() if ready else b""
        except BrokenPipeError:
            line = b""
        if not line:
            raise ClientDied(self._end(process))
        done = json.loads(line)
        return Outcome(
            tuple(done["error"] or ()),
            done["text"],
            done["where"],
            [(out, err, status) for out, err, status in done["results"]],
            done["peak"],
            done["kept"],
            done["seconds"],
        )

    def _start(self) -> subprocess.Popen[bytes]:
        # Its parent may be killed by a watchdog of the tests; it ends with its stdin.
        with leaks.spared():
            self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
            self._process = subprocess.Popen(
                [*self._wrapper, sys.executable, str(Path(__file__).with_name("client_main.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env={**os.environ, "PYTHONPATH": str(self._package)},
                cwd="/",
            )
        return self._process

    def _end(self, process: subprocess.Popen[bytes]) -> str:
        """End the process; return how it ended and the last of its stderr."""
        assert process.stdin is not None
        assert process.stdout is not None
        assert self._errors is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            how = f"ended with status {process.wait(5 * self._slowness)}"
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            how = "hung and was killed"
        process.stdout.close()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")[-3000:]
        self._errors.close()
        self._process = None
        return f"the client {how}\n{text}"
