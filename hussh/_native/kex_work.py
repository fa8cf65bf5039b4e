"""Computes what key exchanges wait for: ML-KEM, and exponentiations in large groups.

csrc/kex_work.c is the theory of operation.  `link` calls `Computations.run` when a pump reports
work.  ML-KEM-768 is computed at once, by the library ``cryptography`` (a few tenths of a
millisecond, once for each key exchange); where OpenSSL has it, C computes it and nothing of it
comes here.  An exponentiation may take 100 ms, and is handed to the tree's driver, which has a
worker make it.

Nothing here knows SSH, and nothing but `load_mlkem` may block.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from ._libssh2 import ffi, lib

__all__ = ["Computations", "is_mlkem_loaded", "load_mlkem", "get_mlkem_source"]

_private_key: Any = None  # cryptography's class of private keys, if there is one
_source: str | None = "OpenSSL" if lib.hussh_kem_in_c() else None
_is_loaded = _source is not None


def load_mlkem() -> None:
    """Import ML-KEM, once for the process; reads files, and takes some 50 ms the first time."""
    global _private_key, _source, _is_loaded
    if _is_loaded:
        return
    with contextlib.suppress(Exception):  # of an old version, or one built on another library
        from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey

        MLKEM768PrivateKey.generate()  # UnsupportedAlgorithm where its OpenSSL is an old one
        _private_key = MLKEM768PrivateKey
        _source = "cryptography"
    _is_loaded = True


def is_mlkem_loaded() -> bool:
    """Tell whether `load_mlkem` has nothing to do."""
    return _is_loaded


def get_mlkem_source() -> str | None:
    """Return the name of the library that computes ML-KEM, if `load_mlkem` found one."""
    return _source


class Computations:
    """Computes for the key exchanges of one tree.

    Attributes:
        waiting: computations that C has given out and that nothing else has yet, each in a list of
            its own. To take a computation out of its list means to compute it. There are some
            after an interrupt only.
        elsewhere: gets the list of each exponentiation, to have another thread call `take_power`,
            and then `finish` with the tree's lock held. It may get a list twice. Without it, or
            where it returns False, exponentiations are computed at once.
    """

    __slots__ = ("_keys", "waiting", "elsewhere")

    def __init__(self) -> None:
        self._keys: dict[int, Any] = {}  # one for each key exchange that waits for its answer
        self.waiting: list[list[Any]] = []
        self.elsewhere: Callable[[list[Any]], bool] | None = None

    def __del__(self) -> None:
        for given in getattr(self, "waiting", ()):
            if given:  # C wants it back also after the end of its tree
                _finish(given, b"")

    def run(self, root: Any) -> None:
        """Compute, or hand over, all that waits; with the tree's lock held.

        After an interrupt (Ctrl-C) a second call goes on.

        Args:
            root: the C object of the tree's root.
        """
        taken = iter(partial(lib.hussh_work_take, root), ffi.NULL)
        self.waiting.extend(map(list, zip(taken)))  # one step of C, which no interrupt can split
        while self.waiting:
            self._dispatch(self.waiting[0])
            del self.waiting[0]

    def _dispatch(self, given: list[Any]) -> None:
        for work in given[:1]:  # none if a worker took it, whose start was interrupted
            if lib.hussh_work_kind(work) != lib.HUSSH_WORK_POWER:
                self._run_mlkem(given, work)
            elif self.elsewhere is None or not self.elsewhere(given):
                lib.hussh_work_run(work)
                _finish(given, b"")

    @staticmethod
    def take_power(given: list[Any]) -> Any:
        """Take an exponentiation out of its list, compute it and return it; needs no lock.

        It may take 100 ms. None means that another thread has taken it.
        """
        try:
            work = given.pop()
        except IndexError:
            return None
        lib.hussh_work_run(work)
        return work

    @staticmethod
    def finish(work: Any) -> None:
        """Give an exponentiation back; with the tree's lock held, and before a pump."""
        lib.hussh_work_finish(work, ffi.NULL, 0)

    def forget(self, token: int) -> None:
        """Drop the key of a link that is gone; from anywhere."""
        self._keys.pop(token, None)

    def _run_mlkem(self, given: list[Any], work: Any) -> None:
        owner = lib.hussh_work_owner(work)
        is_first = lib.hussh_work_kind(work) == lib.HUSSH_WORK_KEM_KEY
        try:
            result = self._make_key(owner) if is_first else self._decapsulate(owner, work)
        except Exception:
            _finish(given, b"")  # the key exchange fails without a result
            raise
        _finish(given, result)
        if not is_first:  # a key is used once; but again if an interrupt came before this
            self.forget(owner)

    def _make_key(self, owner: int) -> bytes:
        if _private_key is None:
            return b""
        key = self._keys[owner] = _private_key.generate()
        return key.public_key().public_bytes_raw()  # type: ignore[no-any-return]

    def _decapsulate(self, owner: int, work: Any) -> bytes:
        key = self._keys.get(owner)
        if key is None:
            return b""
        size = ffi.new("size_t *")
        ciphertext = lib.hussh_work_input(work, size)
        try:
            return key.decapsulate(bytes(ffi.buffer(ciphertext, size[0])))  # type: ignore[no-any-return]
        except ValueError:
            return b""


def _finish(given: list[Any], result: bytes) -> None:
    """Take a computation out of its list and give it back, in one step of C."""
    # C wipes these bytes, which nobody else has: a secret leaves no copy behind.
    taking, buffer = map(list.pop, (given,)), ffi.from_buffer(result)
    deque(map(lib.hussh_work_finish, taking, (buffer,), (len(result),)), maxlen=0)
