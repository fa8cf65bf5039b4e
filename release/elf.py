"""Reads the symbols that a shared object defines (ELF-64, System V gABI chapter 4)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Symbol", "read_symbols"]

SHT_SYMTAB = 2
SHT_DYNSYM = 11
SHN_UNDEF = 0
STB_LOCAL = 0
STT_FILE = 4


class Symbol(NamedTuple):
    """One symbol with its place."""

    name: str
    is_local: bool


def read_symbols(image: bytes, *, dynamic: bool = False) -> Iterator[Symbol]:
    """Yield the defined symbols of a module.

    Args:
        image: the file.
        dynamic: those that others see, which are never local; else all that the file still has.

    Raises ValueError: it is no ELF-64 file.
    """
    if image[:5] != b"\x7fELF\x02":
        raise ValueError("not an ELF-64 file")
    order = "<" if image[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}Q", image, 40)
    size, count = struct.unpack_from(f"{order}HH", image, 58)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [
        struct.unpack_from(f"{order}IIQQQQIIQQ", image, table + number * size)
        for number in range(count)
    ]
    for section in sections:
        if section[1] != (SHT_DYNSYM if dynamic else SHT_SYMTAB):
            continue
        strings = sections[section[6]][4]
        for start in range(section[4], section[4] + section[5], section[9]):
            name, info, _, place = struct.unpack_from(f"{order}IBBH", image, start)
            if place == SHN_UNDEF or info & 15 == STT_FILE or (dynamic and info >> 4 == STB_LOCAL):
                continue
            end = image.index(b"\0", strings + name)
            yield Symbol(image[strings + name : end].decode(), info >> 4 == STB_LOCAL)
