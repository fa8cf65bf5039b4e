"""Follows a file over SFTP: returns what was added to it, across truncation and rotation.

`FileTailer` and `AsyncFileTailer` run it. It runs one operation at a time. An operation that is
cancelled or fails changes nothing.
"""

from __future__ import annotations

import codecs
import stat as stat_modes
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

from ..._policy.sftp import SFTPAttributes
from ..core import Op
from .ops import open_handle, stat
from .session import SftpState
from .size import find_size
from .stream import Stream
from .wire import FXF_READ

__all__ = ["Tail"]

CHUNK = 1 << 20


class _State(NamedTuple):
    """The file that is open now, and how far it was read.

    Attributes:
        began: the offset at which the part since the beginning starts.
        before: what came since the beginning in files that have been replaced.
        read_to: the offset of what was not read yet.
        seen: how long the file was at least; a shorter one has been cut.
    """

    stream: Stream
    began: int = 0
    before: bytes = b""
    read_to: int = 0
    seen: int = 0


class Tail:
    """A file that is followed.

    Args:
        start: offset at which the followed part begins; None means its end at `begin`.

    Attributes:
        last_pos: the offset in bytes up to which was read.
    """

    def __init__(self, sftp: SftpState, path: bytes, start: int | None = None) -> None:
        self.last_pos = 0
        self._sftp = sftp
        self._path = path
        self._start = start
        self._state: _State | None = None
        self._past = 0, b"", 0  # `began`, `before` and `seen` of a file that was closed
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def begin(self) -> Op[None]:
        """Note the end of the file: what comes from here on is new."""
        try:
            state = yield from self._open_file()
            end = yield from find_size(state.stream.handle)
        except BaseException:
            self.close()
            raise
        began = end if self._start is None else self._start
        self._keep(state._replace(began=began, before=b"", read_to=end, seen=end))

    def seek_end(self) -> Op[int]:
        """Skip to the present end of the file; return that offset."""
        state, end = yield from _measure((yield from self._open_file()))
        self._keep(state._replace(read_to=end))
        self._decoder.reset()
        return self.last_pos

    def read(self, from_pos: int | None = None) -> Op[str]:
        """Return what was added since the last read, or everything from an offset on."""
        rest, state = b"", (yield from self._open_file())
        if from_pos is None:
            rest, state = yield from self._move_on(state)
        with self._undo_on_error(state):
            state, end = yield from _measure(state)
            if from_pos is not None:
                state = state._replace(read_to=from_pos)
            added = yield from _read_contents(state.stream, state.read_to)
        if from_pos is not None:
            self._decoder.reset()
        read_to = state.read_to + len(added)
        # An offset beyond the end stays where it is, as in a local file.
        self._keep(state._replace(read_to=read_to, seen=read_to if added else end))
        return self._decoder.decode(rest + added)

    def end(self) -> Op[str]:
        """Return all that came since the beginning."""
        _, state = yield from self._move_on((yield from self._open_file()))
        with self._undo_on_error(state):
            state, _ = yield from _measure(state)
            added = yield from _read_contents(state.stream, state.began)
        read_to = state.began + len(added)
        self._keep(state._replace(read_to=read_to, seen=read_to))
        return (state.before + added).decode("utf-8", "replace")

    def close(self) -> None:
        """Close the file, without waiting; a second call does nothing."""
        state, self._state = self._state, None
        if state is not None:
            self._past = state.began, state.before, state.seen
            state.stream.drop()
            state.stream.handle.forget()

    def _open_file(self) -> Op[_State]:
        if self._state is not None and self._state.stream.handle.is_lost:
            self.close()
        if self._state is None:
            stream = Stream((yield from open_handle(self._sftp, self._path, FXF_READ)))
            began, before, seen = self._past
            self._state = _State(stream, began, before, self.last_pos, seen)
        return self._state

    def _move_on(self, state: _State) -> Op[tuple[bytes, _State]]:
        """Return the rest of a file that another has replaced, and that other file.

        SFTP tells no inode numbers. The file under the name is the open one if its size and time
        lie between what the open one had before and has after.
        """
        old = state.stream
        before = yield from old.handle.fetch_attributes()
        try:
            named = yield from stat(self._sftp, self._path)
        except FileNotFoundError:
            return b"", state  # moved away, and the new one is not there yet
        if named.st_mode is not None and stat_modes.S_ISDIR(named.st_mode):
            return b"", state  # it cannot be read; another file may come yet
        after = yield from old.handle.fetch_attributes()
        if _is_between(before, named, after):
            return b"", state
        rest = yield from _read_contents(old, state.read_to)
        since = yield from _read_contents(old, state.began)
        new = Stream((yield from open_handle(self._sftp, self._path, FXF_READ)))
        return rest, _State(new, before=state.before + since)

    def _keep(self, state: _State) -> None:
        """Keep the state after a successful step."""
        before, self._state = self._state, state
        self.last_pos = state.read_to
        if before is not None and before.stream is not state.stream:
            before.stream.drop()
            before.stream.handle.forget()

    @contextmanager
    def _undo_on_error(self, state: _State) -> Generator[None, None, None]:
        """Close a file that was opened meanwhile, if what is inside raises."""
        try:
            yield
        except BaseException:
            if self._state is None or state.stream is not self._state.stream:
                state.stream.handle.forget()
            raise


def _read_contents(stream: Stream, start: int) -> Op[bytes]:
    """Return everything from an offset to the end."""
    parts = []
    view = memoryview(bytearray(CHUNK))
    while count := (yield from stream.read_into(start, view)):
        parts.append(bytes(view[:count]))
        start += count
    return b"".join(parts)


def _measure(state: _State) -> Op[tuple[_State, int]]:
    """Return the file as it is now, and its length; if it was cut short, all of it is new."""
    size = yield from find_size(state.stream.handle, near=state.seen)
    if size < state.seen:
        state = state._replace(began=0, read_to=0)
    return state._replace(seen=size), size


def _is_between(low: SFTPAttributes, value: SFTPAttributes, high: SFTPAttributes) -> bool:
    return (low.st_size or 0) <= (value.st_size or 0) <= (high.st_size or 0) and (
        low.st_mtime or 0
    ) <= (value.st_mtime or 0) <= (high.st_mtime or 0)
