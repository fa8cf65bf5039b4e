"""`Link`, the owner of one SSH session in C; `channel` has the owner of its channels.

The drivers and the protocol use both; besides their like in this folder and `build_info`,
nobody touches the compiled module.
Nothing here waits or locks: every method but the constructors' bookkeeping must
be called with the lock of the link's tree held (see `DeferredFrees` for finalizers).

An inner link holds the channel that carries it, a channel holds its link, so
reference counting frees inside out; C tolerates any other order.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol

from ..errors import ConnectionClosed, HusshError, Phase
from ._libssh2 import ffi, lib
from .constants import PHASES, WORK, Method
from .deferred_frees import DeferredFrees
from .kex_work import Computations
from .link_state import LinkState
from .owned import free_deferred, free_kept, make_kept

__all__ = ["Carrier", "Link"]

lib.libssh2_init(0)  # once, before threads: its counters are not atomic

# What is called most, bound once: an attribute of `lib` costs a search for each call.
_pump, _flush, _events = lib.hussh_pump, lib.hussh_flush, lib.hussh_events
_get_info = lib.hussh_link_get_info

EVENTS_AT_ONCE = 256


class Carrier(Protocol):
    """What a link needs of the channel that carries it, a `Channel`."""

    @property
    def link(self) -> Link:
        """The link whose channel it is."""

    @property
    def pointer(self) -> Any:
        """The channel in C."""

    def get_info(self) -> Any:
        """Return C's `hussh_channel_info`."""

    def free(self) -> None:
        """Close the channel and forget it."""


class Link:
    """One SSH session over a pair of fds, a channel of another link, or memory."""

    __slots__ = ("_ptr", "_info", "_tokens", "_root", "outer", "token", "deferred_frees",
                 "computations", "_waiting", "attached", "callers", "freed",
                 "__weakref__")  # fmt: skip

    def __init__(self, outer: Carrier | None, make: Callable[..., Any], *arguments: Any) -> None:
        """Own what a function of C makes of these arguments, with a channel that carries it."""
        self.outer: Carrier | None = outer
        # Not itself for a root: in a cycle only the garbage collector would find it.
        self._root: Link | None = outer.link.root if outer is not None else None
        self.deferred_frees: DeferredFrees = (
            outer.link.deferred_frees if outer is not None else DeferredFrees()
        )
        self.computations: Computations = (
            outer.link.computations if outer is not None else Computations()
        )
        self._waiting: list[list[Any]] = self.computations.waiting
        #: Whether the C object has been given up.
        self.freed: bool = False
        self.token: int = 0
        self._ptr: Any = None
        ptr = make_kept(self.deferred_frees.kept, lib.hussh_link_free, make, *arguments)
        if not ptr:
            if outer is not None:
                outer.link.check()  # it may have died since the channel was opened
            raise MemoryError("no memory for an SSH session")
        self._ptr = ptr
        self.token = int(lib.hussh_link_token(ptr))
        self._info = ffi.new("hussh_link_info *")
        self._tokens = ffi.new("uint64_t[]", EVENTS_AT_ONCE) if outer is None else None
        #: What the layers above keep for as long as the link lives, by kind.
        self.attached: dict[type, Any] = {}
        #: Of a root: what gives more tokens for `take_events` where that of a link is among them.
        self.callers: dict[int, Callable[[], Iterable[int]]] = {}
        if outer is None:
            self.deferred_frees.flush = partial(_flush_if_alive, weakref.ref(self))

    @classmethod
    def over_fds(cls, read_fd: int, write_fd: int) -> Link:
        """Make a link over two non-blocking fds (equal for a socket), which stay the caller's."""
        return cls(None, lib.hussh_link_over_fds, read_fd, write_fd)

    @staticmethod
    def end_socket(fd: int) -> None:
        """End both directions of a socket, which stays open; what it is over sees its end."""
        lib.hussh_fd_shutdown(fd)

    @classmethod
    def over_channel(cls, outer: Carrier) -> Link:
        """Make a link over an open channel from which nobody reads."""
        return cls(outer, lib.hussh_link_over_channel, outer.pointer)

    @classmethod
    def over_memory(cls) -> Link:
        """Make a link without a stream: the caller feeds and drains it."""
        return cls(None, lib.hussh_link_over_memory)

    def __del__(self) -> None:
        ptr = getattr(self, "_ptr", None)  # an interrupt may come before there is one
        if ptr:
            self.freed = True
            self.computations.forget(self.token)
            self.deferred_frees.add(free_deferred, (self.deferred_frees.kept, ptr))

    def free(self) -> None:
        """Free the C object now; a second call does nothing."""
        self.freed = True  # first: an interrupt may come between any two
        ptr = self._ptr
        if ptr:
            self.computations.forget(self.token)
            free_kept(self.deferred_frees.kept, ptr)
            self._ptr = None

    @property
    def pointer(self) -> Any:
        if not self._ptr:
            raise ConnectionClosed("this connection is closed")
        return self._ptr

    @property
    def root(self) -> Link:
        return self._root or self

    # -- the pump (roots only)

    def pump(self, budget: int) -> int:
        """Move what can move; return WANT_WRITE, MORE, EVENTS and FULL as bits."""
        flags: int = _pump(self._ptr or self.pointer, budget)
        while flags & WORK or self._waiting:  # a key exchange waits, and goes on in the next pump
            self.computations.run(self._ptr)
            flags = _pump(self._ptr, 0)
        return flags

    def flush(self) -> int:
        return _flush(self._ptr or self.pointer)  # type: ignore[no-any-return]

    def take_events(self) -> list[int]:
        """Return the tokens of links and channels that something happened to since the last."""
        tokens: list[int] = []
        while True:
            count = _events(self._ptr or self.pointer, self._tokens, EVENTS_AT_ONCE)
            tokens += ffi.unpack(self._tokens, count)
            if count < EVENTS_AT_ONCE:
                break
        if self.callers:
            called = [self.callers[token]() for token in tokens if token in self.callers]
            tokens += itertools.chain.from_iterable(called)
        return tokens

    def feed(self, data: bytes | memoryview) -> None:
        """Give a memory link bytes of the peer; no bytes at all mean the end of the stream."""
        lib.hussh_feed(self.pointer, ffi.from_buffer(data), len(data))

    def drain(self, size: int = 1 << 20) -> bytes:
        """Take bytes for the peer from a memory link."""
        buffer = bytearray(size)
        count = lib.hussh_drain(self.pointer, ffi.from_buffer(buffer), size)
        return bytes(memoryview(buffer)[:count])

    # -- before the first pump

    def prefer(self, offered: Iterable[tuple[Method, bytes]]) -> None:
        """Offer these algorithms, comma-separated, best first.

        libssh2 offers all that it has of the kinds for which this is not called.

        Raises:
            ValueError: libssh2 knows none of the names.
        """
        for kind, names in offered:
            if lib.hussh_link_prefer(self._ptr or self.pointer, kind, names):
                raise ValueError(f"no usable algorithm in {names.decode('ascii')!r}")

    def compress(self) -> None:
        lib.hussh_link_compress(self.pointer)

    def list_supported(self, kind: Method) -> tuple[str, ...]:
        names = ffi.new("char[]", 4096)
        lib.hussh_link_supported(self.pointer, kind, names, 4096)
        return tuple(ffi.string(names).decode("ascii").split(","))

    # -- looking

    def get_info(self) -> LinkState:
        _get_info(self.pointer, self._info)
        return LinkState(self._info)

    @property
    def phase(self) -> Phase:
        _get_info(self._ptr or self.pointer, self._info)
        return PHASES[self._info.phase]

    @property
    def dead(self) -> bool:
        if not self._ptr:
            return True
        _get_info(self._ptr, self._info)
        return self._info.dead != 0  # type: ignore[no-any-return]

    def _get_bytes(self, call: Any) -> bytes:
        size = ffi.new("size_t *")
        data = call(self.pointer, size)
        return bytes(ffi.buffer(data, size[0])) if data and size[0] else b""

    def _get_text(self, data: Any) -> str | None:
        return ffi.string(data).decode("utf-8", "replace") if data else None

    @property
    def hostkey(self) -> bytes:
        """Return the host key blob whose possession the server proved (RFC 4253 section 8)."""
        return self._get_bytes(lib.hussh_link_hostkey)

    @property
    def session_id(self) -> bytes:
        return self._get_bytes(lib.hussh_link_session_id)

    @property
    def hostkey_signature(self) -> bytes:
        """The signature of `session_id` by the host key, checked in the first key exchange."""
        return self._get_bytes(lib.hussh_link_hostkey_signature)

    @property
    def peer_kexinit(self) -> bytes:
        """Return the server's SSH_MSG_KEXINIT, until the first key exchange has ended."""
        return self._get_bytes(lib.hussh_link_peer_kexinit)

    @property
    def preamble(self) -> bytes:
        """Return the first bytes that arrived, at most 256."""
        return self._get_bytes(lib.hussh_link_preamble)

    @property
    def banner(self) -> str | None:
        return self._get_text(lib.hussh_link_banner(self.pointer))

    @property
    def is_openssh(self) -> bool:
        """Whether the server calls itself OpenSSH."""
        return (self.banner or "").startswith("SSH-2.0-OpenSSH_")

    @property
    def signature_algorithms(self) -> tuple[str, ...] | None:
        """Return the server's server-sig-algs (RFC 8308), or None if it sent none."""
        text = self._get_text(lib.hussh_link_sig_algs(self.pointer))
        return None if text is None else tuple(text.split(","))

    def get_method(self, kind: Method) -> str | None:
        return self._get_text(lib.hussh_link_method(self.pointer, kind))

    def check(self) -> None:
        """Raise the error that says why the link is dead, if it is."""
        _get_info(self._ptr or self.pointer, self._info)
        if self._info.dead:
            raise self.get_death()

    def get_death(self) -> HusshError:
        """Return the error that says why the link is dead."""
        return self.get_info().as_error()

    # -- speaking

    def send(self, message: bytes) -> None:
        """Queue one message (RFC 4252, or a global request)."""
        if lib.hussh_link_send(self.pointer, message, len(message)) < 0:
            self.check()
            raise ConnectionClosed("the connection is not ready for this message")

    def take_message(self) -> bytes | None:
        """Take the oldest authentication message; None if there is none."""
        size = lib.hussh_link_message(self.pointer, ffi.NULL, 0)
        if size < 0:
            return None
        buffer = bytearray(size)
        lib.hussh_link_message(self.pointer, ffi.from_buffer(buffer), size)
        return bytes(buffer)

    def rekey(self) -> None:
        """Begin a key exchange (RFC 4253 section 9)."""
        lib.hussh_link_rekey(self.pointer)

    @property
    def rekey_bytes(self) -> int:
        """After how many bytes in one direction the link asks for new keys."""
        return int(lib.hussh_link_rekey_bytes(self.pointer))

    def rekey_after(self, size: int) -> None:
        """Ask for new keys after so many bytes, or earlier if the cipher needs that."""
        lib.hussh_link_rekey_after(self.pointer, size)

    def disconnect(self, text: str = "disconnected by user") -> None:
        """Queue SSH_MSG_DISCONNECT with reason 11, if the link can still send it."""
        lib.hussh_link_disconnect(self.pointer, 11, text.encode("ascii", "replace"))

    def kill(self) -> None:
        """Do no more I/O, on this link and on every link over it."""
        self.computations.forget(self.token)
        if self._ptr:
            lib.hussh_link_kill(self._ptr)

    def fail(self, code: int, text: str) -> None:
        """Declare the link dead for an outside reason: an errno and its text."""
        lib.hussh_link_fail(self.pointer, code, text.encode("utf-8", "replace"))

    def notify(self) -> None:
        """Let those who wait for the link look again."""
        if self._ptr:
            lib.hussh_link_notify(self._ptr)

    @property
    def lingering(self) -> int:
        """How many sessions were freed here that the server has not closed."""
        return int(lib.hussh_link_lingering(self._ptr)) if self._ptr else 0

    def open_spare(self, window: int) -> object | None:
        """Ask for a session that ends with the link, unless `Channel.of_spare` takes it over.

        The layers above may attach it to the link, which a `Channel` would hold in a cycle.
        """
        return lib.hussh_channel_spare(self._ptr, window) or None if self._ptr else None

    def is_open(self, spare: object) -> bool:
        """Return whether a session of `open_spare` is there; it wakes its waiters from now on."""
        return self._ptr is not None and lib.hussh_channel_take(spare) == 0


def _flush_if_alive(reference: weakref.ref[Link]) -> None:
    link = reference()
    if link is not None and not link.freed:
        link.flush()
