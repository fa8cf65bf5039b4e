"""Repeatable randomness for the OpenSSL that the extension module uses.

For ``tests/streams``. With it a client sends the same bytes every time, so a session that was
recorded once with a real server can be replayed. Every other user of the same libcrypto in this
process (Python's ssl) is affected while the block runs; the ``cryptography`` package has its own.

Requests are answered from one stream per length: how much padding was drawn before a key is made
depends on how the bytes arrived, the key must not.
"""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

from hussh._native import kex_work
from hussh._native.link import Link

_BYTES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_STATUS = ctypes.CFUNCTYPE(ctypes.c_int)


class _Method(ctypes.Structure):
    """OpenSSL's RAND_METHOD; what is NULL there is not called by what we use."""

    _fields_ = (
        ("seed", ctypes.c_void_p),
        ("bytes", _BYTES),
        ("cleanup", ctypes.c_void_p),
        ("add", ctypes.c_void_p),
        ("pseudorand", _BYTES),
        ("status", _STATUS),
    )


class _Source:
    def __init__(self) -> None:
        self.seed = b""
        self.counts: dict[int, int] = {}

    def fill(self, buffer: int, size: int) -> int:
        count = self.counts[size] = self.counts.get(size, -1) + 1
        data = hashlib.shake_128(b"%s %d %d" % (self.seed, size, count)).digest(size)
        ctypes.memmove(buffer, data, size)
        return 1


_source = _Source()
_fill = _BYTES(_source.fill)
_method = _Method(None, _fill, None, None, _fill, _STATUS(lambda: 1))
_lock = threading.Lock()


@cache
def _library() -> ctypes.CDLL | None:
    """The libcrypto that is already loaded; None where the extension has one built in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if "/libcrypto.so" in path:
            library = ctypes.CDLL(path)
            library.RAND_set_rand_method.argtypes = [ctypes.c_void_p]
            return library
    return None


def reseed(seed: str) -> None:
    """Begin anew, within ``repeatable``."""
    _source.seed = seed.encode()
    _source.counts = {}


@contextmanager
def repeatable(seed: str) -> Iterator[None]:
    """Make everything that is drawn in the block a function of ``seed`` alone."""
    library = _library()
    assert library is not None
    with _lock:
        reseed(seed)
        library.RAND_set_rand_method(ctypes.byref(_method))
        real = kex_work._private_key
        if real is not None:
            kex_work._private_key = _SeededKeys
        try:
            yield
        finally:
            kex_work._private_key = real
            library.RAND_set_rand_method(None)


class _SeededKeys:
    """Makes keys of ML-KEM where ``cryptography`` does, which has randomness of its own."""

    @staticmethod
    def generate() -> MLKEM768PrivateKey:
        """Return a key that is a function of the seed."""
        buffer = ctypes.create_string_buffer(64)
        _source.fill(ctypes.addressof(buffer), 64)
        return MLKEM768PrivateKey.from_seed_bytes(buffer.raw)


@cache
def available() -> bool:
    """Whether ``repeatable`` reaches the extension module's OpenSSL, by trying."""
    if _library() is None:
        return False

    def greeting() -> bytes:
        with repeatable("probe"):
            link = Link.over_memory()
            link.feed(b"SSH-2.0-probe\r\n")
            link.pump(1 << 16)
            sent = link.drain()
            link.free()
            return sent

    return len(greeting()) > 500 and greeting() == greeting()
