"""`SSHResult`: the output and the end of a command; pure data.

`_protocol/execute.py` makes one, `_api` returns it, and errors carry it.
"""

from __future__ import annotations

from typing import Any

from .arrival import join_in_order

__all__ = ["SSHResult"]


class SSHResult:
    """Output and exit status of one command.

    Attributes:
        stdout_bytes, stderr_bytes: exactly the bytes that the command wrote.
        stdout, stderr: the same as str (UTF-8; other bytes become U+FFFD).
        output_bytes: both streams in the order in which they arrived, which need not be exactly
            the order in which the command wrote them.
        status: the exit status. It is -1 if a signal ended the command or the server never sent
            a status.
        signal: the signal's name without "SIG" (RFC 4254 section 6.10), or None.
        truncated: whether output beyond your limit was dropped.

    Results compare by value, whatever the order of arrival was, and can be pickled.
    """

    __slots__ = ("stdout_bytes", "stderr_bytes", "status", "signal", "truncated", "_order",
                 "_text")  # fmt: skip

    def __init__(
        self,
        stdout: bytes = b"",
        stderr: bytes = b"",
        status: int = -1,
        signal: str | None = None,
        truncated: bool = False,
        order: bytes = b"",
    ) -> None:
        self.stdout_bytes: bytes = stdout
        self.stderr_bytes: bytes = stderr
        self.status: int = status
        self.signal: str | None = signal
        self.truncated: bool = truncated
        self._order = order  # see `arrival`
        self._text: dict[str, str] = {}

    def _decode(self, name: str, data: bytes) -> str:
        # Decoded when first asked for: a caller of large binary output never pays.
        if name not in self._text:
            self._text[name] = data.decode("utf-8", "replace")
        return self._text[name]

    @property
    def stdout(self) -> str:
        return self._decode("stdout", self.stdout_bytes)

    @property
    def stderr(self) -> str:
        return self._decode("stderr", self.stderr_bytes)

    @property
    def output_bytes(self) -> bytes:
        return join_in_order(self.stdout_bytes, self.stderr_bytes, self._order)

    def _make_key(self) -> tuple[Any, ...]:
        """Return what `==` compares."""
        return self.stdout_bytes, self.stderr_bytes, self.status, self.signal, self.truncated

    def __eq__(self, other: object) -> bool:
        return (
            self._make_key() == other._make_key()
            if isinstance(other, SSHResult)
            else NotImplemented
        )

    def __hash__(self) -> int:
        return hash(self._make_key())

    def __reduce__(self) -> tuple[type[SSHResult], tuple[Any, ...]]:
        return SSHResult, (*self._make_key(), self._order)

    def __repr__(self) -> str:
        return f"SSHResult(stdout={self.stdout}, stderr={self.stderr}, status={self.status})"

    def __str__(self) -> str:
        return f"stdout:\n{self.stdout}\nstderr:\n{self.stderr}\nstatus: {self.status}"
