"""Whatever the sizes of the pieces in which a stream comes and goes, the results are the same."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import hussh
from hussh._policy.connection_options import add_defaults
from hussh._protocol.channel import SESSION_WINDOW
from hussh._results.ssh_result import SSHResult
from tests.support.hostile_wire import Msg, channel_data, message, u32
from tests.support.relay import Faults, Relay
from tests.support.sshd import Sshd
from tests.support.streams import Memory, Pipes, SocketPair, Tree, Wire, session
from tests.support.streams_conversations import LARGE, SHORT, Conversation, Recorded, live, play
from tests.support.streams_fuzz import Inside
from tests.support.streams_peers import Chunks, Recording

LONG = os.environ.get("HUSSH_LONG") == "1"
WIRES: list[Callable[[], Wire]] = [Memory, SocketPair, Pipes]
FULL = 1 << 16


Test = TypeVar("Test", bound=Callable[..., None])


def many(examples: int) -> Callable[[Test], Test]:
    """Hypothesis settings: so many examples, sixty times as many in the long mode."""
    return settings(
        max_examples=examples * (60 if LONG else 1),
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def sizes(smallest: int, *, blocked: bool = True) -> st.SearchStrategy[list[int]]:
    """Chunk sizes up to 64 KiB, small ones as likely as large, at least one of `smallest`."""
    turn = st.one_of(st.just(0), st.integers(1, 9)) if blocked else st.integers(1, 9)
    any_size = st.one_of(turn, st.integers(1, 600), st.integers(1, FULL), st.just(FULL))
    return st.builds(
        lambda some, one, at: [*some[: at % (len(some) + 1)], one, *some[at % (len(some) + 1) :]],
        st.lists(any_size, max_size=8),
        st.integers(smallest, FULL),
        st.integers(0, 8),
    )


def chunks(smallest: int = 1) -> st.SearchStrategy[Chunks]:
    """Both directions, each with its own sizes; 0 is a turn in which it would block."""
    return st.builds(Chunks, sizes(smallest), sizes(smallest))


CONFIRMATION = message(Msg.CHANNEL_OPEN_CONFIRMATION, u32(0), u32(0), u32(1 << 20), u32(32768))
ONE_BYTE = Chunks([1], [1])
BLOCKING = Chunks([0, 0, 1, 0, 5], [0, 3, 0, 0])


@pytest.mark.parametrize("name", ["small", "refused", "gcm", "ctr", "zlib", "nist"])
@many(6)
@given(pieces=chunks())
@example(pieces=ONE_BYTE)
@example(pieces=BLOCKING)
def test_a_recorded_session_is_the_same_for_every_chunking(
    name: str, pieces: Chunks, recorded: Callable[[str], Recorded]
) -> None:
    """The client ends alike and says the same bytes, however the recorded stream is cut."""
    known = recorded(name)
    outcome = play(known.conversation, known.recording, pieces)
    assert outcome.key == known.outcome.key
    assert outcome.sent == known.outcome.sent
    assert outcome.left == 0


def test_the_recordings_hold_what_their_scenes_ask_for(
    recorded: Callable[[str], Recorded],
) -> None:
    """Each recording ended as its session should, so that comparing means something."""
    short = SSHResult(b"out\n", b"err\n", 3)
    for name in ("small", "gcm", "ctr", "zlib", "nist", "nested"):
        assert recorded(name).outcome.results == (short,), name
    assert isinstance(recorded("refused").outcome.error, hussh.KeyRefused)
    big, cat, killed = recorded("large").outcome.results or ()
    assert (len(big.stdout_bytes), len(big.stderr_bytes), big.status) == (150000, 3000, 0)
    assert (cat.stdout_bytes, cat.status) == (LARGE[1][1], 9)
    assert (killed.status, killed.signal) == (-1, "TERM")
    statuses = [result.status for result in recorded("parallel").outcome.results or ()]
    assert statuses == [3, 1, 2, 3]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("name", ["parallel", "nested", "nested-parallel", "large"])
@many(2)
@given(pieces=chunks(smallest=1500))
def test_channels_and_hops_do_not_notice_the_chunking(
    name: str, wire: Callable[[], Wire], pieces: Chunks, recorded: Callable[[str], Recorded]
) -> None:
    """Commands side by side, large streams and a link in a link end alike over every source."""
    known = recorded(name)
    outcome = play(known.conversation, known.recording, pieces, wire=wire)
    assert outcome.key == known.outcome.key
    assert outcome.left == 0


@pytest.mark.parametrize("wire", [SocketPair, Pipes])
@many(4)
@given(pieces=chunks())
@example(pieces=ONE_BYTE)
def test_descriptors_with_tiny_buffers_carry_the_same_bytes(
    wire: Callable[[], Wire], pieces: Chunks, recorded: Callable[[str], Recorded]
) -> None:
    """Short writes and EAGAIN of real descriptors change neither the results nor the stream."""
    known = recorded("small")
    outcome = play(known.conversation, known.recording, pieces, wire=wire)
    assert outcome.key == known.outcome.key
    assert outcome.sent == known.outcome.sent


@many(6)
@given(pieces=chunks(), early=st.booleans())
@example(pieces=Chunks(), early=True)
def test_a_server_that_leaves_after_its_last_word_loses_nothing(
    pieces: Chunks, early: bool, recorded: Callable[[str], Recorded]
) -> None:
    """A complete result counts, though the end of the stream came with its last byte."""
    known = recorded("small")
    ended = Recording(known.recording.pieces, known.recording.client, ended=True)
    outcome = play(known.conversation, ended, pieces, eof_early=early)
    assert outcome.key == known.outcome.key


@pytest.mark.parametrize("wire", WIRES)
@many(3)
@given(pieces=chunks(smallest=400))
def test_a_live_session_is_the_same_for_every_chunking(
    wire: Callable[[], Wire],
    pieces: Chunks,
    conversations: dict[str, Conversation],
    recorded: Callable[[str], Recorded],
    stream_servers: list[Sshd],
) -> None:
    """A real server, fed and read in drawn pieces, gives what the recording gave."""
    address = stream_servers[0].host, stream_servers[0].port
    assert (
        live(conversations["parallel"], address, pieces, wire) == recorded("parallel").outcome.key
    )


@many(3)
@given(pieces=chunks(smallest=400))
@example(pieces=BLOCKING)
def test_a_live_session_through_a_bastion_is_the_same_for_every_chunking(
    pieces: Chunks,
    conversations: dict[str, Conversation],
    recorded: Callable[[str], Recorded],
    stream_servers: list[Sshd],
) -> None:
    """A link over a channel over a root in drawn pieces gives what the recording gave."""
    address = stream_servers[1].host, stream_servers[1].port
    got = live(conversations["nested-parallel"], address, pieces, Memory)
    assert got == recorded("nested-parallel").outcome.key


def _faults(sizes: list[int]) -> Faults:
    return Faults(chunks=sizes)


@many(3)
@given(pieces=chunks(smallest=20000))
def test_output_beyond_the_window_arrives_in_any_chunks(
    pieces: Chunks, conversations: dict[str, Conversation], stream_servers: list[Sshd]
) -> None:
    """More than one window of output keeps flowing, whatever the chunks."""
    size = 3 * SESSION_WINDOW
    command = b"head -c %d /dev/zero" % size
    conversation = Conversation(conversations["small"].hops, ((command, b""),))
    address = stream_servers[0].host, stream_servers[0].port
    (result,), _, _ = live(conversation, address, pieces, Memory)
    assert result == SSHResult(bytes(size), b"", 0)


@pytest.mark.parametrize("together", [True, False])
def test_an_inner_banner_may_come_with_the_channel(
    together: bool, recorded: Callable[[str], Recorded]
) -> None:
    """What a target says before the inner link exists is not lost."""
    hop = recorded("small").conversation.hops[0]
    hop = replace(hop, settings=add_defaults(agent=False, host_key_policy="ignore"))
    with Tree() as tree, Inside(tree) as server:
        tree.start(session(tree, [hop, hop], []))
        server.greet()
        server.log_in()
        with server.held_back() if together else nullcontext():
            server.send_packet(CONFIRMATION)
            server.send_packet(channel_data(0, b"SSH-2.0-Inner\r\n"))
        assert tree.links[1].banner == "SSH-2.0-Inner"


@many(2)
@given(to_client=sizes(300, blocked=False), to_server=sizes(300, blocked=False))
@example(to_client=[1], to_server=[1])
def test_a_connection_over_tcp_is_the_same_for_every_chunking(
    to_client: list[int],
    to_server: list[int],
    stream_servers: list[Sshd],
    relays: list[Relay],
) -> None:
    """The public API over sockets: straight, and through a bastion with both legs cut up."""
    target, bastion = stream_servers
    straight, first = relays
    for relay in relays:
        relay.set(to_client=_faults(to_client), to_server=_faults(to_server))
    alice = target.alice
    with hussh.Connection(
        first.host, first.port, alice.name, private_key=alice.key.path, known_hosts=()
    ) as jump:
        for way in (None, jump):
            with hussh.Connection(
                straight.host,
                straight.port,
                alice.name,
                private_key=alice.key.path,
                known_hosts=(),
                proxy_jump=way,
            ) as connection:
                assert connection.execute(SHORT[0].decode()) == SSHResult(b"out\n", b"err\n", 3)
                text = "x" * min(70000, 200 * max(to_client))  # bytes, not minutes
                assert connection.execute("cat", input=text).stdout == text
    assert bastion.alice.name == alice.name


@pytest.fixture
def relays(relay_factory: Callable[..., Relay], stream_servers: list[Sshd]) -> list[Relay]:
    """A relay before the target and one before the bastion."""
    return [relay_factory(server) for server in stream_servers]
