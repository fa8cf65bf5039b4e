"""Makes and frees C objects so that no interrupt comes between that and knowing about it.

The interpreter looks for signals between two steps of Python, so also between the return of a call
and the assignment of what it returned, and at the beginning of a finalizer. An object that came or
went in between would belong to nobody. So each function here does its part in one step of C. The
owners of this folder use them; nothing here waits.

A channel ends with its link, whatever happens. What ends with nothing else, such as a link, is kept
in the list that the objects of its tree share (`DeferredFrees.kept`), where it is freed with the
list at the latest. That is when nothing of the tree is left in Python, and so no lock is needed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import repeat, starmap
from typing import Any

from ._libssh2 import ffi

__all__ = ["disown", "free_deferred", "free_kept", "free_owned", "make_kept", "make_owned"]


def make_kept(
    kept: list[Any], free: Callable[[Any], object], make: Callable[..., Any], *arguments: Any
) -> Any:
    """Return what a function of C makes, kept until `free_kept`; NULL is not kept."""
    kept.extend(map(ffi.gc, starmap(make, (arguments,)), repeat(free)))
    made = kept[-1]
    if not made:
        free_kept(kept, made)
    return made


def free_kept(kept: list[Any], made: Any) -> None:
    """Free it now; after an interrupt, or a first call, it may be repeated."""
    ffi.release(made)
    with suppress(ValueError):
        kept.remove(made)


def free_deferred(owner: tuple[list[Any], Any]) -> None:
    """Do `free_kept` for `DeferredFrees.add`, whose object a method of it would hold in a cycle."""
    free_kept(*owner)


def disown(kept: list[Any]) -> None:
    """Never free what is kept: it is another process's."""
    for made in kept:
        ffi.gc(made, None)


def make_owned(owned: list[Any], make: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function of C makes, owned until `free_owned`; NULL is not owned."""
    owned.extend(starmap(make, (arguments,)))
    made = owned[-1]
    if not made:
        owned.clear()
    return made


def free_owned(owned: list[Any], free: Callable[[Any], object]) -> None:
    """Free what is owned, by a function of C; after an interrupt it may be repeated."""
    while owned:
        try:
            deque(map(free, map(list.pop, (owned,))), maxlen=0)
        except IndexError:  # a finalizer or signal handler did the same meanwhile
            return
