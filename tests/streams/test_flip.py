"""One damaged bit anywhere in the stream: a typed error, and never other data than was sent."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import pytest

import hussh
from hussh._results.ssh_result import SSHResult
from tests.support.relay import Faults, Relay
from tests.support.sshd import Sshd
from tests.support.streams import Memory, SocketPair, Wire, heap_in_use, live_objects
from tests.support.streams_conversations import (
    BROKEN,
    SEED,
    SHORT,
    Recorded,
    harmless_bits,
    plain_packets,
    play,
)
from tests.support.streams_peers import ReplayServer
from tests.support.streams_random import repeatable, reseed

LONG = os.environ.get("HUSSH_LONG") == "1"
SLACK = 65536 * (4 if LONG else 1)  # see test_cut.py


def bits_of(offset: int) -> range:
    """Which bits of a byte to try: one, another at each offset; all in the long mode."""
    return range(8) if LONG else range(offset % 8, offset % 8 + 1)


def check(known: Recorded, offset: int, bit: int, wire: Callable[[], Wire] = Memory) -> bool:
    """Replay with one bit inverted; whether the client took it."""
    outcome = play(known.conversation, known.recording.flipped(offset, bit), wire=wire)
    where = offset, bit, outcome.error
    assert outcome.left == 0, where
    if outcome.error is None or outcome.key == known.outcome.key:
        assert outcome.key == known.outcome.key, where
        return True
    assert isinstance(outcome.error, BROKEN), where
    if outcome.partial is not None:
        assert b"out\n".startswith(outcome.partial.stdout_bytes), where
        assert b"err\n".startswith(outcome.partial.stderr_bytes), where
        assert outcome.partial.status == -1, where
    return False


@pytest.mark.parametrize("name", ["small", "nist"] if LONG else ["small"])
def test_every_flip_is_found_but_for_the_harmless_ones(
    name: str, recorded: Callable[[str], Recorded]
) -> None:
    """A bit of each or every third byte: an error, or, of a known few, no difference at all."""
    known = recorded(name)
    stream = known.recording.server
    harmless = harmless_bits(stream)
    taken = set()
    for offset in range(0, len(stream), 7):
        check(known, offset, offset % 8)  # what is made once is made now
    used = heap_in_use()
    tried = range(0, len(stream), 1 if LONG else 3)
    for offset in tried:
        taken |= {(offset, bit) for bit in bits_of(offset) if check(known, offset, bit)}
    assert heap_in_use() - used < SLACK
    assert taken <= harmless
    # All of the padding is harmless in fact, which shows that the flips reach the client.
    packets = plain_packets(stream)
    padding = {at for packet in packets for at in range(packet.padding, packet.end)}
    assert padding & {*tried} == {offset for offset, _ in taken} & padding != set()


@pytest.mark.parametrize(
    "name", ["nist", "dh", "hybrid", "gcm", "ctr", "etm", "zlib", "refused", "nested"]
)
def test_flips_under_other_algorithms_and_through_a_bastion(
    name: str, recorded: Callable[[str], Recorded]
) -> None:
    """Other ciphers, compression, a refused login and an inner hop, for many bytes of each."""
    known = recorded(name)
    stream = known.recording.server
    harmless = harmless_bits(stream)
    step = len(stream) // 40
    for offset in range(0, len(stream), 1 if LONG else step):
        for bit in bits_of(offset // step):
            assert not check(known, offset, bit) or (offset, bit) in harmless


def test_flips_over_descriptors(recorded: Callable[[str], Recorded]) -> None:
    """The same where the bytes come through a socket."""
    known = recorded("small")
    stream = known.recording.server
    harmless = harmless_bits(stream)
    for offset in range(0, len(stream), 1 if LONG else 37):
        for bit in bits_of(offset // 37):
            assert not check(known, offset, bit, SocketPair) or (offset, bit) in harmless


@pytest.mark.parametrize("through_bastion", [False, True])
def test_flips_of_a_tcp_connection(
    through_bastion: bool,
    recorded: Callable[[str], Recorded],
    stream_servers: list[Sshd],
) -> None:
    """The whole client over sockets, straight or as the inner hop behind a real bastion."""
    known, (target, bastion) = recorded("small"), stream_servers
    stream = known.recording.server
    objects = live_objects()
    alice = target.alice

    def connect(host: str, port: int, jump: hussh.Connection | None) -> hussh.Connection:
        return hussh.Connection(
            host,
            port,
            alice.name,
            private_key=alice.key.path,
            agent=False,
            known_hosts=(),
            host_key_policy="ignore",
            # As in the recording, where the known keys of the host decided.
            host_key_algorithms=known.host_key_algorithms,
            proxy_jump=jump,
            timeout=30_000,
        )

    def run(jump: hussh.Connection | None) -> SSHResult | hussh.HusshError:
        try:
            with connect(server.host, server.port, jump) as connection:
                return connection.execute(SHORT[0].decode())
        except BROKEN as error:
            return error.with_traceback(None)

    with ReplayServer() as server, repeatable(SEED):
        jump = connect(bastion.host, bastion.port, None) if through_bastion else None
        for offset in range(0, len(stream), 7 if LONG else 23):
            bit = offset // 23 % 8
            server.recording = known.recording.flipped(offset, bit, patient=False)
            reseed(f"{SEED} 0")
            got = run(jump)
            if isinstance(got, hussh.HusshError):
                assert got.hop_index == (1 if through_bastion else 0)
            else:
                assert (got,) == known.outcome.results
                assert (offset, bit) in harmless_bits(stream)
        if jump is not None:
            assert jump.execute("echo still here").stdout == "still here\n"
            jump.close()
    assert not server.failures
    del jump
    gc.collect()
    assert live_objects() == objects


def test_flips_of_what_the_client_says(
    recorded: Callable[[str], Recorded],
    stream_servers: list[Sshd],
    relay_factory: Callable[..., Relay],
) -> None:
    """A real server that gets damaged packets ends the connection, and we say so."""
    known, target = recorded("small"), stream_servers[0]
    said = known.outcome.sent
    packets = plain_packets(said)
    # Of the plain packets something that counts, of the encrypted ones the last byte: the tag.
    ends = sorted({needed for needed, _ in known.recording.pieces if needed > packets[-1].end})
    offsets = [3, *(packet.padding - 1 for packet in packets[:2]), *(end - 1 for end in ends)]
    relay = relay_factory(target)
    for offset in offsets:
        relay.set(to_server=Faults(flip=(offset, 0)))
        with (
            pytest.raises(BROKEN) as caught,
            hussh.Connection(
                relay.host,
                relay.port,
                target.alice.name,
                private_key=target.alice.key.path,
                agent=False,
                known_hosts=(),
                timeout=30_000,
            ) as connection,
        ):
            connection.execute(SHORT[0].decode())
        assert caught.value.hop_index == 0
