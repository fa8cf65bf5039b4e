"""Whatever a server sends, before and after the keys: no crash, bounded memory, a typed error.

`scripts/fuzz` runs this file for as long as one likes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hussh._policy.connection_options import add_defaults
from hussh._policy.keys.given_keys import parse_given_keys
from hussh._policy.options import Options
from hussh._protocol.execute import Execution, execute
from hussh.errors import HusshError, Phase
from tests.support import hostile_wire as wire
from tests.support.hostile import PeerError
from tests.support.keys import Keys
from tests.support.streams import Task, Tree, heap_in_use, live_objects, session
from tests.support.streams_conversations import Recorded, play
from tests.support.streams_fuzz import (
    ANY_MESSAGE,
    GREETING,
    LIKELY_MESSAGE,
    MESSAGES,
    PLAIN_STREAM,
    U32,
    Inside,
)
from tests.support.streams_peers import Chunks, Recording

LONG = os.environ.get("HUSSH_LONG") == "1"
EXAMPLES = int(os.environ.get("HUSSH_FUZZ_EXAMPLES") or (1500 if LONG else 15))
#: Most that one client may hold for what such a server sent: some hundred times that.
MEMORY = 2 << 20

fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    # A long run looks for new cases, a short one always tries the same.
    derandomize="HUSSH_FUZZ_EXAMPLES" not in os.environ,
    database=None,
)


@pytest.fixture(scope="module")
def options(keys: Keys) -> Options:
    """What a client would want that trusts any server."""
    return Options(
        host="127.0.0.1",
        username="fuzz",
        keys=parse_given_keys(keys.get("ed25519").path),
        known_hosts=(),
        settings=add_defaults(agent=False, host_key_policy="ignore"),
    )


@contextmanager
def client(*hops: Options) -> Iterator[tuple[Tree, list[Task[Any]]]]:
    """A client that connects and runs a command; judged when the block ends.

    The block gives it whatever it likes. Then each operation must have ended with a typed error
    or a result, or wait for input: which the end of the stream must end.
    """
    objects, used = live_objects(), heap_in_use(collect=False)
    with Tree() as tree:
        tasks: list[Task[Any]] = [tree.start(session(tree, hops, [(b"true", b"input")]))]
        tree.settle()
        yield tree, tasks
        tree.settle()
        assert heap_in_use(collect=False) - used < MEMORY
        tree.wire.feed(b"")
        tree.settle()
        tree.disconnect()
        for task in tasks:
            assert task.done
            assert task.error is None or isinstance(task.error, HusshError), task.error
        tasks.clear()
    assert live_objects() == objects


@contextmanager
def inside(options: Options, *, logged_in: bool) -> Iterator[tuple[Tree, Inside, list[Task[Any]]]]:
    """The same, with a server that has done the key exchange and maybe the login."""
    with client(options) as (tree, tasks), Inside(tree) as server:
        server.greet()
        if logged_in:
            server.log_in()
            assert tree.root.phase is Phase.CHANNEL
            for number in range(2):
                tasks.append(
                    tree.start(execute(tree.root, b"command %d" % number, Execution(wait="exit")))
                )
            tree.settle()
        yield tree, server, tasks


@fuzz
@given(
    greeting=st.sampled_from((b"", b"SSH-2.0-", GREETING)),
    data=st.binary(max_size=4000),
    size=st.integers(1, 5000),
)
def test_any_bytes_instead_of_a_key_exchange(
    greeting: bytes, data: bytes, size: int, options: Options
) -> None:
    """Noise, also after a proper banner, ends in an error or is waited on."""
    stream = greeting + data
    with client(options) as (tree, _):
        for at in range(0, len(stream), size):
            tree.wire.feed(stream[at : at + size])
            tree.settle()


@fuzz
@given(stream=PLAIN_STREAM, size=st.integers(1, 5000))
def test_plausible_packets_instead_of_a_key_exchange(
    stream: bytes, size: int, options: Options
) -> None:
    """Well-formed and nearly well-formed packets of every number, before there are keys."""
    with client(options) as (tree, _):
        for at in range(0, len(stream), size):
            tree.wire.feed(stream[at : at + size])
            tree.settle()


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("cut out", "put in", "overwrite", "repeat")),
        st.integers(0, 5000),
        st.integers(1, 200),
        st.binary(max_size=40),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("name", ["small", "hybrid", "etm", "dh"])
@fuzz
@given(changes=CHANGES, size=st.integers(1, 3000))
def test_a_real_session_with_pieces_changed(
    name: str,
    changes: list[tuple[str, int, int, bytes]],
    size: int,
    recorded: Callable[[str], Recorded],
) -> None:
    """A recorded session, cut up and patched, gives a typed error or the true result."""
    known = recorded(name)
    stream = known.recording.server
    for kind, at, length, data in changes:
        at %= len(stream) + 1
        middle = stream[at : at + length]
        put = {"cut out": b"", "put in": data + middle, "overwrite": data, "repeat": middle * 2}
        stream = stream[:at] + put[kind] + stream[at + (len(data) or length) :]
    # The server's pieces keep waiting for the client, as far as they still exist.
    pieces, at = [], 0
    for needed, piece in [*known.recording.pieces, (0, stream)]:
        pieces.append((needed, stream[at : at + len(piece)]))
        at += len(piece)
    outcome = play(known.conversation, Recording(pieces), Chunks([size]))
    assert outcome.left == 0
    if outcome.error is None:
        assert outcome.results == known.outcome.results
    else:
        assert isinstance(outcome.error, HusshError), outcome.error


@fuzz
@given(messages=MESSAGES)
def test_any_messages_before_the_login(messages: list[bytes], options: Options) -> None:
    """Messages that are encrypted properly and make no sense, where the login should be."""
    with inside(options, logged_in=False) as (_, server, _):
        for message in messages:
            server.send_packet(message)


@fuzz
@given(messages=MESSAGES, opened=st.integers(0, 3))
def test_any_messages_after_the_login(messages: list[bytes], opened: int, options: Options) -> None:
    """The same where three commands run, some of their channels open."""
    with inside(options, logged_in=True) as (_, server, _):
        for number in range(opened):
            server.send(
                wire.Msg.CHANNEL_OPEN_CONFIRMATION,
                *(wire.u32(value) for value in (number, number, 1 << 20, 32768)),
            )
        for message in messages:
            server.send_packet(message)


@fuzz
@given(before=MESSAGES, during=MESSAGES, answered=st.booleans())
def test_any_messages_around_a_rekey(
    before: list[bytes], during: list[bytes], answered: bool, options: Options
) -> None:
    """A second key exchange with other messages before, in and after it."""
    with inside(options, logged_in=True) as (tree, server, _):
        for message in before:
            server.send_packet(message)
        tree.root.rekey()
        tree.settle()
        for message in during:
            server.send_packet(message)
        if answered and not tree.root.dead:
            with suppress(PeerError, ConnectionError):  # the client's other messages, or its end
                server.key_exchange(None)
            for message in during:
                server.send_packet(message)


BROKEN_PACKET = st.tuples(
    st.one_of(LIKELY_MESSAGE, ANY_MESSAGE),
    st.one_of(st.none(), st.integers(0, 255)),
    st.one_of(st.none(), U32),
    st.booleans(),
)


@fuzz
@pytest.mark.parametrize(
    "cipher", ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes128-ctr"]
)
@given(packets=st.lists(BROKEN_PACKET, min_size=1, max_size=4), tail=st.binary(max_size=600))
def test_any_encrypted_packets(
    cipher: str,
    packets: list[tuple[bytes, int | None, int | None, bool]],
    tail: bytes,
    options: Options,
) -> None:
    """Lengths and paddings that lie under a good or a bad tag, then noise."""
    with client(options) as (tree, _), Inside(tree, ciphers=[cipher]) as server:
        server.greet()
        for payload, padding, length, corrupt in packets:
            with suppress(ValueError, OverflowError):  # more than the packet can say
                server.send_packet(
                    payload, padding_length=padding, packet_length=length, corrupt_mac=corrupt
                )
        server.send_raw(tail)


@fuzz
@given(stream=PLAIN_STREAM, size=st.integers(1, 3000), messages=MESSAGES)
def test_any_stream_within_a_channel(
    stream: bytes, size: int, messages: list[bytes], options: Options
) -> None:
    """An inner link that gets noise does not harm the one that carries it."""
    with client(options, options) as (tree, _), Inside(tree) as server:
        server.greet()
        server.log_in()
        server.send(
            wire.Msg.CHANNEL_OPEN_CONFIRMATION,
            *(wire.u32(value) for value in (0, 7, 1 << 20, 32768)),
        )
        assert len(tree.links) == 2
        for at in range(0, len(stream), size):
            server.send_packet(wire.channel_data(0, stream[at : at + size]))
        assert not tree.root.dead
        for message in messages:
            server.send_packet(message)
