"""Records sessions with a real server once, and replays them in many ways.

For ``tests/streams``. A `Conversation` says what the client does. ``record`` has it over a real
connection, ``play`` replays it, and an `Outcome` is all that a caller can see of a run.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hussh._policy.options import Options
from hussh._protocol.core import Op
from hussh._protocol.execute import Execution, execute
from hussh._results.ssh_result import SSHResult
from hussh.errors import ConnectionLost, ProtocolError

from .streams import Command, Hang, Memory, Task, Tree, Wire, live_objects, session
from .streams_peers import Chunks, Recording, converse, replay
from .streams_random import repeatable, reseed

SEED = "recorded"

SHORT = (b"echo out; echo err >&2; exit 3", b"")
LARGE = (
    (b"head -c 150000 /dev/zero | tr '\\0' x; head -c 3000 /dev/zero | tr '\\0' e >&2", b""),
    (b"cat; exit 9", bytes(range(256)) * 300),
    (b"kill -TERM $$", b""),
)
PARALLEL = (
    (b"echo one; exit 1", b""),
    (b"cat >&2; exit 2", b"two"),
    (b"head -c 40000 /dev/zero; exit 3", b""),
)


@dataclass(frozen=True)
class Conversation:
    """Hops to go through; commands to run one after the other, then some at once."""

    hops: tuple[Options, ...]
    commands: tuple[Command, ...] = ()
    parallel: tuple[Command, ...] = ()

    def with_algorithms(self, **changes: Any) -> Conversation:
        """The same, with other fields of ``Algorithms`` on every hop."""
        hops = (replace(hop, algorithms=replace(hop.algorithms, **changes)) for hop in self.hops)
        return replace(self, hops=tuple(hops))

    def start(self, tree: Tree) -> Task[list[Task[SSHResult]]]:
        return tree.start(self._run(tree))

    def _run(self, tree: Tree) -> Op[list[Task[SSHResult]]]:
        results = yield from session(tree, self.hops, self.commands, _fresh_keys)
        tasks = [tree.start(_done(result)) for result in results]
        link = tree.links[-1]
        tasks += [
            tree.start(execute(link, text, Execution(stdin=stdin))) for text, stdin in self.parallel
        ]
        return tasks


def _done(result: SSHResult) -> Op[SSHResult]:
    yield from ()
    return result


def _fresh_keys(hop: int) -> None:
    # An inner hop's keys must not depend on how often the outer one drew.
    reseed(f"{SEED} {hop}")


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and what the client sent.

    Attributes:
        results: of every command, in order; None if there is an error.
        error: the first one that was raised; not compared, its class and text are.
        left: C objects that existed after the run and not before it.
    """

    results: tuple[SSHResult, ...] | None
    error: BaseException | None
    sent: bytes
    left: int

    @property
    def key(self) -> tuple[object, ...]:
        """What must not depend on how the bytes came; the bytes sent are judged apart."""
        return self.results, type(self.error), str(self.error)

    @property
    def partial(self) -> SSHResult | None:
        """The output that came before the error."""
        result: SSHResult | None = getattr(self.error, "result", None)
        return result


@dataclass(frozen=True)
class Recorded:
    """A conversation, what a real server sent in it, and how it ended."""

    conversation: Conversation
    recording: Recording
    outcome: Outcome

    @property
    def host_key_algorithms(self) -> list[str]:
        """What the client offered, best first."""
        sent = self.outcome.sent
        payload = sent[plain_packets(sent)[0].start + 5 :]
        at = 1 + 16  # the number, the cookie
        for index in range(2):
            length = int.from_bytes(payload[at : at + 4], "big")
            if index:
                break
            at += 4 + length
        return payload[at + 4 : at + 4 + length].decode().split(",")


def _finish(tree: Tree, task: Task[list[Task[SSHResult]]]) -> tuple[Any, BaseException | None]:
    try:
        return tuple(one.outcome() for one in task.outcome()), None
    except Hang:
        raise
    except BaseException as error:
        return None, error.with_traceback(None)


def record(
    conversation: Conversation, address: tuple[str, int], chunks: Chunks | None = None
) -> tuple[Outcome, Recording]:
    """Run a conversation against a live server; its outcome, and what the server sent."""
    recording = Recording()
    before = live_objects()
    with repeatable(SEED), Tree() as tree, socket.create_connection(address) as sock:
        task = conversation.start(tree)
        converse(tree, sock, chunks, recording)
        results, error = _finish(tree, task)
        tree.disconnect()
        recording.client += tree.root.drain()
    return Outcome(results, error, recording.client, live_objects() - before), recording


def live(
    conversation: Conversation, address: tuple[str, int], chunks: Chunks, wire: Callable[[], Wire]
) -> Any:
    """Run a conversation against a live server without keeping its bytes; its ``Outcome.key``."""
    with Tree(wire) as tree, socket.create_connection(address) as sock:
        task = conversation.start(tree)
        converse(tree, sock, chunks)
        results, error = _finish(tree, task)
        tree.disconnect()
    return Outcome(results, error, b"", 0).key


def play(
    conversation: Conversation,
    recording: Recording,
    chunks: Chunks | None = None,
    *,
    wire: Callable[[], Wire] = Memory,
    eof_early: bool = False,
) -> Outcome:
    """Replay a recording to a fresh client. Raises Hang if it then still waits."""
    before = live_objects()
    with repeatable(SEED), Tree(wire) as tree:
        task = conversation.start(tree)
        sent = replay(tree, recording, chunks, eof_early=eof_early)
        results, error = _finish(tree, task)
        tree.disconnect()
        while more := tree.wire.drain(1 << 16):
            sent += more
            tree.settle()
    return Outcome(results, error, sent, live_objects() - before)


#: Any of these may follow from a damaged stream, no others.
BROKEN = (ConnectionLost, ProtocolError)


def first_complete(known: Recorded) -> int:
    """How many bytes of the server's stream the client needs for its results."""
    low, high = 0, len(known.recording.server)
    while low < high:
        middle = (low + high) // 2
        if play(known.conversation, known.recording.cut(middle)).results is None:
            low = middle + 1
        else:
            high = middle
    return low


@dataclass(frozen=True)
class PlainPacket:
    """One unencrypted packet (RFC 4253 section 6) of a recorded stream, by its offsets."""

    start: int
    end: int
    padding: int
    number: int


def plain_packets(stream: bytes) -> list[PlainPacket]:
    """Everything after the banner up to the server's NEWKEYS."""
    packets: list[PlainPacket] = []
    at = stream.index(b"\n") + 1
    while not packets or packets[-1].number != 21:
        end = at + 4 + int.from_bytes(stream[at : at + 4], "big")
        packets.append(PlainPacket(at, end, end - stream[at + 4], stream[at + 5]))
        at = end
    return packets


def harmless_bits(stream: bytes) -> set[tuple[int, int]]:
    """(offset, bit) of what a man in the middle may change without harm; all else is protected.

    The padding of the unencrypted packets. Of the answer with the host key, the words around its
    signature (algorithm name and lengths, which libssh2 steps over) and padding counted as
    trailing payload; the same of NEWKEYS. The session is bound to none of these bytes: the
    exchange hash is made of the fields, and it is what the signature covers.
    """
    bits: set[tuple[int, int]] = set()

    def add(start: int, end: int) -> None:
        bits.update((at, bit) for at in range(start, end) for bit in range(8))

    for packet in plain_packets(stream):
        add(packet.padding, packet.end)
        if packet.number in (21, 31):
            length = packet.end - packet.start - 4
            padding = stream[packet.start + 4]
            smaller = [bit for bit in range(8) if padding & 1 << bit and length > padding]
            bits.update((packet.start + 4, bit) for bit in smaller)
        if packet.number == 31:
            at = packet.start + 6
            for _ in range(2):  # the host key, the server's public value
                at += 4 + int.from_bytes(stream[at : at + 4], "big")
            name = at + 4  # the signature's length is not among them
            add(name, name + 4 + int.from_bytes(stream[name : name + 4], "big") + 4)
    return bits
