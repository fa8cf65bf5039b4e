"""What many targets cost: nobody is woken for another's packets, descriptors, memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh._policy.file_cache import TICK_NS
from tests.aio.conftest import Make
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

ON_UVLOOP = True
TOP = Path(__file__).resolve().parents[2]
TARGETS = 6
#: Resident for each idle target, fixed costs of the first ones left out; measured: 35 to 45.
MEMORY_KIB = 100


async def test_only_whose_packet_it_is_wakes(
    loop: str, bastion: Sshd, target: Sshd, make: Make
) -> None:
    """Of the tasks that wait for their targets behind one bastion, one's packets wake only it."""
    async with make(bastion) as outer, anyio.create_task_group() as readers:
        processes: dict[int, Any] = {}
        started, answered = ([anyio.Event() for _ in range(TARGETS)] for _ in range(2))
        over = anyio.Event()

        async def echo(index: int) -> None:
            connection = make(target, proxy_jump=outer)
            async with connection, await connection.popen("cat") as process:
                processes[index] = process
                started[index].set()
                assert await process.stdout.read(4) == b"%04d" % index
                answered[index].set()
                await over.wait()

        for index in range(TARGETS):
            readers.start_soon(echo, index)
        for event in started:
            await event.wait()
        session: Any = outer._shared.session
        waiters = session.driver._waiters
        for index in range(TARGETS):
            while len(waiters) < TARGETS - index:
                await anyio.lowlevel.checkpoint()
            before = [waiter for each in waiters.values() for waiter in each]
            await processes[index].stdin.write(b"%04d" % index)
            await answered[index].wait()
            # A task that was woken and waits again has another waiter than before.
            after = [waiter for each in waiters.values() for waiter in each]
            asleep = [waiter for waiter in before if waiter in after and not waiter.woken]
            assert len(before) - len(asleep) == 1
        over.set()


@pytest.fixture
def high_descriptors() -> Iterator[None]:
    """Every descriptor that is opened from now on has a number above 1024, too many for select."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("the machine allows fewer than 2048 descriptors")
    if soft != resource.RLIM_INFINITY and soft < 2048:
        resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    low = [os.open("/dev/null", os.O_RDONLY)]
    while low[-1] <= 1024:
        low.append(os.dup(low[0]))
    yield
    for fd in low:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("way", ["direct", "jump", "proxy_command"])
async def test_descriptors_above_1024(
    loop: str, way: str, bastion: Sshd, target: Sshd, make: Make, high_descriptors: None
) -> None:
    """Descriptors too high for select() serve, whatever the stream."""
    command = [sys.executable, "-S", "-c", RELAY, "%h", "%p"]
    ways: dict[str, dict[str, Any]] = {
        "direct": {},
        "jump": {"proxy_jump": make(bastion)},
        "proxy_command": {"proxy_command": command},
    }
    options = ways[way]
    async with make(target, **options) as connection:
        assert (await connection.execute("echo a; head -c 300000 /dev/zero")).stdout[:2] == "a\n"
        session: Any = connection._shared.session
        assert min(session.driver._stream.fds()) > 1024


RELAY = """
import os, socket, sys, threading
peer = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def down():
    while data := peer.recv(65536):
        os.write(1, data)
    os.close(1)
thread = threading.Thread(target=down)
thread.start()
while data := os.read(0, 65536):
    peer.sendall(data)
peer.shutdown(socket.SHUT_WR)
thread.join()
"""


def test_memory_of_idle_targets(bastion: Sshd, target: Sshd, tmp_path: Path) -> None:
    """An idle target behind a bastion costs no descriptor and little resident memory."""
    key = bastion.alice.key
    for server in (bastion, target):
        server.authorize(server.alice, key)
    known = tmp_path / "known"
    known.write_text(bastion.known_hosts_line() + target.known_hosts_line())
    long_ago = known.stat().st_mtime_ns - 2 * TICK_NS
    os.utime(known, ns=(long_ago, long_ago))
    orders = {
        "user": target.alice.name,
        "key": str(key.path),
        "known_hosts": str(known),
        "bastions": [[bastion.host, bastion.port]],
        "targets": [[target.host, target.port]] * 40,
        "warm_up": 1,
        "before": 10,
        "rounds": 1,
        "repeat": 1,
        "at_once": 10,
    }
    done = subprocess.run(
        [sys.executable, str(TOP / "benchmarks/clients/scale.py")],
        input=json.dumps(orders) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**clean_environment(), "PYTHONPATH": str(TOP), "HOME": str(tmp_path)},
    )
    figures = json.loads(done.stdout)
    assert figures["fds"] == figures["fds_before"]
    assert figures["idle"]["trimmed"] < MEMORY_KIB * 1024, figures["idle"]
