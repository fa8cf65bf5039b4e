"""An SFTP server of version 3 with the oddities that its arguments name, for sshd's ``Subsystem``.

`odd_server` starts an sshd that has it; below that, this is the program itself, which runs as the
user who has logged in and knows nothing of hussh: it serves the real file system by the calls of
`os`.  Every oddity is one that a server in the field has (docs/servers.md), or that a hostile
one may have.

    no-types          permissions come without the bits for the type
    no-permissions    attributes have no permissions at all
    no-sizes          nor sizes
    no-longnames      listings have the name where others have a line of ``ls -l``
    draft-links       SYMLINK takes the link before its target
    no-setstat        SETSTAT and FSETSTAT are not supported
    vague-mkdir       MKDIR answers FAILURE whatever is wrong
    denied-mkdir      MKDIR answers PERMISSION_DENIED whatever is wrong
    evil-names        every listing has names that no directory can contain
    endless=N         every directory has N directories, for ever
    keeps-sizes       SETSTAT and FSETSTAT succeed, and change no size
    no-enoent         FAILURE where others say NO_SUCH_FILE, except to STAT and LSTAT
    late-writes       a WRITE is executed after all that comes within a tenth of a second
    listings-follow   listings tell of what links lead to
    wide              a list is one message, and comes again and again without an end
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import stat
import struct
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from tests.support.sshd import Sshd

EVIL = [b"../evil", b"/etc/evil", b"a/b", b"", b"a\0b"]
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
_CODES = {errno.ENOENT: 2, errno.EACCES: 3, errno.EPERM: 3}
_LETTERS = {stat.S_IFDIR: "d", stat.S_IFLNK: "l", stat.S_IFREG: "-"}


def odd_server(sshd_factory: Callable[..., Sshd], *oddities: str, **settings: Any) -> Sshd:
    """Start an sshd whose SFTP is odd."""
    settings.setdefault("name", "odd")
    # Its configuration is not read before it logs somebody in, so the program may follow.
    options = {"Subsystem": f"sftp /usr/bin/python3 -I ./.odd_sftp.py {' '.join(oddities)}"}
    server = sshd_factory(options=options, **settings)
    for account in server.accounts.values():
        copy = account.files / ".odd_sftp.py"
        shutil.copy(__file__, copy)
        copy.chmod(0o644)
    return server


def text(value: bytes) -> bytes:
    """Return a string of the wire."""
    return struct.pack(">I", len(value)) + value


class Server:
    """One session."""

    def __init__(self, oddities: list[str], source: BinaryIO, sink: BinaryIO) -> None:
        """Prepare."""
        self.odd = {name.partition("=")[0]: name.partition("=")[2] for name in oddities}
        self.source = source
        self.sink = sink
        self.handles: dict[bytes, Any] = {}
        self.count = 0
        self.late: list[tuple[bytes, bytes]] = []

    def run(self) -> None:
        """Serve until the end of the stream."""
        while len(head := self.read(4)) == 4:
            body = self.read(struct.unpack(">I", head)[0])
            kind, body = body[0], body[1:]
            if kind == 6 and "late-writes" in self.odd:
                self.late.append((body[:4], body[4:]))
                continue
            if kind == 1:
                self.send(2, struct.pack(">I", 3))
                continue
            self.try_answer(kind, body[:4], body[4:])

    def read(self, size: int) -> bytes:
        """Read so many bytes, fewer at the end of the stream."""
        while self.late and not select.select([self.source], [], [], 0.1)[0]:
            self.try_answer(6, *self.late.pop(0))
        data = bytearray()
        while len(data) < size and (part := self.source.read(size - len(data))):
            data += part
        return bytes(data)

    def try_answer(self, kind: int, number: bytes, body: bytes) -> None:
        """Answer one request, by a refusal if it fails."""
        try:
            self.answer(kind, number, body)
        except (OSError, KeyError) as error:
            is_vague = "no-enoent" in self.odd and kind not in (7, 17)
            self.status(number, 4 if is_vague else _CODES.get(getattr(error, "errno", 0), 4))

    def send(self, kind: int, body: bytes) -> None:
        """Send a message."""
        self.sink.write(struct.pack(">IB", len(body) + 1, kind) + body)
        self.sink.flush()

    def status(self, number: bytes, code: int) -> None:
        """Answer with a status that has no words."""
        self.send(STATUS, number + struct.pack(">I", code) + text(b"") + text(b""))

    def attributes(self, info: os.stat_result) -> bytes:
        """Return attributes, as far as this server tells them."""
        flags, body = 0, b""
        if "no-sizes" not in self.odd:
            flags, body = 1, struct.pack(">Q", info.st_size)
        if "no-permissions" not in self.odd:
            mode = stat.S_IMODE(info.st_mode) if "no-types" in self.odd else info.st_mode
            flags, body = flags | 4, body + struct.pack(">I", mode)
        flags, body = flags | 8, body + struct.pack(">II", int(info.st_atime), int(info.st_mtime))
        return struct.pack(">I", flags) + body

    def longname(self, name: bytes, info: os.stat_result) -> bytes:
        """Return what `ls -l` would print, or the mere name."""
        if "no-longnames" in self.odd:
            return name
        return stat.filemode(info.st_mode).encode() + b"    1 alice    alice   0 Jan 1 " + name

    def names(self, number: bytes, entries: list[tuple[bytes, bytes, bytes]]) -> None:
        """Answer with a list of names, long names and attributes."""
        parts = [text(name) + text(longname) + attrs for name, longname, attrs in entries]
        self.send(NAME, number + struct.pack(">I", len(parts)) + b"".join(parts))

    def give(self, number: bytes, thing: Any) -> None:
        """Answer with a new handle."""
        self.count += 1
        handle = b"%d" % self.count
        self.handles[handle] = thing
        self.send(HANDLE, number + text(handle))

    def listing(self, path: bytes) -> list[tuple[bytes, bytes, bytes]]:
        """Return the entries of a directory."""
        if "endless" in self.odd:
            info = os.stat(b".")
            attrs, count = self.attributes(info), int(self.odd["endless"])
            each = [b"d%d" % number for number in range(count)]
            return [(name, self.longname(name, info), attrs) for name in each]
        look = os.stat if "listings-follow" in self.odd else os.lstat
        found = [(name, look(os.path.join(path, name))) for name in os.listdir(path)]
        if "evil-names" in self.odd:
            found += [(name, os.stat(b".")) for name in EVIL]
        return [(name, self.longname(name, info), self.attributes(info)) for name, info in found]

    def answer(self, kind: int, number: bytes, body: bytes) -> None:
        """Answer one request."""
        size = struct.unpack_from(">I", body)[0]
        first, rest = body[4 : 4 + size], body[4 + size :]
        endless = "endless" in self.odd
        if kind == 3:  # OPEN
            flags = struct.unpack_from(">I", rest)[0]
            how = {1: os.O_RDONLY, 2: os.O_WRONLY, 3: os.O_RDWR}[flags & 3]
            how |= os.O_APPEND * bool(flags & 4) | os.O_CREAT * bool(flags & 8)
            how |= os.O_TRUNC * bool(flags & 16) | os.O_EXCL * bool(flags & 32)
            self.give(number, os.open(first, how, 0o644))
        elif kind == 4:  # CLOSE
            thing = self.handles.pop(first)
            if isinstance(thing, int):
                os.close(thing)
            self.status(number, 0)
        elif kind == 5:  # READ
            offset, size = struct.unpack_from(">QI", rest)
            data = os.pread(self.handles[first], size, offset)
            if data:
                self.send(DATA, number + text(data))
            else:
                self.status(number, 1)
        elif kind == 6:  # WRITE
            (offset,) = struct.unpack_from(">Q", rest)
            os.pwrite(self.handles[first], rest[12:], offset)
            self.status(number, 0)
        elif kind in (7, 17):  # LSTAT, STAT
            info = os.stat(b"." if endless else first, follow_symlinks=kind == 17)
            self.send(ATTRS, number + self.attributes(info))
        elif kind == 8:  # FSTAT
            self.send(ATTRS, number + self.attributes(os.fstat(self.handles[first])))
        elif kind in (9, 10):  # SETSTAT, FSETSTAT
            if "no-setstat" in self.odd:
                self.status(number, 8)
                return
            thing = first if kind == 9 else self.handles[first]
            self.set(thing, rest)
            self.status(number, 0)
        elif kind == 11:  # OPENDIR
            self.give(number, self.listing(first))
        elif kind == 12:  # READDIR
            entries = self.handles[first]
            if "wide" not in self.odd:
                entries, self.handles[first] = entries[:100], entries[100:]
            if entries:
                self.names(number, entries)
            else:
                self.status(number, 1)
        elif kind == 14:  # MKDIR
            try:
                os.mkdir(first)
            except OSError:
                if "denied-mkdir" in self.odd or "vague-mkdir" in self.odd:
                    self.status(number, 3 if "denied-mkdir" in self.odd else 4)
                    return
                raise
            self.status(number, 0)
        elif kind in (13, 15):  # REMOVE, RMDIR
            (os.remove if kind == 13 else os.rmdir)(first)
            self.status(number, 0)
        elif kind == 16:  # REALPATH
            self.names(number, [(first if endless else os.path.realpath(first), b"", bytes(4))])
        elif kind == 18:  # RENAME
            os.rename(first, rest[4:])
            self.status(number, 0)
        elif kind == 19:  # READLINK
            self.names(number, [(os.readlink(first), b"", bytes(4))])
        elif kind == 20:  # SYMLINK
            second = rest[4:]
            if "draft-links" in self.odd:
                os.symlink(second, first)
            else:
                os.symlink(first, second)
            self.status(number, 0)
        else:
            self.status(number, 8)

    def set(self, thing: Any, body: bytes) -> None:
        """Set attributes."""
        flags, at = struct.unpack_from(">I", body)[0], 4
        if flags & 1:
            if "keeps-sizes" not in self.odd:
                os.truncate(thing, struct.unpack_from(">Q", body, at)[0])
            at += 8
        at += 8 if flags & 2 else 0
        if flags & 4:
            os.chmod(thing, struct.unpack_from(">I", body, at)[0])
            at += 4
        if flags & 8:
            os.utime(thing, struct.unpack_from(">II", body, at))


if __name__ == "__main__":
    with open(0, "rb", buffering=0) as unbuffered:
        Server(sys.argv[1:], unbuffered, sys.stdout.buffer).run()
