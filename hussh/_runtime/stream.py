"""What a driver needs of the stream below its root link, whatever that is.

`_connect` has the streams: sockets, child processes, and streams that users give. Drivers call
these methods and nothing else of them. Only `explain` and `close` may take time.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import HusshError

__all__ = ["Stream"]


class Stream(Protocol):
    """The stream of a root link: a socket, or the pipes of a child process."""

    #: Whether `explain` and `close` may take a second, as those of a child process do.
    slow: bool

    def adopt(self) -> None:
        """Leave the closing to a tree; until then the stream closes itself when it is collected."""

    def fds(self) -> tuple[int, int]:
        """Return the fd to read from and the fd to write to, both non-blocking."""

    def side_fds(self) -> tuple[int, ...]:
        """Return more fds to poll for input while waiting; `read_side` serves them."""

    def read_side(self) -> None:
        """Take what the side fds have, without waiting."""

    def program_text(self) -> str:
        """Return what the peer's program wrote besides the stream; it may be empty."""

    def explain(self, error: HusshError, *, before_banner: bool, heard: bool) -> HusshError:
        """Return what the stream knows about why it ended, after its link died with this error.

        `heard` says whether any bytes had come.
        """

    def abandon(self) -> None:
        """Close the stream in a forked child: nothing may reach the parent's peer."""

    def shutdown(self) -> None:
        """End both directions, so that threads which poll wake up."""

    def close(self) -> None:
        """Close the fds, without waiting for the peer; a child process gets a second to end."""
