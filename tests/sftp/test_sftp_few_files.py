"""Servers that have few files open at once, or give handles twice; the machine alone, by hand."""

from __future__ import annotations

import errno
from struct import pack

import pytest

from hussh._policy.sftp import FX_EOF, FX_FAILURE, FX_LOCAL
from hussh._policy.sftp_server import OpenRefusal, ServerLimits, classify_open_refusal
from hussh._protocol.sftp import wire
from hussh._protocol.sftp.local_file import MemorySink, MemorySource
from hussh._protocol.sftp.machine import Machine
from hussh._protocol.sftp.ops import list_names, open_handle
from hussh._protocol.sftp.request import Request
from hussh._protocol.sftp.stream import Stream
from hussh._protocol.sftp.transfer import download, upload
from hussh._protocol.sftp.transfer_context import TransferContext
from hussh.errors import SFTPError
from tests.sftp.fake import Bench, FakeServer, packet, text

TRUNC = wire.FXF_WRITE | wire.FXF_CREAT | wire.FXF_TRUNC
UPDATE = wire.FXF_WRITE | wire.FXF_READ


class Talk:
    """A machine, what it has sent, and the server's answers, which the test words."""

    def __init__(self, limits: ServerLimits | None = None) -> None:
        """Say VERSION without any extension."""
        self.machine = Machine(limits)
        self.sent: list[tuple[int, int]] = []  # kind and id, in order
        self.say(packet(wire.VERSION, pack(">I", 3)))

    def say(self, reply: bytes) -> None:
        """Feed a reply."""
        self.machine.get_buffer()[: len(reply)] = reply
        self.machine.take_received(len(reply))

    def take_sent(self) -> list[tuple[int, int]]:
        """Return kind and id of what the machine sends now."""
        data = b"".join(bytes(piece) for piece in self.machine.out)
        self.machine.out.clear()
        new = []
        while data:
            length, kind, number = wire.HEAD.unpack_from(data)
            if kind != wire.INIT:
                new.append((kind, number))
            data = data[4 + length :]
        return new

    def open(self, name: bytes, flags: int = wire.FXF_READ, *, lasting: bool = False) -> Request:
        """Ask for a file."""
        body = text(name) + pack(">I", flags) + wire.encode_setting()
        return self.machine.request(wire.OPEN, body, lasting=lasting)

    def handle(self, request: Request, handle: bytes) -> None:
        """Answer an OPEN."""
        self.say(packet(wire.HANDLE, pack(">I", request.id), text(handle)))

    def status(self, number: int, code: int, words: str = "") -> None:
        """Answer with a status."""
        self.say(packet(wire.STATUS, pack(">II", number, code), text(words.encode()), text(b"")))

    def opens(self) -> int:
        """Return how many OPENs are sent now."""
        return sum(kind == wire.OPEN for kind, _ in self.take_sent())


def test_words_of_refusals() -> None:
    """Words about open files are told from others; FAILURE without any may mean them."""
    for words in (
        "Too many open files",
        "only one open file at a time",
        "Open file limit reached",
        "maximum number of open files exceeded",
        "no more handles",
        "Another file is already open",
        "EMFILE",
    ):
        for status in (3, 4):
            assert classify_open_refusal(status, words) is OpenRefusal.TOO_MANY, words
    for words in ("Failure", "", "one of the folders is missing", "disk quota exceeded"):
        assert classify_open_refusal(4, words) is OpenRefusal.MAYBE_TOO_MANY, words
    assert classify_open_refusal(3, "Permission denied") is OpenRefusal.NOTHING
    assert classify_open_refusal(2, "too many open files") is OpenRefusal.NOTHING


def test_refused_in_words() -> None:
    """The refused OPEN is sent again after a CLOSE is answered, and the number is kept."""
    talk = Talk()
    one, two, three = (talk.open(name) for name in (b"1", b"2", b"3"))
    assert talk.opens() == 3
    talk.handle(one, b"a")
    talk.status(two.id, FX_FAILURE, "too many open files")
    talk.status(three.id, FX_FAILURE, "too many open files")
    assert (two.done, three.done, talk.opens()) == (False, False, 0)
    assert talk.machine.server.learned == 1
    closed = talk.machine.close(one.value)
    assert talk.opens() == 0
    talk.status(closed.id, 0)
    assert talk.opens() == 1
    talk.handle(two, b"b")
    assert two.value == b"b"
    later = talk.open(b"4")
    talk.machine.forget(two.value)
    talk.status(talk.take_sent()[-1][1], 0)
    assert talk.opens() == 1
    talk.handle(three, b"c")
    assert not later.done


def test_failure_without_words() -> None:
    """A bare FAILURE is tried once more with fewer files open: that tells what it meant."""
    talk = Talk()
    one, two, three = (talk.open(name) for name in (b"1", b"2", b"3"))
    talk.handle(one, b"a")
    talk.handle(two, b"b")
    talk.status(three.id, FX_FAILURE, "Failure")
    fourth = talk.open(b"4")
    talk.take_sent()
    assert (three.done, talk.machine.server.learned) == (False, None)
    talk.machine.forget(one.value)
    talk.status(talk.take_sent()[0][1], 0)
    assert talk.opens() == 1
    talk.handle(three, b"c")
    assert talk.machine.server.learned == 2
    assert not fourth.done


def test_failure_that_was_meant() -> None:
    """One that fails again with fewer files open has failed; nothing is learned from it."""
    talk = Talk()
    one, two = talk.open(b"1"), talk.open(b"2")
    talk.handle(one, b"a")
    talk.status(two.id, FX_FAILURE)
    assert not two.done
    talk.machine.forget(one.value)
    talk.take_sent()
    talk.status(2, 0)
    assert talk.opens() == 1
    talk.status(two.id, FX_FAILURE)
    assert (two.done, two.status, talk.machine.server.learned) == (True, FX_FAILURE, None)


def test_failure_that_cannot_be_about_the_number() -> None:
    """Where the server has had more files open before, or has none, FAILURE stands at once."""
    talk = Talk()
    alone = talk.open(b"0")
    talk.status(alone.id, FX_FAILURE)
    assert alone.done
    one, two = talk.open(b"1"), talk.open(b"2")
    talk.handle(one, b"a")
    talk.handle(two, b"b")
    talk.take_sent()
    talk.machine.forget(one.value)
    talk.status(talk.take_sent()[0][1], 0)
    three = talk.open(b"3")
    talk.status(three.id, FX_FAILURE)
    assert three.done


def test_nobody_waits_for_a_user() -> None:
    """Beside a file that a user holds open a refusal stands; one that waits hears of it then."""
    talk = Talk()
    held, moving = talk.open(b"1", lasting=True), talk.open(b"2")
    talk.handle(held, b"a")
    talk.handle(moving, b"b")
    third = talk.open(b"3")
    talk.status(third.id, 3, "too many open files")
    assert not third.done
    fourth = talk.open(b"4", lasting=True)
    talk.machine.forget(moving.value)
    talk.take_sent()
    talk.status(4 - 1, 0)
    assert talk.opens() == 1
    talk.handle(third, b"c")
    talk.machine.forget(third.value)
    number = talk.take_sent()[-1][1]
    talk.status(number, 0)
    assert talk.opens() == 1  # it is the server that decides
    talk.handle(fourth, b"d")
    fifth = talk.open(b"5")
    assert talk.opens() == 1
    talk.status(fifth.id, 3, "too many open files")
    assert (fifth.done, fifth.errno) == (True, errno.EMFILE)


def test_ceiling_is_kept() -> None:
    """Beyond the user's ceiling nothing is sent, even where nobody will close a file."""
    talk = Talk(ServerLimits(open_files=1))
    talk.handle(talk.open(b"1", lasting=True), b"a")
    talk.take_sent()
    second = talk.open(b"2")
    assert (second.status, second.errno, talk.take_sent()) == (FX_LOCAL, errno.EMFILE, [])


def test_one_that_waits_is_given_up() -> None:
    """An OPEN that was given up while it waited is never sent; the next one is."""
    talk = Talk(ServerLimits(open_files=1))
    one = talk.open(b"1")
    talk.handle(one, b"a")
    two, three = talk.open(b"2"), talk.open(b"3")
    talk.machine.abandon(two)
    talk.take_sent()
    talk.machine.forget(one.value)
    talk.status(talk.take_sent()[0][1], 0)
    assert talk.opens() == 1
    talk.handle(three, b"c")
    assert (three.done, two.done) == (True, False)


def test_handle_given_twice() -> None:
    """Both files are closed, what was asked of the first fails, the second is opened again."""
    talk = Talk()
    one, two = talk.open(b"1", TRUNC), talk.open(b"2", TRUNC)
    talk.handle(one, b"a")
    talk.take_sent()
    write = talk.machine.write(one.value, 0, b"data")
    talk.handle(two, b"a")
    kinds = [kind for kind, _ in talk.take_sent()]
    assert kinds == [wire.WRITE, wire.CLOSE, wire.CLOSE]
    talk.status(write.id, 0)
    assert (write.status, one.value.is_lost, two.done) == (FX_LOCAL, True, False)
    assert talk.machine.write(one.value, 4, b"more").status == FX_LOCAL
    assert talk.machine.close(one.value).status == FX_LOCAL
    talk.status(write.id + 1, 0)
    assert talk.opens() == 0
    talk.status(write.id + 2, FX_FAILURE)
    assert talk.opens() == 1
    talk.handle(two, b"a")  # nobody has it now
    assert (two.value, two.value.is_lost) == (b"a", False)
    assert talk.open(b"3").done is False
    assert talk.take_sent() == []  # one at a time


def test_close_of_a_handle_given_twice() -> None:
    """A CLOSE that was under way counts as one of the two; its file is not done."""
    talk = Talk()
    one, two = talk.open(b"1", TRUNC), talk.open(b"2", TRUNC)
    talk.handle(one, b"a")
    closed = talk.machine.close(one.value)
    talk.take_sent()
    talk.handle(two, b"a")
    assert [kind for kind, _ in talk.take_sent()] == [wire.CLOSE]
    talk.status(closed.id, 0)
    assert closed.status == FX_LOCAL


def test_file_that_may_be_damaged() -> None:
    """A file that is not emptied when it is opened may have got the other's data: an error."""
    talk = Talk()
    one, two = talk.open(b"1", TRUNC), talk.open(b"2", UPDATE)
    talk.handle(one, b"a")
    talk.handle(two, b"a")
    assert (two.done, two.status, two.errno) == (True, FX_LOCAL, errno.EIO)


class Twice(FakeServer):
    """Remembers the first handle that is read from or written to, for another file to have."""

    stolen: bytes | None = None

    def reply(self, kind: int, body: bytes) -> bytes:
        """Return the right answer."""
        if kind in (wire.READ, wire.WRITE, wire.READDIR) and self.stolen is None:
            self.stolen = body[8 : 8 + int.from_bytes(body[4:8], "big")]
        if kind == wire.READDIR and body[8:] in self.listed:
            return self.status(body[:4], FX_EOF)
        return super().reply(kind, body)


def interrupted(bench: Bench, op: object, steal: FakeServer) -> object:
    """Run an operation; as soon as it reads or writes, its handle is given to another file."""
    assert isinstance(steal, Twice)
    need = next(op)  # type: ignore[call-overload]
    done = False
    while True:
        if not done and steal.stolen is not None:
            session = bench.sftp._current
            assert session is not None
            done = True
            other = session.machine.request(
                wire.OPEN, text(b"other") + pack(">I", TRUNC) + wire.encode_setting()
            )
            session.step()
            twin = packet(wire.HANDLE, pack(">I", other.id), text(steal.stolen))
            steal.waiting = [twin, *(w for w in steal.waiting if w[4] != wire.HANDLE)]
            session.machine.abandon(other)
        try:
            if hasattr(need, "call"):
                need = op.send(need.call(None))  # type: ignore[attr-defined]
            else:
                bench.pipes[-1].wake()
                need = op.send(None)  # type: ignore[attr-defined]
        except StopIteration as end:
            assert done
            return end.value


DATA = bytes(range(256)) * 4096


def test_download_begins_anew() -> None:
    """A download whose handle was given to another file fetches everything once more."""
    server = Twice(files={b"data": bytearray(DATA)}, extensions={})
    bench = Bench(server)
    sink = MemorySink()
    context = TransferContext("read", b"data", None, "")
    op = download(bench.sftp, b"data", sink, context, bench.clock, None)
    assert interrupted(bench, op, server) == len(DATA)
    assert sink.data == DATA
    assert bench.sftp.server.gives_handles_twice


def test_upload_begins_anew() -> None:
    """An upload likewise; it is not done before its own file has all."""
    server = Twice(extensions={})
    bench = Bench(server)
    context = TransferContext("write", None, b"data", "")
    op = upload(bench.sftp, lambda: MemorySource(DATA), b"data", context, bench.clock, None)
    assert interrupted(bench, op, server) == len(DATA)
    assert server.files[b"data"] == DATA


def test_list_begins_anew() -> None:
    """A list of names is fetched again, and has each name once."""
    names = [(b"name%d" % number, 0o100644) for number in range(5)]
    server = Twice(folders={b"folder": names}, extensions={})
    bench = Bench(server)
    op = list_names(bench.sftp, b"folder", lambda name: name.name)
    assert interrupted(bench, op, server) == [name for name, _ in names]


@pytest.mark.parametrize("size", [10, 50_000])
def test_stream_at_a_size_that_is_no_end(size: int) -> None:
    """An error of a read that does not reach past the end is an error."""
    server = FakeServer(files={b"data": bytearray(size)}, extensions={})
    server.twist = lambda kind, body, reply: (
        server.status(body[:4], FX_FAILURE) if kind == wire.READ else reply
    )
    bench = Bench(server)
    handle = bench.run(open_handle(bench.sftp, b"data", wire.FXF_READ))
    stream = Stream(handle)
    with pytest.raises(SFTPError):
        bench.run(stream.read_into(0, memoryview(bytearray(size))))
    assert bench.run(stream.read_into(size, memoryview(bytearray(9)))) == 0


def test_openssh_says_eof() -> None:
    """At OpenSSH an error of a read is one, also of a file that is said to be empty (/proc)."""
    server = FakeServer(files={b"mem": bytearray()})
    server.extensions[b"fstatvfs@openssh.com"] = b"2"
    server.twist = lambda kind, body, reply: (
        server.status(body[:4], FX_FAILURE) if kind == wire.READ else reply
    )
    bench = Bench(server)
    bench.sftp.server.sshd_is_openssh = True
    context = TransferContext("read", b"mem", None, "")
    with pytest.raises(SFTPError):
        bench.run(download(bench.sftp, b"mem", MemorySink(), context, bench.clock, None))


def test_eof_is_no_refusal() -> None:
    """EOF where an OPEN was asked for is no word about open files."""
    assert classify_open_refusal(FX_EOF, "") is OpenRefusal.NOTHING
