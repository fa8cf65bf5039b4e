"""New keys under load (RFC 4253 section 9): started by either side, on every link of a way."""

from __future__ import annotations

import ctypes
import hashlib
import random
import threading
from collections.abc import Callable
from functools import partial

import pytest

from hussh import Connection
from tests.sharing.conftest import ROOMY, Login
from tests.sharing.helpers import LONG, Job, together
from tests.support.relay import Faults, Relay
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
RelayFactory = Callable[..., Relay]
TARGETS = 8
MIB = 1 << 20


def rekeys(connection: Connection) -> int:
    """Return how many key exchanges have ended on this connection's own link."""
    session = connection._session
    assert session is not None
    with session.driver.locked():
        return session.link.get_info().rekeys


def exchange_keys(connection: Connection, meanwhile: Callable[[], object]) -> None:
    """Exchange keys on this connection's own link, and do something until that has ended."""
    session = connection._session
    assert session is not None
    before = rekeys(connection)
    with session.driver.locked():
        session.link.rekey()
    while rekeys(connection) == before:
        meanwhile()


def there_and_back(connection: Connection, seed: int, size: int) -> None:
    """Send random data, get the same amount of other data; compare both by hash."""
    data = random.Random(seed).randbytes(size)
    there = connection.execute("sha256sum", input=data, timeout=300_000)
    assert there.stdout.split()[0] == hashlib.sha256(data).hexdigest()
    back = connection.execute("cat", input=data, timeout=300_000)
    assert hashlib.sha256(back.stdout_bytes).digest() == hashlib.sha256(data).digest()


def test_servers_rekey_under_load(sshd_factory: SshdFactory, login: Login) -> None:
    """Eight targets behind one bastion, new keys after every MiB on all links: hashes are equal."""
    size = (32 if LONG else 6) * MIB
    bastion = sshd_factory(options={"RekeyLimit": "1M"})
    target = sshd_factory(options=ROOMY | {"RekeyLimit": "1M"})
    first = login(bastion)
    jumped = [login(target, proxy_jump=first) for _ in range(TARGETS)]
    together(TARGETS, lambda number: there_and_back(jumped[number], number, size), 600)
    # Traffic both ways, and the server's limit counts each direction by itself.
    assert min(rekeys(connection) for connection in jumped) >= size // MIB
    assert rekeys(first) >= TARGETS * size // MIB
    assert first.execute("echo usable").stdout == "usable\n"


@pytest.mark.parametrize("seed", range(3))
def test_rekey_through_small_pieces(
    seed: int, sshd_factory: SshdFactory, login: Login, relay_factory: RelayFactory
) -> None:
    """Every piece that reaches us or the bastion has 1 to 17 bytes, new keys all the while."""
    size = (1024 if LONG else 96) * 1024
    bastion = sshd_factory(options={"RekeyLimit": "32K"})
    target = sshd_factory(options=ROOMY | {"RekeyLimit": "32K"})
    dice = random.Random(seed)
    pieces = Faults(chunks=[dice.randint(1, 17) for _ in range(997)])
    relay = relay_factory(bastion, to_server=pieces, to_client=pieces)
    first = login(relay, account=bastion.alice)
    jumped = [login(target, proxy_jump=first) for _ in range(2)]
    together(2, lambda number: there_and_back(jumped[number], number, size), 600)
    assert min(rekeys(connection) for connection in jumped) >= 2
    assert rekeys(first) >= 4


def test_client_rekeys_under_load(sshd_factory: SshdFactory, login: Login) -> None:
    """We ask for new keys on bastion and target again and again while data flows over both."""
    bastion, target = sshd_factory(), sshd_factory(options=ROOMY)
    first = login(bastion)
    jumped = login(target, proxy_jump=first)
    stop = threading.Event()

    def load(connection: Connection) -> int:
        turns = 0
        while not stop.is_set():
            there_and_back(connection, turns, MIB)
            turns += 1
        return turns

    jobs = [Job(load, each) for each in (first, jumped, jumped)]

    def meanwhile() -> None:
        assert first.execute("true").status == 0
        assert all(job.is_alive() for job in jobs)

    for connection in [first, jumped] * (100 if LONG else 15):
        exchange_keys(connection, meanwhile)
    stop.set()
    assert all(job.result() > 0 for job in jobs)


class _Mallinfo(ctypes.Structure):
    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd",
              "usmblks", "fsmblks", "used", "free", "keepcost")  # fmt: skip
    _fields_ = [(name, ctypes.c_size_t) for name in _names]


def _allocated() -> int:
    """Bytes that C code holds from malloc; the pages beneath Python's objects included."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        pytest.skip("needs glibc's mallinfo2")
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return int(info.used + info.hblkhd)


def test_rekeys_leak_nothing(login: Login, bastion: Sshd, target: Sshd) -> None:
    """Hundreds of key exchanges, on a bastion and on a target, leave the heap as it was."""
    first = login(bastion)
    jumped = login(target, proxy_jump=first)

    def use(connection: Connection) -> None:
        assert connection.execute("true").status == 0

    def exchange(count: int) -> None:
        for _ in range(count):
            for connection in (first, jumped):
                exchange_keys(connection, partial(use, connection))

    exchange(10)
    count = 400 if LONG else 30
    grown = []
    for _ in range(3):  # pages that Python takes once, it takes in one of them
        before = _allocated()
        exchange(count)
        grown.append(_allocated() - before)
    assert min(grown) < 40 * 2 * count  # 51 bytes for every exchange was what libssh2 lost
