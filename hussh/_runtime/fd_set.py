"""Makes one fd of several that an event loop awaits.

`async_driver` and the drivers for asyncio and trio use it. It reads no fd and closes none but its
own.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Iterable

from ..errors import ConnectError

__all__ = ["FdSet"]


class FdSet:
    """A selector whose own fd stands for the fds in it.

    Waiting for each of them in a task would cost three times as much. And a loop never learns of
    fds that others may close, such as the stderr of a proxy command: it would mistake the next fd
    with that number for the old one.
    """

    def __init__(self) -> None:
        """Make it.

        Raises:
            ConnectError: there is no descriptor for it.
        """
        try:
            self._selector = selectors.DefaultSelector()
        except OSError as error:
            raise ConnectError(f"cannot watch the connection: {error.strerror}") from error
        self._wanted: dict[int, int] = {}

    def get_fd(self, events: int, read_fd: int, write_fd: int, side: Iterable[int]) -> int:
        """Return the fd that is readable while one of these is ready.

        Args:
            events: POLLIN for the fd to read, POLLOUT for the one to write.
            side: more fds, always polled for input.
        """
        wanted = dict.fromkeys(side, selectors.EVENT_READ)
        if events & select.POLLIN:
            wanted[read_fd] = selectors.EVENT_READ
        if events & select.POLLOUT:
            wanted[write_fd] = wanted.get(write_fd, 0) | selectors.EVENT_WRITE
        for fd in self._wanted.keys() - wanted.keys():
            self._selector.unregister(fd)  # maybe closed already, which is no error
        for fd, mask in wanted.items():
            if fd not in self._wanted:
                self._selector.register(fd, mask)
            elif self._wanted[fd] != mask:
                self._selector.modify(fd, mask)
        self._wanted = wanted
        fd = self._selector.fileno()
        return int(fd)

    def close(self) -> None:
        self._selector.close()
