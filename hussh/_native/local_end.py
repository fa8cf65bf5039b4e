"""`LocalEnd`: a local socket that the pump serves, alone or joined to a channel.

`_protocol/tunnel.py` and `_connect/forwarding.py` use it. The rules of `link` hold: the tree's lock
is held for every call, and nothing here waits. The descriptor stays the caller's, who closes it
after `free`.
"""

from __future__ import annotations

import os
from typing import Any

from ..errors import ChannelError
from ._libssh2 import ffi, lib
from .channel import Channel
from .link import Link
from .owned import free_deferred, free_kept, make_kept

__all__ = ["LocalEnd", "accept", "close_endpoints", "get_endpoints_fd", "finish", "keep_reply",
           "take_reply", "get_next_offer", "take_offers"]  # fmt: skip


class LocalEnd:
    """A local socket that the pump of a tree watches.

    Attributes:
        link: the root of its tree.
        token: names it in events: something new can be read or accepted there, or, once it is
            joined, nothing moves any more.
    """

    __slots__ = ("_ptr", "_info", "link", "token", "__weakref__")

    def __init__(self, root: Link, fd: int) -> None:
        """Watch a non-blocking descriptor.

        Raises:
            OSError: there are too many descriptors.
            HusshError: the link is dead.
        """
        self.link: Link = root
        self._ptr: Any = None
        self._info = ffi.new("hussh_endpoint_info *")
        root.check()
        kept = root.deferred_frees.kept
        ptr = make_kept(kept, lib.hussh_endpoint_free, lib.hussh_endpoint_new, root.pointer, fd)
        if not ptr:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        self._ptr = ptr
        self.token: int = int(lib.hussh_endpoint_token(ptr))

    def __del__(self) -> None:
        ptr = getattr(self, "_ptr", None)
        if ptr:
            self.link.deferred_frees.add(free_deferred, (self.link.deferred_frees.kept, ptr))

    def free(self) -> None:
        """Forget the descriptor, and close the channel; a second call does nothing."""
        ptr = self._ptr
        # A forked child shares what epoll watches with its parent.
        if ptr and not self.link.deferred_frees.abandoned:
            free_kept(self.link.deferred_frees.kept, ptr)
        self._ptr = None

    def join(self, channel: Channel) -> None:
        """Let bytes move between the descriptor and an open channel from now on."""
        if lib.hussh_endpoint_join(self._ptr, channel.pointer):
            channel.link.check()
            raise ChannelError("the channel cannot carry a tunnel")

    def get_info(self) -> Any:
        """Return the C struct `hussh_endpoint_info`, filled in anew; it is valid until the next."""
        lib.hussh_endpoint_get_info(self._ptr, self._info)
        return self._info


def get_endpoints_fd(root: Link) -> int:
    """Return the descriptor to poll for input beside the root's source, or -1."""
    return int(lib.hussh_endpoints_fd(root.pointer))


def close_endpoints(root: Link) -> None:
    """End all endpoints of a tree, and close the descriptor of `get_endpoints_fd`."""
    if not root.freed:
        lib.hussh_endpoints_close(root.pointer)


def finish(channel: Channel) -> None:
    """Give a channel up as `Channel.free` does, but what was written still leaves first."""
    channel.forget(lib.hussh_channel_finish)


# -- channels that the peer opens


def take_offers(link: Link, on: bool) -> None:
    """Set whether channels that the peer opens wait for `get_next_offer`; else they are refused."""
    lib.hussh_link_take_offers(link.pointer, on)


def get_next_offer(link: Link) -> bytes | None:
    """Return the oldest message SSH_MSG_CHANNEL_OPEN that nobody has answered, or None."""
    size = lib.hussh_link_offer(link.pointer, ffi.NULL, 0)
    if size < 0:
        return None
    buffer = bytearray(size)
    lib.hussh_link_offer(link.pointer, ffi.from_buffer(buffer), size)
    return bytes(buffer)


def accept(link: Link, number: int, peer_window: int, peer_packet: int, window: int) -> Channel:
    """Confirm a channel that the peer opens under this number, with these limits of its."""
    return Channel(link, lib.hussh_channel_accept, link.pointer, number, peer_window, peer_packet,
                   window)  # fmt: skip


def keep_reply(link: Link) -> bool:
    """Keep the answer to the next global request; False: another one's is still awaited."""
    return not lib.hussh_link_keep_reply(link.pointer)


def take_reply(link: Link) -> tuple[bool, int] | None:
    """Take that answer, yes or no, and the number with it; None if it has not come."""
    port = ffi.new("uint32_t *")
    answer = lib.hussh_link_kept_reply(link.pointer, port)
    link.check()
    return None if answer == lib.HUSSH_E_AGAIN else (answer == 1, int(port[0]))
