"""A TCP relay on loopback that records, delays, cuts, damages, freezes and splits streams.

For ``tests/conftest.py`` and tests. The forwarding happens in a process of its own
(``relay_process.py``), so it neither shares the interpreter lock with the code under test nor
leaves a thread behind. Everything is counted in bytes of one direction; nothing depends on how
the kernel cut the stream.
"""

from __future__ import annotations

import base64
import json
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from .processes import clean_environment

Direction = Literal["to_server", "to_client"]
_TIMEOUT = 30.0


@dataclass(frozen=True)
class Faults:
    """What happens to one direction of every connection.

    ``cut_after`` bytes both ends are closed (``cut_with``: "eof" or "reset"); ``freeze_after``
    bytes forwarding stops and reading, too, as if the peer hung; ``flip`` inverts a bit, as
    (byte offset, bit 0 to 7); ``duplicate`` sends bytes twice, as (byte offset, how many at most);
    ``chunks`` are the sizes of successive writes, used in a cycle.
    """

    cut_after: int | None = None
    cut_with: Literal["eof", "reset"] = "eof"
    freeze_after: int | None = None
    flip: tuple[int, int] | None = None
    duplicate: tuple[int, int] | None = None
    chunks: Sequence[int] | None = None


class Relay:
    """Relays ``host``:``port`` of its own to a target; started by entering it."""

    def __init__(
        self,
        target_host: str,
        target_port: int,
        *,
        to_server: Faults | None = None,
        to_client: Faults | None = None,
        rtt: float = 0.0,
        record: bool = False,
        address: str = "127.0.0.1",
    ) -> None:
        """Delay every byte by half of ``rtt`` seconds; ``record`` keeps both streams."""
        self._target = (target_host, target_port)
        self._rtt = rtt
        self._record = record
        self._faults = {"to_server": to_server or Faults(), "to_client": to_client or Faults()}
        self.host = address
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def __enter__(self) -> Relay:
        """Start; ``port`` is known and accepts."""
        host, port = self._target
        spec = {"host": host, "port": port, "address": self.host, "plans": self._plans()}
        script = Path(__file__).with_name("relay_process.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,
            bufsize=0,
        )
        try:
            self.port = self._answer(_TIMEOUT)["port"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close every connection and end the process; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            process.kill()

    def set(
        self,
        *,
        to_server: Faults | None = None,
        to_client: Faults | None = None,
        rtt: float | None = None,
        existing: bool = False,
    ) -> None:
        """Change what happens to new connections and, with ``existing``, to those that are open.

        A direction that is not given is faultless from then on.
        """
        self._faults = {"to_server": to_server or Faults(), "to_client": to_client or Faults()}
        if rtt is not None:
            self._rtt = rtt
        self._ask(do="plan", plans=self._plans(), existing=existing)

    def freeze(self, *directions: Direction) -> None:
        """Forward nothing more in these directions (default: both), of open connections too."""
        names = directions or ("to_server", "to_client")
        frozen = {name: Faults(freeze_after=0) for name in names}
        self.set(
            to_server=frozen.get("to_server"), to_client=frozen.get("to_client"), existing=True
        )

    def thaw(self) -> None:
        """Forward everything again, what was held back first."""
        self.set(existing=True)

    def refuse(self, refuse: bool = True) -> None:
        """Close new connections at once, without a byte."""
        self._ask(do="refuse", refuse=refuse)

    def drop(self, *, reset: bool = False) -> None:
        """Close every open connection, with RST instead of FIN if ``reset``."""
        self._ask(do="drop", reset=reset)

    def connections(self) -> list[dict[str, int]]:
        """Return bytes forwarded per connection: ``to_server``, ``to_client`` and ``open``."""
        connections: list[dict[str, int]] = self._ask(do="status")["connections"]
        return connections

    def recorded(self, direction: Direction, connection: int = 0) -> bytes:
        """Return what was forwarded in this direction (needs ``record=True``)."""
        if not self._record:
            raise ValueError("this relay does not record")
        answer = self._ask(do="record", lane=direction, connection=connection)
        return base64.b64decode(answer["data"])

    def wait_for_bytes(
        self, direction: Direction, count: int, connection: int = 0, timeout: float = _TIMEOUT
    ) -> None:
        """Wait until ``count`` bytes came in from the sending end, forwarded or not."""
        self._ask(timeout, do="wait", lane=direction, count=count, connection=connection)

    def wait_closed(self, connection: int = 0, timeout: float = _TIMEOUT) -> None:
        """Wait until the connection is closed at both ends."""
        self._ask(timeout, do="wait", lane="closed", count=0, connection=connection)

    # -- inside --------------------------------------------------------------------------------

    def _plans(self) -> dict[str, dict[str, Any]]:
        common = {"seconds": self._rtt / 2, "record": self._record}
        return {name: {**asdict(faults), **common} for name, faults in self._faults.items()}

    def _ask(self, timeout: float = _TIMEOUT, **request: Any) -> dict[str, Any]:
        if self._process is None or self._process.stdin is None:
            raise RuntimeError("the relay is not running")
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        return self._answer(timeout)

    def _answer(self, timeout: float) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        pipe = self._process.stdout
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the relay did not answer within {timeout} s")
            data = pipe.read(1 << 20)
            if not data:
                raise OSError("the relay ended")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer
