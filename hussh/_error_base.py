"""The root of all errors of hussh: where and when something failed, and how an error shows that.

`errors` derives every exception from `HusshError`, and the other modules import this through it.
`printable` makes the text of a peer fit for an error, and all code that shows such a text uses it.
Of hussh, this module imports only the results that errors carry.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar

from . import _older_package as _older_package  # before all else of hussh
from ._results.ssh_result import SSHResult
from ._results.transfer_result import TransferResult

__all__ = ["HusshError", "Phase", "printable"]


class Phase(str, Enum):
    """What is being done with a hop: to connect it, in this order, or later.

    `HusshError.phase`, links, connecting, reports and the log all mean these.
    """

    CONFIG = "config"  # asking ``ssh -G``, before anything is opened
    QUEUE = "queue"  # for a permit at a server that gets many handshakes
    DNS = "dns"
    CONNECT = "connect"
    PROXY = "proxy"  # the start of a proxy command
    BANNER = "banner"
    KEX = "kex"
    HOSTKEY = "hostkey"
    AUTH = "auth"
    CHANNEL = "channel"  # the hop is up; also the channel of a bastion to the next hop
    EXEC = "exec"
    SHELL = "shell"
    SFTP = "sftp"
    SCP = "scp"

    __str__ = str.__str__


def printable(text: str, most: int = 200) -> str:
    """Return a peer's text as one line that moves no cursor and does not turn the writing.

    Args:
        text: as it was received.
        most: characters that are kept.
    """
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text.strip()[:most]


def _rebuild(
    cls: type[HusshError], text: str, state: dict[str, Any], cause: HusshError | None
) -> HusshError:
    # The first __new__ in the order of bases need not be the one that owns the memory layout.
    base = OSError if issubclass(cls, OSError) else Exception
    error = base.__new__(cls, text)
    Exception.__init__(error, text)
    for name, value in state.items():
        setattr(error, name, value)
    if cause is not None:
        error.__cause__ = cause
    return error


class HusshError(Exception):
    """The base class of everything that hussh raises, except for wrong arguments.

    Attributes:
        hop: the hop that failed, as ``user@host:port``. It is None if no hop failed.
        hop_index: the number of that hop in the order of travel, counted from 0.
        phase: what hussh was doing, as the word of a `Phase`: "dns", "auth", "exec" ….
        result: what the operation had brought by then: the output of a command, or the lists of a
            transfer of a directory. It is None if the operation has no result of that kind.
    """

    hop: str | None = None
    hop_index: int | None = None
    phase: str | None = None
    result: SSHResult | TransferResult | None = None
    default_phase: ClassVar[Phase | None] = None
    #: Whether errors of the class mean that the time was over; some are a TimeoutError only for
    #: programs that were written for hussh 0.3.3.
    is_time_out: ClassVar[bool] = False

    def __init__(
        self,
        text: str,
        *,
        hop: str | None = None,
        hop_index: int | None = None,
        phase: str | None = None,
    ) -> None:
        super().__init__(text)
        self.text: str = text
        self.hop = hop
        self.hop_index = hop_index
        phase = phase or self.default_phase
        self.phase = None if phase is None else str(phase)

    def at(self, hop: str, hop_index: int, phase: str | None = None) -> HusshError:
        """Fill in the hop and the phase, each unless it is known; return the error itself."""
        if self.hop is None:
            self.hop, self.hop_index = hop, hop_index
        if self.phase is None and phase is not None:
            self.phase = str(phase)
        return self

    def add(self, text: str) -> None:
        """Append a part to the text of the error, unless the part is empty."""
        if text:
            self.text = f"{self.text}; {text}"
            self.args: tuple[Any, ...] = (self.text,)

    def __str__(self) -> str:
        cause = self.__cause__
        if not isinstance(cause, HusshError) or cause.hop in (None, self.hop):
            return self.own_text()
        # This hop failed because another one did, and the user has to look at that one.
        known = cause.hop is not None and cause.hop in self.text
        return self.own_text() if known else f"{self.own_text()}, because: {cause}"

    def own_text(self) -> str:
        """Return the text with hop and phase, but without the cause."""
        where = f" [{self.hop}, {self.phase}]" if self.hop and self.phase else ""
        return f"{self.text}{where}"

    def __reduce__(self) -> tuple[Any, ...]:
        # A HusshError as cause names the hop that is to blame. Other causes may not pickle.
        cause = self.__cause__ if isinstance(self.__cause__, HusshError) else None
        return _rebuild, (type(self), self.text, self._copy_state(), cause)

    def _copy_state(self) -> dict[str, Any]:
        return self.__dict__.copy()
