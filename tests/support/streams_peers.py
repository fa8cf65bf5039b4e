"""The other end of a memory link: a live socket, or a recording of one.

For ``tests/streams``. Bytes are handed over in chunks of given sizes, in a cycle; size 0 is a turn
in which that direction would block. Nothing here decides what a result means.
"""

from __future__ import annotations

import itertools
import select
import socket
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .streams import Hang, Tree

PATIENCE = 30.0  # seconds without any byte from a live server that is a hang
SILENCE = 0.01
WHOLE = (1 << 16,)


@dataclass(frozen=True)
class Chunks:
    """Sizes of successive chunks: of what the client gets, and of what it gets rid of."""

    received: Sequence[int] = WHOLE
    sent: Sequence[int] = WHOLE

    def __post_init__(self) -> None:
        if not any(self.received) or not any(self.sent):
            raise ValueError("a direction that never moves")


@dataclass
class Recording:
    """What a server sent; each piece with how much of the client's stream came before it."""

    pieces: list[tuple[int, bytes]] = field(default_factory=list)
    client: bytes = b""
    ended: bool = False  # the server closed the stream

    @property
    def server(self) -> bytes:
        return b"".join(data for _, data in self.pieces)

    def flipped(self, offset: int, bit: int, *, patient: bool = True) -> Recording:
        """The same with one bit of the server's stream inverted.

        Not `patient`: what comes after the bit does not wait for the client, who may be waiting
        itself, for the rest of a packet that only the bit made long.
        """
        pieces, start = [], 0
        for needed, data in self.pieces:
            at = offset - start
            if at < 0 and not patient:
                needed = 0
            if 0 <= at < len(data):
                data = data[:at] + bytes((data[at] ^ (1 << bit),)) + data[at + 1 :]
            pieces.append((needed, data))
            start += len(data)
        return Recording(pieces, self.client, self.ended)

    def cut(self, offset: int) -> Recording:
        """The first ``offset`` bytes, then the end of the stream."""
        pieces, start = [], 0
        for needed, data in self.pieces:
            if start < offset:
                pieces.append((needed, data[: offset - start]))
            start += len(data)
        return Recording(pieces, self.client, True)


def replay(
    tree: Tree, recording: Recording, chunks: Chunks | None = None, *, eof_early: bool = False
) -> bytes:
    """Feed a recording; returns what the client sent. Ends when all is fed and has settled.

    No piece is fed before the client said what the server had heard when it sent it (a client
    that diverged may never: then the piece comes anyway, as a hostile server would do it). At the
    end of a recording that did not end the stream, the stream ends once nothing else moves.
    ``eof_early``: the end of an ended stream comes with the last bytes and not after them.
    """
    sent = bytearray()
    wire = tree.wire
    sizes = _cycle(chunks.received if chunks else WHOLE)
    outs = _cycle(chunks.sent if chunks else WHOLE)

    def turn() -> bool:
        """Let the client work once and take a chunk of what it says; whether there is more."""
        tree.settle()
        sent.extend(wire.drain(next(outs)))
        return wire.pending()

    waiting = deque(recording.pieces)
    unfed = b""
    while unfed or waiting:
        while turn() and not unfed and len(sent) < waiting[0][0]:
            pass
        # As far as it has heard the client, a server may say several things in one breath.
        while waiting and (not unfed or len(sent) >= waiting[0][0]):
            unfed += waiting.popleft()[1]
        size = next(sizes)
        unfed = unfed[wire.feed(unfed[:size]) if size else 0 :]
        if not unfed and not waiting and recording.ended and eof_early:
            wire.feed(b"")
    if recording.ended and not (eof_early and recording.pieces):
        wire.feed(b"")
    while turn():
        pass
    if tree.busy and not recording.ended:
        wire.feed(b"")
        while turn():
            pass
    return bytes(sent)


class ReplayServer:
    """Plays a recording to one TCP client after the other, on a thread of its own.

    Attributes:
        recording: what the next client gets; set it before that client connects.
        failures: what went wrong here, such as a client that neither spoke nor hung up.
    """

    host = "127.0.0.1"

    def __init__(self) -> None:
        self.recording = Recording()
        self.failures: list[BaseException] = []

    def __enter__(self) -> ReplayServer:
        self._listener = socket.create_server((self.host, 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._run, name="replay-server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return  # __exit__
            with client:
                client.settimeout(PATIENCE)
                try:
                    self._serve(client, self.recording)
                except TimeoutError as error:
                    self.failures.append(error)
                except OSError:
                    pass  # the client hung up, as it should

    def _serve(self, client: socket.socket, recording: Recording) -> None:
        received = 0
        for needed, data in recording.pieces:
            while received < needed:
                received += (got := len(client.recv(1 << 16)))
                if not got:
                    return
            client.sendall(data)
        # Not closed before the client does: unread bytes would turn the end into a reset.
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass


def _cycle(sizes: Sequence[int]) -> Iterator[int]:
    return itertools.cycle(sizes)


def converse(
    tree: Tree,
    sock: socket.socket,
    chunks: Chunks | None = None,
    recording: Recording | None = None,
) -> None:
    """Relay between the tree and a server until no operation runs, or the server has closed.

    Raises Hang where the server is silent, nothing is to be sent, and operations still wait.
    """
    chunks = chunks or Chunks()
    wire = tree.wire
    incoming, outgoing = _cycle(chunks.received), _cycle(chunks.sent)
    sock.setblocking(False)
    unsent, unfed, sent = b"", b"", 0
    ended = False
    tree.settle()
    while tree.busy:
        moved = False
        # A recording shall not make the server's words wait for ours where they need not: a
        # moment's silence first. It decides how much may be coalesced later, nothing else.
        if not unsent and not (recording is not None and _readable(sock, SILENCE)):
            unsent = wire.drain(next(outgoing))
            if recording is not None:
                recording.client += unsent
        if unsent:
            count = _send(sock, unsent)
            unsent, sent, moved = unsent[count:], sent + count, count > 0
        size = next(incoming)
        data = _receive(sock, size) if size and not ended and not unfed else None
        if data is not None:
            if data and recording is not None:
                recording.pieces.append((sent, data))
            ended, moved, unfed = not data, True, data
            if ended:
                wire.feed(b"")
        if unfed:
            unfed = unfed[wire.feed(unfed) :]
        tree.settle()
        if moved or unsent or unfed or wire.pending() or not tree.busy:
            continue
        if ended:
            raise Hang("the stream has ended, and operations still wait")
        if not _readable(sock, PATIENCE):
            raise Hang("the server is silent, and operations still wait")
    while recording is not None and wire.pending():
        recording.client += wire.drain(1 << 16)
        tree.settle()


def _readable(sock: socket.socket, seconds: float) -> bool:
    return bool(select.select([sock], [], [], seconds)[0])


def _send(sock: socket.socket, data: bytes) -> int:
    try:
        return sock.send(data)
    except BlockingIOError:
        return 0
    except ConnectionError:
        return len(data)  # what the server still has to say is in the other direction


def _receive(sock: socket.socket, size: int) -> bytes | None:
    try:
        return sock.recv(size)
    except BlockingIOError:
        return None
    except ConnectionError:
        return b""
