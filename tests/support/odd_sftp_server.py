"""A small SFTP server with one oddity of your choice, run by a real sshd as its subsystem.

`start_odd_server` starts such an sshd. The rest is a program of its own that any Python runs:
it speaks version 3 over stdin and stdout and serves real files. It has no extension of OpenSSH's,
so nothing about it is known beforehand.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from struct import pack, unpack_from
from typing import Any

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = range(1, 11)
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME = range(11, 19)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EOF, NO_SUCH_FILE, DENIED, FAILURE, UNSUPPORTED = 1, 2, 3, 4, 8


def start_odd_server(sshd_factory: Callable[..., Any], **oddity: Any) -> Any:
    """Start an sshd whose SFTP server is this program.

    Args:
        sshd_factory: the fixture.
        oddity: `max_open` (files) and `refusal` (status and words of the one too many);
            `past_end` ("from_end": a READ at the end fails; "across": one that reaches past
            it does); `one_handle` (every open file has the same handle); `answers` (so many
            READs and WRITEs are answered, then none); `peak` (a name in alice's home: a file
            that says how many files were open at once).
    """
    python = os.path.realpath(sys.executable)
    options = {"Subsystem": f"sftp exec {python} -I odd_sftp_server.py"}
    server = sshd_factory(options=options)
    home = server.alice.files
    (home / "odd_sftp_server.py").write_bytes(Path(__file__).read_bytes())
    (home / "oddity.json").write_text(json.dumps(oddity))
    for path in home.iterdir():
        path.chmod(0o644)
    return server


class Refused(Exception):
    """A status and what the server says to it."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def text(value: bytes) -> bytes:
    return pack(">I", len(value)) + value


class Server:
    """One session."""

    def __init__(self, oddity: dict[str, Any]) -> None:
        self.max_open: int = oddity.get("max_open", 1 << 30)
        self.refusal: list[Any] = oddity.get("refusal", [FAILURE, "too many open files"])
        self.past_end: str = oddity.get("past_end", "")
        self.one_handle: bool = oddity.get("one_handle", False)
        self.answers: int = oddity.get("answers", 1 << 30)
        self.peak_file: str = oddity.get("peak", "")
        self.peak = self.count = 0
        self.open: list[tuple[bytes, Any]] = []  # handle, and an fd or names; the newest first

    def run(self) -> None:
        while len(head := sys.stdin.buffer.read(4)) == 4:
            message = sys.stdin.buffer.read(int.from_bytes(head, "big"))
            reply = self.reply(message[0], message[1:])
            if reply:
                sys.stdout.buffer.write(text(reply))
                sys.stdout.buffer.flush()

    def reply(self, kind: int, body: bytes) -> bytes:
        if kind == INIT:
            return bytes([VERSION]) + pack(">I", 3)
        if kind in (READ, WRITE):
            self.answers -= 1
            if self.answers < 0:
                return b""
        number = body[:4]
        try:
            what, answer = self.answer(kind, body[4:])
        except Refused as error:
            what, answer = STATUS, pack(">I", error.status) + text(error.text.encode())
            answer += text(b"")
        except FileNotFoundError:
            what, answer = STATUS, pack(">I", NO_SUCH_FILE) + text(b"") + text(b"")
        except OSError:
            what, answer = STATUS, pack(">I", FAILURE) + text(b"Failure") + text(b"")
        return bytes([what]) + number + answer

    def answer(self, kind: int, body: bytes) -> tuple[int, bytes]:
        size = int.from_bytes(body[:4], "big")
        first, rest = body[4 : 4 + size], body[4 + size :]
        if kind == OPEN:
            return HANDLE, text(self.opened(self.open_file(first, rest)))
        if kind == OPENDIR:
            self.check_room()
            return HANDLE, text(self.opened(os.listdir(first)))
        if kind in (READ, WRITE, FSTAT, FSETSTAT, READDIR, CLOSE):
            return self.about(kind, first, rest)
        if kind in (STAT, LSTAT):
            return ATTRS, attributes(os.stat(first) if kind == STAT else os.lstat(first))
        if kind == REALPATH:
            return NAME, pack(">I", 1) + text(os.path.realpath(first)) + text(b"") + pack(">I", 0)
        if kind == MKDIR:
            os.mkdir(first)
        elif kind == SETSTAT:
            self.cut(first, rest)
        else:
            raise Refused(UNSUPPORTED)
        return STATUS, pack(">I", 0) + text(b"") + text(b"")

    def cut(self, what: Any, rest: bytes) -> None:
        if unpack_from(">I", rest)[0] & 1:  # other attributes are ignored
            os.truncate(what, unpack_from(">Q", rest, 4)[0])

    def check_room(self) -> None:
        if len(self.open) >= self.max_open:
            raise Refused(*self.refusal)

    def open_file(self, path: bytes, rest: bytes) -> int:
        self.check_room()
        flags = unpack_from(">I", rest)[0]
        mode = (os.O_RDONLY, os.O_RDONLY, os.O_WRONLY, os.O_RDWR)[flags & 3]
        for bit, flag in ((4, os.O_APPEND), (8, os.O_CREAT), (16, os.O_TRUNC), (32, os.O_EXCL)):
            mode |= flag if flags & bit else 0
        return os.open(path, mode, 0o644)

    def opened(self, what: Any) -> bytes:
        self.count += 1
        handle = b"0" if self.one_handle else b"%d" % self.count
        self.open.insert(0, (handle, what))
        if len(self.open) > self.peak:
            self.peak = len(self.open)
            if self.peak_file:
                Path(self.peak_file).write_text(str(self.peak))
        return handle

    def about(self, kind: int, handle: bytes, rest: bytes) -> tuple[int, bytes]:
        place = next((n for n, (name, _) in enumerate(self.open) if name == handle), -1)
        if place < 0:
            raise Refused(FAILURE, "no such handle")
        what = self.open[place][1]
        if kind == CLOSE:
            del self.open[place]
            if isinstance(what, int):
                os.close(what)
        elif kind == READDIR:
            if not isinstance(what, list):
                raise Refused(FAILURE)
            if not what:
                raise Refused(EOF)
            names = [text(name) * 2 + pack(">I", 0) for name in what]
            what.clear()
            return NAME, pack(">I", len(names)) + b"".join(names)
        elif not isinstance(what, int):
            raise Refused(FAILURE)
        elif kind == FSETSTAT:
            self.cut(what, rest)
        elif kind == FSTAT:
            return ATTRS, attributes(os.fstat(what))
        elif kind == READ:
            return DATA, text(self.read(what, *unpack_from(">QI", rest)))
        elif kind == WRITE:
            os.pwrite(what, rest[12:], unpack_from(">Q", rest)[0])
        return STATUS, pack(">I", 0) + text(b"") + text(b"")

    def read(self, fd: int, offset: int, size: int) -> bytes:
        end = os.fstat(fd).st_size
        if self.past_end == "across" and offset + size > end:
            raise Refused(FAILURE, "read past the end")
        data = os.pread(fd, size, offset)
        if not data:
            raise Refused(FAILURE, "bad offset") if self.past_end else Refused(EOF)
        return data


def attributes(info: os.stat_result) -> bytes:
    """Return size and mode."""
    mode = stat.S_IFMT(info.st_mode) | 0o755
    return pack(">IQI", 5, info.st_size, mode)


if __name__ == "__main__":
    Server(json.loads(Path("oddity.json").read_text())).run()
