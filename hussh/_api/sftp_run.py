"""Runs the operations of the file classes: within a time limit, on the session they began with.

`SFTP`, `AsyncSFTP`, and the objects that these return have one runner each. It keeps the connection
alive, and knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from .._connect.connect import Session
from .._connect.hop import Hop
from .._native.link import Link
from .._policy.connection_options import Milliseconds
from .._policy.options import Options
from .._policy.sftp_server import ServerLimits
from .._protocol.core import Op
from .._protocol.sftp import ops
from .._protocol.sftp.session import LinkOpener, SftpState
from ..errors import Phase
from .arguments import check_number

__all__ = ["BaseRunner", "HasFiles", "Runner", "make_sftp_state"]

T = TypeVar("T")
H = TypeVar("H", bound=Hop[Any])


def make_sftp_state(link: Link, target: Options) -> SftpState:
    """Return what a connection keeps of SFTP on its last link; opens nothing yet."""
    server = ServerLimits(target.settings["sftp_requests"], target.settings["sftp_open_files"])
    return SftpState(LinkOpener(link, server), server)


class BaseRunner(Generic[H]):
    """What both runners have in common.

    Attributes:
        session: where operations run; a connection that is opened again has another.
        sftp: the state of SFTP there.
    """

    def __init__(self, session: H, sftp: SftpState) -> None:
        self.session = session
        self.sftp = sftp

    def limit(self, timeout: Milliseconds | None) -> tuple[float, str]:
        """Return seconds (0 means no limit), and the text of that limit for errors."""
        raise NotImplementedError

    def call_later(self, call: Callable[[Any], None], owner: object) -> None:
        """Make a call with the tree's lock held, now or by its holder; for finalizers."""
        self.session.link.deferred_frees.add(call, owner)

    def _limit_op(
        self, op: Op[T], doing: str, timeout: Milliseconds | None
    ) -> tuple[Op[T], float | None]:
        seconds, limit = self.limit(timeout)
        return ops.limit_time(op, doing, limit), monotonic() + seconds if seconds else None


class HasFiles(Protocol):
    """The part of a `Connection` that the file classes use; its module imports theirs."""

    @property
    def _timeout(self) -> int: ...  # milliseconds

    @property
    def _sftp(self) -> SftpState: ...

    def _get_session(self) -> Session: ...


class Runner(BaseRunner[Session]):
    """Runs operations for threads; time limits are in milliseconds."""

    def __init__(self, connection: HasFiles) -> None:
        super().__init__(connection._get_session(), connection._sftp)
        self.connection = connection

    def __call__(self, op: Op[T], doing: str, timeout: Milliseconds | None = None) -> T:
        within, deadline = self._limit_op(op, doing, timeout)
        return self.session.run(within, deadline, Phase.SFTP)

    def limit(self, timeout: Milliseconds | None) -> tuple[float, str]:
        given = self.connection._timeout if timeout is None else timeout
        milliseconds = check_number(given, "milliseconds")
        return milliseconds / 1000, f" after {milliseconds} ms"
