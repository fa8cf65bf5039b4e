"""Writes the small corpus that scripts/fuzz-c begins with: one life of an object in each input.

An input is a program for a harness of csrc/fuzz: a byte for each operation, then its arguments.
The numbers of the operations are read from the harness, so that they cannot differ.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

#: How many inputs of random operations each harness gets beside those written by hand.
RANDOM_INPUTS = 30
#: Places of numbers in the table `edges` of fuzzing.h, by their first byte.
MIB, TWO_MIB, BULK = 192 + 11, 192 + 12, 192 + 7
#: Places of messages in the table `forms` of fuzzing.h.
CONFIRMATION, DATA, TEXT_DATA, STDERR, WINDOW, EXIT = range(6)
SIGNALLED, SUCCESS, FAILURE, EOF, CLOSE, REFUSED, OFFER, ASKED, YES, NO = range(6, 16)
LOGGED_IN, LOGIN_FAILED, BANNER, MORE = 16, 17, 18, 19


def operations(harness: Path) -> dict[str, int]:
    """Return the numbers of a harness's operations by their names, without ``OP_``."""
    found = re.search(r"enum \{\s*(OP_.*?)OPS\s*\}", harness.read_text(), re.DOTALL)
    if found is None:
        raise ValueError(f"{harness} has no enum of operations")
    names = re.findall(r"OP_(\w+)", found[1])
    return {name: number for number, name in enumerate(names)}


def confirm(channel: int) -> bytes:
    """Return the message that opens a channel, as arguments of an operation."""
    return bytes([CONFIRMATION, channel, 7, MIB, BULK, 0])


def tree(op: dict[str, int]) -> Iterator[bytes]:
    """Commands, nested links, offers, ends in several orders, and memory that fails anywhere."""
    opened = bytes([0, op["OPEN"], 0, 1, 0, TWO_MIB, op["SAY"], 0]) + confirm(0)
    command = opened + bytes([
        op["REQUEST"], 0, 9, 1, 20, op["SAY"], 0, SUCCESS, 0, 0, op["SAY"], 0, DATA, 0, 4, 0, 0,
        op["SAY"], 0, STDERR, 0, 1, 0, 9, 0, op["ORDER"], 0, 64, op["READ"], 0, 0, 100,
        op["SAY"], 0, EXIT, 0, 2, 1, 3, 0, op["SAY"], 0, EOF, 0, 0, op["SAY"], 0, CLOSE, 0, 0,
        op["EVENTS"], 0, op["FREE_CHANNEL"], 0, op["PUMP"], 0, 99,
    ])  # fmt: skip
    nested = opened + bytes([
        op["NEST"], 0, 0, op["OPEN"], 1, 1, 0, MIB, op["SAY"], 1, *confirm(0),
        op["WRITE"], 1, BULK, op["FEED"], 1, 2, TEXT_DATA, 0, 1, 0, DATA, 0, 2, 0, 0, WINDOW, 0,
        MIB, 0, op["PUMP"], 0, 200, op["DRAIN"], 0, 200,
    ])  # fmt: skip
    yield command
    for size in range(0, 64, 3):
        yield bytes([0, op["NO_MEMORY"], size]) + command[1:]
        yield nested + bytes([op["NO_MEMORY"], size]) + command[1:]
    for end in ("FREE_LINK", "FREE_CHANNEL", "FINISH", "EOF", "CLOSE", "END", "END_OF_STREAM"):
        yield nested + bytes([op[end], 0, 0, op["PUMP"], 0, 99, op[end], 1, 0, op["PUMP"], 1, 9])
    yield bytes([0, op["OFFERS"], 0, 1, 0, op["SAY"], 0, OFFER, 5, 3, 4, BULK, 6, 7, 8, 9, 0,
                 op["OFFERS"], 0, 1, 200, op["ACCEPT"], 0, 3, MIB, BULK, MIB])  # fmt: skip
    yield opened + bytes([op["KEX"], 0, 1, op["GLOBAL"], 0, 16, 1, 0, 22, 1, op["WRITE"], 0, 99,
                          op["KEX"], 0, 0, op["PUMP"], 0, 9, op["SAY"], 0, YES, 22, 0])  # fmt: skip
    yield opened + bytes([op["SIGNAL"], 0, 13, 1, op["SAY"], 0, FAILURE, 0, 0, op["FREE_CHANNEL"],
                          0, op["SAY"], 0, SUCCESS, 0, 0, op["SAY"], 0, CLOSE, 0, 0])  # fmt: skip
    yield bytes([2, op["LOGIN"], 0, 3, 24, 19, 0, 0, 0, op["OPEN"], 0, 1, 0, MIB, op["SAY"], 0,
                 LOGIN_FAILED, 20, 0, 0, op["EVENTS"], 0])  # fmt: skip
    yield bytes([3, op["HELLO"], 0, op["PUMP"], 0, 200, op["DRAIN"], 0, 200])
    yield opened + bytes([op["AWAIT"], 0, 0, 3, 250, op["SAY"], 0, DATA, 0, 0, 99, 0, op["WIDEN"],
                          0, 192 + 13, op["READ"], 0, 0, 99])  # fmt: skip


def keyed(op: dict[str, int]) -> Iterator[bytes]:
    """Every cipher with every MAC, honest and lying; compression; three levels."""
    lies = ((1, 1), (2, 250), (2, 0), (4, 3), (8, 0, 9), (16, 5), (3, 4, 255))
    for cipher in range(10):
        for mac in range(cipher % 2, 7, 1 if 3 <= cipher <= 5 else 3):
            one = bytes([0, cipher, mac, (cipher + mac) % 3])
            yield one + bytes([op["DATA"], BULK, op["WRITE"], BULK, op["PUMP"], op["DRAIN"],
                op["READ"], BULK, op["SEQNO"], 1, op["DATA"], 50, op["DATA"], 50, op["GLOBAL"],
                8, 1, 0, 9, op["DRAIN"], op["LIE"], 0, *lies[(cipher + mac) % len(lies)],
                DATA, 0, 0, 80, 0, op["PIECE"], 0, 40, 99])  # fmt: skip
        for how in range(16):
            one = bytes([0, cipher, 5, how % 3, op["COMMAND"], how, 200, BULK, 0, 2, 108, 115, 50])
            yield one + bytes([op["DATA"], 99, op["PUMP"], op["COMMAND"], how ^ 1, 0, 9, 1, 1])
        yield bytes([0, cipher, 5, 0, op["LONG"], 255, 0, op["PUMP"], op["LONG"], 0, 9,
                     op["PIECE"], 90, 0, 9])  # fmt: skip
    for zipped in (1, 2):
        one = bytes([0, 4, 1, zipped])
        yield one + bytes([op["BOMB"], 0, 255, op["PUMP"], op["BOMB"], 0, 40, op["PUMP"]])
        yield one + bytes([op["JUNK"], 0, 4, 0x78, 0x9C, 3, 0, op["PUMP"]])
        yield one + bytes([op["LOGIN"], op["MESSAGE"], 0, LOGGED_IN, 0, op["LOGIN"], op["PUMP"]])
    for depth in (1, 2):
        keys = b"".join(bytes([depth * 3 + at, at, at % 3]) for at in range(depth + 1))
        yield bytes([depth]) + keys + bytes([op["DATA"], BULK, op["WRITE"], BULK, op["PUMP"],
            op["DRAIN"], op["READ"], BULK, op["LIE"], 1, 8, 1, 0, DATA, 0, 0, 9, 0])  # fmt: skip
        for size in range(0, 120, 7):
            yield bytes([depth]) + keys + bytes([op["NO_MEMORY"], 0, size, op["WRITE"], BULK,
                op["DATA"], BULK, op["PUMP"], op["READ"], 99, op["REKEY"], 0])  # fmt: skip


def kex(op: dict[str, int]) -> Iterator[bytes]:
    """Every key exchange with every host key; re-keyings by both sides; each message changed."""
    for exchange in range(13):
        for hostkey in range(14):
            if exchange and hostkey and (exchange + hostkey) % 7:
                continue
            suite = bytes([(exchange + hostkey) % 10, (exchange * 3 + hostkey) % 7])
            flags = exchange & 1 | (exchange + hostkey) % 3 << 1
            yield bytes([exchange, hostkey]) + suite + bytes([flags])
        begun = bytes([exchange, exchange % 14, 1 + exchange % 9, exchange % 7])
        yield begun + bytes([3, 0, 0, 0, 0, op["LOGIN"], 3, 24, 20, 0, 0, op["OPEN"], MIB,
            op["WRITE"], BULK, op["REKEY_HERE"], op["CHOOSE"], exchange + 1, op["REKEY_THERE"],
            op["WRITE"], BULK, op["LOOK"], 3, 4, 0, op["REKEY_AFTER"], 192 + 2, op["WRITE"], BULK,
            op["EXT_INFO"], 1, 25, 9, 3, 1, 2, 3, 0])  # fmt: skip
        for at in range(4):
            how = ((235, 26, 9, 9), (235, 15, 0, 90), (241,), (246,), (249,))[(at + exchange) % 5]
            yield begun + bytes([1, *bytes(at), *how])
        for flags in (9, 40):
            yield begun + bytes([flags, 7, op["LOOK"], 3, 4, 0])
            yield begun + bytes([flags, 7, op["LINES"], 3, 65, 66, 67, 0, 0, 0])
        yield begun + bytes([1, 0, 0, 0, 0, op["HOLD"], 1, op["REKEY_HERE"], op["SPOIL"],
                             op["HOLD"], 0, op["RUN"]])  # fmt: skip
        for size in range(exchange * 8, 250, 90):
            yield begun + bytes([1, 0, 0, 0, 0, op["NO_MEMORY"], 0, size, op["REKEY_THERE"]])


def fds(op: dict[str, int]) -> Iterator[bytes]:
    """Tunnels over sockets and pipes, which end in each way."""
    for kind in (0, 10, 15):
        joined = bytes([kind, kind % 10, op["OPEN"], 0, TWO_MIB, op["CONFIRM"], 0, 7, MIB, BULK,
            op["PUMP"], 99, op["NEW"], 0, op["JOIN"], 0, op["LOCAL_WRITE"], 0, 4, 0, op["PUMP"], 99,
            op["DATA"], 0, 64, 0, op["PUMP"], 99, op["LOCAL_READ"], 0, 64, 0])  # fmt: skip
        ends = ("LOCAL_SHUT", "LOCAL_CLOSE", "PEER_SHUT", "PEER_CLOSE", "FREE", "CHANNEL_FREE",
                "KILL", "ENDPOINTS_CLOSE", "CHANNEL_FINISH")  # fmt: skip
        for end in ends:
            yield joined + bytes([op[end], 0, 1, op["PUMP"], 99, op["SAY"], CLOSE, 0, 0,
                                  op["PUMP"], 9])  # fmt: skip
        for size in range(0, 40, 5):
            yield bytes([kind, 0, op["NO_MEMORY"], size]) + joined[2:]
        full = bytes([op["SMALL"], 0, op["DATA"], 0, 255, 0, op["PUMP"], 99, op["LOCAL_WRITE"], 0,
                      255, 0, op["PUMP"], 99, op["EVENTS"], op["HEAR"], 255, 0])  # fmt: skip
        yield joined + full * 5
        yield joined + bytes([op["KEX"], 1]) + full + bytes([op["KEX"], 0, op["PUMP"], 99])


def auth(op: dict[str, int]) -> Iterator[bytes]:
    """Requests with each answer, several on the way, early opens, many banners."""
    ask = bytes([op["REQUEST"], 3, 24, 20, 0, 0, 0, 0, 0])
    more = bytes([op["MORE"], 0, 0, 0, op["ANSWER"], 1, 0, 0, op["FAILURE"], 20, 0, 0])
    for answer in (bytes([op["SUCCESS"], 0]), bytes([op["FAILURE"], 20, 1, 0]), more):
        yield ask + answer + bytes([op["TAKE"], BULK])
        yield ask + bytes([op["OPEN"], 0]) + answer + bytes([op["TAKE"], BULK, op["FREE"], 0])
        yield bytes([op["QUERY"]]) * 3 + ask + answer * 4 + bytes([op["TAKE"], BULK])
        yield bytes([op["KEX"], 1]) + ask + bytes([op["KEX"], 0, op["PUMP"]]) + answer
        yield bytes([op["NO_MEMORY"], 1]) + ask + answer
    yield bytes([op["BANNER"], 255, 0, 0, 0]) * 50 + bytes([op["TAKE"], BULK]) * 9
    yield bytes([op["EXT_INFO"], 1, 25, 9, 3, 1, 2, 3, 0, 0, 0])
    yield ask + bytes([op["OPEN"], 1, op["UNIMPLEMENTED"], 1, op["SUCCESS"], 0, op["GLOBAL"], 8,
                       1, 0, op["CHANNEL_MESSAGE"], YES, 0, 0])  # fmt: skip


BY_HAND = {"tree": tree, "keyed": keyed, "kex": kex, "fds": fds, "auth": auth}


def write(harness: Path, folder: Path) -> None:
    """Write the inputs for one harness into a folder."""
    name = harness.stem.removeprefix("fuzz_")
    op = operations(harness)
    source = random.Random(name)
    inputs = list(BY_HAND[name](op)) if name in BY_HAND else []
    for length in range(RANDOM_INPUTS):
        parts = (bytes([source.randrange(len(op)), *source.randbytes(source.randrange(6))])
                 for _ in range(length))  # fmt: skip
        inputs.append(source.randbytes(4) + b"".join(parts))
    folder.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(inputs):
        (folder / f"{number:04}").write_bytes(content)
