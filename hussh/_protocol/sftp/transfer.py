"""Transfers one file: pipelined, in bounded memory, as fast as the connection allows.

Theory of operation. A download asks ahead for as many bytes as `Flight` allows and stores what
comes at its offset, in whatever order. What was answered short is asked for again. The end is where
the server says EOF. The first READ travels with the question for the size, so a small file takes
two round trips, OPEN included. An upload sends until a certain number of bytes await their
acknowledgement. It reads on only when the machine has passed on everything, so two or three buffers
serve a file of any size, and the channel's own back-pressure stops it. CLOSE travels behind the
last WRITE.

When a transfer fails, everything up to the first missing byte stays where it is, and the error says
how much that is.

`sftp_calls.py` makes transfers of single files, `get_tree` and `put_tree` those of the files in a
directory. `local_file.py` reads and writes local files; nothing here opens one.
"""

from __future__ import annotations

import contextlib
import errno
import stat as modes
from collections import deque
from collections.abc import Callable

from ..._policy.sftp import FILE_MOST, FX_EOF, FX_LOCAL, make_file_error
from ...errors import SFTPError
from ..core import Op, RunBlocking
from . import wire
from .end_of_file import find_promised_end
from .local_file import Part, Sink, Source
from .ops import Handle, explain
from .request import Request
from .resume import ResumedSink, find_download_start, upload_start
from .session import SftpState, wait, wait_for_input
from .transfer_context import Callback, Clock, Meter, TransferContext, raise_shown
from .wire import string

__all__ = ["Download", "Flight", "Upload", "download", "upload"]

LEAST_FLIGHT = 2 * 1024 * 1024
MOST_FLIGHT = 16 * 1024 * 1024
#: Pieces that an upload reads at a time.
PIECES = 2


class Flight:
    """How many bytes may be on their way: twice what the path holds (rate x round-trip time).

    It is twice that so that the estimate can grow. Times are seconds of `clock`.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.limit = LEAST_FLIGHT
        self._trip = float("inf")
        self._since = clock()
        self._bytes = 0

    def note_arrived(self, size: int, sent_at: float) -> None:
        now = self.clock()
        self._trip = min(self._trip, now - sent_at)
        self._bytes += size
        past = now - self._since
        if past > 0 and past >= self._trip:
            hold = int(2 * self._bytes / past * self._trip)
            self.limit = max(LEAST_FLIGHT, min(hold, MOST_FLIGHT))
            self._since, self._bytes = now, 0


class Ask:
    """Where a READ belongs and when it was sent."""

    __slots__ = ("offset", "at")

    def __init__(self, offset: int, at: float) -> None:
        self.offset = offset
        self.at = at


class Download:
    """Fetches one open file into a sink."""

    def __init__(
        self,
        handle: Handle,
        size: int | None,
        sink: Sink,
        flight: Flight,
        context: TransferContext,
        most: int | None = None,
    ) -> None:
        self.context = context
        self.most = FILE_MOST if most is None else most  # bytes to fetch, though there be more
        self.session = handle.session
        self.handle = handle
        self.sink = sink
        self.flight = flight
        #: From here on an error is the end.
        self.promised = find_promised_end(size, self.session.machine.server)
        self.size = min(size or 0, self.most)  # files of /proc and the like say 0 and have more
        self.box: deque[Request] = deque()
        self.asked: set[Request] = set()  # and not stored yet
        self.again: list[tuple[int, int]] = []
        self.next = 0
        self.in_flight = 0
        self.end: int | None = None
        self.done = 0
        self.piece = 0  # shrinks to what the server really answers
        self.pool: list[bytearray] | None = [] if sink.blocks else None
        self.probing: Request | None = None
        self.early: Request | None = None

    def begin(self) -> None:
        """Ask for the first bytes, before the size is known."""
        self.early = self.probing = self.request(
            0, min(self.session.machine.limits.read, self.most)
        )
        self.session.step()

    def learn(self, size: int | None) -> None:
        """Note the size; before that only what `begin` asked for may be asked for or stored."""
        self.promised = find_promised_end(size, self.session.machine.server)
        self.size = min(size or 0, self.most)
        early = self.early
        if early is not None and early.size <= self.size:
            self.probing = None  # it ends within the file
        if early is not None:
            self.next = min(early.size, self.size)

    def run(self, meter: Meter) -> Op[int]:
        session = self.session
        while True:
            session.step()
            parts, failed = self.take()
            if failed is None:
                self.ask()
            if parts:
                yield from self.store(parts)
                yield from meter.report(self.done)
            if failed is not None:
                raise (yield from self.context.explain_refusal(self.handle, failed))
            if parts or self.box:
                continue
            if not self.asked:
                return self.next if self.end is None else self.end
            yield from wait_for_input(session)

    def take(self) -> tuple[list[tuple[Request, Part]], Request | None]:
        """Return what has arrived, and a request that failed, if one did."""
        parts: list[tuple[Request, Part]] = []
        failed = None
        box = self.box
        while box:
            request = box.popleft()
            self.in_flight -= request.size
            offset = request.tag.offset
            if request is self.probing:
                self.probing = None
            if request.status and request is self.early and self.passes_end(request):
                # The server refuses to read past the end.
                self.asked.discard(request)
                self.again.append((offset, self.size))
            elif request.status and not self.is_end(request):
                failed = failed or request
            elif request.status or not request.value:  # no bytes at all: that is the end, too
                self.asked.discard(request)
                self.end = offset if self.end is None else min(self.end, offset)
            else:
                parts.append((request, (offset, request.value)))
                if request is self.early and len(request.value) == self.size < request.size:
                    self.end = self.size
                self.flight.note_arrived(len(request.value), request.tag.at)
        return parts, failed

    def is_end(self, request: Request) -> bool:
        """Tell whether a READ failed because there is nothing more."""
        if request.status in (FX_EOF, FX_LOCAL):
            return request.status == FX_EOF
        return self.promised is not None and int(request.tag.offset) >= self.promised

    def passes_end(self, request: Request) -> bool:
        """Tell whether a READ that was sent before the size was known reaches past the end."""
        if request.status in (FX_EOF, FX_LOCAL) or not self.promised:
            return False
        return self.promised < request.size

    def ask(self) -> None:
        """Request what may be requested now."""
        most = self.session.machine.limits.read
        piece = min(self.piece or most, most)
        limit = self.flight.limit
        while self.again and (self.in_flight < limit or not self.asked):
            offset, size = self.again.pop()
            self.request(offset, min(size, piece))
            if size > piece:
                self.again.append((offset + piece, size - piece))
        while self.end is None and self.next < self.size and self.in_flight < limit:
            size = min(piece, self.size - self.next)
            self.request(self.next, size)
            self.next += size
        more = min(piece, self.most - self.next)
        if self.end is None and self.next >= self.size and self.probing is None and more > 0:
            self.probing = self.request(self.next, more)  # is that really the end?
        self.session.step()

    def request(self, offset: int, size: int) -> Request:
        tag = Ask(offset, self.flight.clock())
        machine = self.session.machine
        request = machine.read(self.handle.id, offset, size, self.box, tag, self.pool)
        self.asked.add(request)
        self.in_flight += size
        return request

    def store(self, arrived: list[tuple[Request, Part]]) -> Op[None]:
        parts = [part for _, part in arrived]
        if self.sink.blocks:
            yield RunBlocking(lambda _: self.sink.write(parts))
        else:
            self.sink.write(parts)
        for request, (offset, data) in arrived:
            size = len(data)
            end = offset + size
            # Before it counts as stored: what is missing behind it must be known first.
            if end > self.size:
                self.next = max(self.next, end)  # it has grown
            elif size < request.size and end != self.end:
                self.again.append((end, request.size - size))
                self.piece = max(size, 4096)
            self.asked.discard(request)
            self.done += size
            if self.pool is not None and isinstance(data.obj, bytearray):
                self.pool.append(data.obj)

    def count_kept(self) -> int:
        """Number of bytes from the beginning on without a gap."""
        missing: list[int] = [self.next, *(offset for offset, _ in self.again)]
        missing += [request.tag.offset for request in self.asked]
        return min(missing if self.end is None else [*missing, self.end])

    def give_up(self) -> None:
        for request in self.asked:
            self.session.machine.abandon(request)


def download(
    sftp: SftpState,
    path: bytes,
    sink: Sink,
    context: TransferContext,
    clock: Clock,
    progress: Callback | None,
    *,
    most: int | None = None,
) -> Op[int]:
    """Fetch a file, or its first `most` bytes; return the size of what was fetched.

    A `ResumedSink` keeps what it has of the file.

    Raises:
        SFTPError, ConnectionLost: and whatever `progress` raises.
    """
    meter = Meter(progress, clock)
    transfer: Download | None = None
    handle: Handle | None = None
    try:
        resumed = sink if isinstance(sink, ResumedSink) else None
        begun = False
        while True:
            handle = yield from _open_for_reading(sftp, path, context)
            try:
                transfer = Download(handle, None, sink, Flight(clock), context, most)
                if resumed is None:
                    transfer.begin()
                size = yield from _get_size(handle, context)
                meter.total = size
                transfer.learn(size)
                if resumed is not None:
                    start = yield from find_download_start(handle, size, resumed)
                    transfer.next = transfer.done = start
                if sink.blocks and not begun:
                    yield RunBlocking(lambda _: sink.begin())
                begun = True
                end = yield from transfer.run(meter)
                break
            except SFTPError:
                if not handle.is_lost or not sink.may_restart():
                    raise
                resumed = None  # the data may be of another file: fetch everything again
                if transfer is not None:
                    transfer.give_up()
        if sink.blocks:
            yield RunBlocking(lambda _: sink.end(end))
        else:
            sink.end(end)
        yield from meter.report(end, final=True)
        return end
    except BaseException as error:
        kept = transfer.count_kept() if transfer is not None else None
        with contextlib.suppress(OSError):  # the first error tells more
            sink.end(kept or 0)
        raise_shown(error, error if error is meter.raised else context.explain_failure(error, kept))
    finally:
        if transfer is not None:
            transfer.give_up()
        if handle is not None:
            handle.forget()


def _open_for_reading(sftp: SftpState, path: bytes, context: TransferContext) -> Op[Handle]:
    session = yield from sftp.get_session(early=True)
    body = string(path) + wire.U32.pack(wire.FXF_READ) + wire.encode_setting()
    request = yield from wait(session, session.machine.request(wire.OPEN, body))
    if request.status:
        raise (yield from explain(session, request, context.doing, *context.paths, look_at=path))
    return Handle(session, request.value, path)


def _get_size(handle: Handle, context: TransferContext) -> Op[int | None]:
    """Return the size, if the server tells it.

    Raises:
        SFTPError: EISDIR for a directory.
    """
    session = handle.session
    found = yield from wait(session, session.machine.queue_about(wire.FSTAT, handle.id))
    attributes = found.value
    if attributes is not None and modes.S_ISDIR(attributes.st_mode):
        raise make_file_error(errno.EISDIR, context.doing, *context.paths)
    return attributes.st_size if attributes is not None else None


class Upload:
    """Sends a source into one open file."""

    def __init__(self, handle: Handle, source: Source, context: TransferContext) -> None:
        self.context = context
        self.session = handle.session
        self.handle = handle
        self.source = source
        self.box: deque[Request] = deque()
        self.asked: set[Request] = set()
        self.next = 0
        self.in_flight = 0
        self.done = 0
        self.over = False
        self.closing: Request | None = None

    def run(self, meter: Meter) -> Op[int]:
        session = self.session
        while True:
            session.step()
            progressed = bool(self.box)
            failed = self.take()
            if failed is not None:
                raise (yield from self.context.explain_refusal(self.handle, failed))
            if progressed:
                yield from meter.report(self.done)
                continue  # what came during the callback wakes nobody: it has to be looked at
            if self.over:
                if self.closing is None and (not self.asked or session.machine.server.keeps_order):
                    self.closing = self.handle.begin_close()
                if not self.asked and self.closing is not None:
                    yield from self.handle.end_close(self.closing)
                    return self.next
            elif not session.machine.backlog and self.in_flight < MOST_FLIGHT:
                yield from self.send()
                continue
            if not self.box:
                yield from wait_for_input(session)

    def send(self) -> Op[None]:
        """Read some pieces and queue them."""
        machine, source = self.session.machine, self.source
        size, offset = machine.limits.write, self.next
        pieces: list[memoryview]
        if source.blocks:
            pieces = yield RunBlocking(lambda _: source.read(offset, size, PIECES))
        else:
            pieces = source.read(offset, size, PIECES)
        if not pieces:
            self.over = True
        for piece in pieces:
            self.asked.add(machine.write(self.handle.id, self.next, piece, self.box, self.next))
            self.next += len(piece)
            self.in_flight += len(piece)

    def take(self) -> Request | None:
        """Count what was acknowledged; return a request that failed, if one did."""
        while self.box:
            request = self.box.popleft()
            if request.status:
                return request
            self.asked.discard(request)
            self.in_flight -= request.size
            self.done += request.size
        return None

    def count_kept(self) -> int:
        missing: list[int] = [self.next, *(request.tag for request in self.asked)]
        return min(missing)

    def give_up(self) -> None:
        for request in self.asked:
            self.session.machine.abandon(request)


def upload(
    sftp: SftpState,
    open_source: Callable[[], Source],
    path: bytes,
    context: TransferContext,
    clock: Clock,
    progress: Callback | None,
    *,
    resume: bool = False,
) -> Op[int]:
    """Send a file, with `resume` only what the server lacks of it; return its size.

    Raises:
        SFTPError, ConnectionLost: as `download`.
    """
    meter = Meter(progress, clock)
    source: Source | None = None
    transfer: Upload | None = None
    handle: Handle | None = None
    try:
        source = yield RunBlocking(lambda _: open_source())
        meter.total = source.size
        while True:
            handle = yield from _open_for_writing(sftp, path, context, keep=resume)
            try:
                start = (yield from upload_start(handle, source)) if resume else 0
                if start < 0:  # something else is there, which opening empties
                    yield from handle.close()
                    resume = False
                    continue
                transfer = Upload(handle, source, context)
                transfer.next = transfer.done = start
                size = yield from transfer.run(meter)
                break
            except SFTPError:
                if not handle.is_lost or not source.may_restart():
                    raise
                resume = False  # what was sent may stand in another file: everything once more
                if transfer is not None:
                    transfer.give_up()
        yield from meter.report(size, final=True)
        return size
    except BaseException as error:
        kept = transfer.count_kept() if transfer is not None else None
        raise_shown(error, error if error is meter.raised else context.explain_failure(error, kept))
    finally:
        if source is not None:
            source.close()
        if transfer is not None:
            transfer.give_up()
        if handle is not None:
            handle.forget()


def _open_for_writing(
    sftp: SftpState, path: bytes, context: TransferContext, *, keep: bool
) -> Op[Handle]:
    """Open the file: emptied, or with what it has and readable."""
    session = yield from sftp.get_session(early=True)
    flags = wire.FXF_WRITE | wire.FXF_CREAT | (wire.FXF_READ if keep else wire.FXF_TRUNC)
    body = string(path) + wire.U32.pack(flags) + wire.encode_setting()
    request = yield from wait(session, session.machine.request(wire.OPEN, body, tag="write"))
    if request.status:
        raise (yield from explain(session, request, context.doing, *context.paths, look_at=path))
    return Handle(session, request.value, path)
