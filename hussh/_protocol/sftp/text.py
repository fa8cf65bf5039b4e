"""A text file for tasks: what `io.TextIOWrapper` is for threads.

`_api` wraps it for `AsyncSFTP.open`. Encodings, error handlers and newlines are those of the
built-in `open`. Positions are byte offsets. Where the decoder is in the middle of something there
is no position, and `tell` says so.
"""

from __future__ import annotations

import codecs
import io
import re
from typing import Any

from ..core import Op
from .buffer import Buffered, Lines

__all__ = ["Text"]

#: The state of a decoder that needs not know what came before; in UTF-16: the byte order.
_CLEAN = (b"", 0)
_ANY_END = re.compile(r"\r\n|\n|\r")


class Text(Lines[str]):
    """A text file; the arguments are those of the built-in `open`."""

    def __init__(
        self,
        file: Buffered,
        encoding: str | None,
        errors: str | None,
        newline: str | None,
        line_buffering: bool,
    ) -> None:
        if newline not in (None, "", "\n", "\r", "\r\n"):
            raise ValueError(f"illegal newline value: {newline!r}")
        self.buffer = file
        codec = codecs.lookup(encoding or "utf-8")
        if codec.incrementaldecoder is None or codec.incrementalencoder is None:
            raise LookupError(f"{codec.name} cannot be used for files")
        self._encoder = codec.incrementalencoder(errors or "strict")
        inner = codec.incrementaldecoder(errors or "strict")
        self._decoder: Any = inner
        if not newline:
            self._decoder = io.IncrementalNewlineDecoder(inner, translate=newline is None)
        self._newline = newline
        self._line_buffering = line_buffering
        self._begin_at(file.tell())

    def _begin_at(self, place: int) -> None:
        if place:  # no byte order mark there
            self._decoder.setstate(_CLEAN)
            self._encoder.setstate(0)
        else:
            self._decoder.reset()
            self._encoder.reset()
        self._forget_text()
        self._ended = False

    def _forget_text(self) -> None:
        self._text = ""  # decoded and not dropped; what is before `_used` was returned
        self._used = 0
        self._dropped = 0  # characters before `_text` that were decoded since the snapshot
        self._raw: list[bytes] = []  # what was decoded since then
        self._snapshot: tuple[int, Any] | None = None  # offset, and state of the decoder there

    # -- reading

    def read(self, size: int | None = -1) -> Op[str]:
        """Read up to `size` characters, fewer only at the end; -1 and None mean everything."""
        most = size if size is not None and size >= 0 else None
        more: list[str] = []
        count = len(self._text) - self._used
        try:
            while most is None or count < most:
                part = yield from self._fill(fresh=not more)
                if part is None:
                    break
                more.append(part)
                count += len(part)
        finally:
            self._add(more)
        return self._take(count if most is None else min(most, count))

    def readline(self, size: int = -1) -> Op[str]:
        """Read up to and with the end of the line; the last line may lack that."""
        more: list[str] = []
        count = len(self._text) - self._used
        end = self._find_line_end(self._text, self._used) - self._used
        try:
            while end <= 0 and (size < 0 or count < size):
                part = yield from self._fill(fresh=not more)
                if part is None:
                    end = count
                    break
                if self._newline == "\r\n":  # it may lie across the border
                    self._add([part])
                    end = self._find_line_end(self._text, self._used) - self._used
                else:
                    more.append(part)
                    found = self._find_line_end(part, 0)
                    end = count + found if found > 0 else 0
                count += len(part)
        finally:
            self._add(more)
        end = end if end > 0 else count
        return self._take(end if size < 0 else min(end, size))

    def get_cached_line(self) -> str | None:
        end = self._find_line_end(self._text, self._used)
        return self._take(end - self._used) if end > 0 else None

    def _find_line_end(self, text: str, start: int) -> int:
        """Return the index after the end of the line, or -1."""
        if self._newline == "":
            match = _ANY_END.search(text, start)
            return match.end() if match is not None else -1
        end = self._newline or "\n"
        found = text.find(end, start)
        return found + len(end) if found >= 0 else -1

    def _fill(self, *, fresh: bool) -> Op[str | None]:
        """Return more text, which may be empty; None at the end of the file.

        `fresh` says that nobody holds text that is not in `_text`.
        """
        if self._ended:
            self._ended = False  # the file may have grown at the next call
            return None
        before: tuple[int, Any] | None = None
        if fresh and self._used == len(self._text) and not self._decoder.getstate()[0]:
            before = self.buffer.tell(), self._decoder.getstate()
        data = yield from self.buffer.read1()
        text: str = self._decoder.decode(data, final=not data)
        if before is not None:
            self._snapshot = before
            self._raw.clear()
            self._text, self._used, self._dropped = "", 0, 0
        self._raw.append(data)
        self._ended = not data and bool(text)
        return text if data or text else None

    def _add(self, parts: list[str]) -> None:
        if parts:
            self._dropped += self._used
            self._text = self._text[self._used :] + "".join(parts)
            self._used = 0

    def _take(self, count: int) -> str:
        taken = self._text[self._used : self._used + count]
        self._used += count
        if self._used == len(self._text) and self._decoder.getstate() == _CLEAN:
            self._forget_text()  # decoding can begin anew from here
        return taken

    # -- places

    def tell(self) -> int:
        """Return an offset that `seek` takes.

        Raises:
            OSError: the position has none: between the bytes of one character, or where the
                encoding depends on what came before.
        """
        if self._snapshot is None:
            return self.buffer.tell()
        now = self._decoder.getstate()
        offset, state = self._snapshot
        raw, consumed = b"".join(self._raw), self._dropped + self._used
        try:
            low, high = 0, len(raw)
            while low < high:  # the fewest bytes that give so many characters
                middle = (low + high) // 2
                if self._count_decoded(raw[:middle], state) < consumed:
                    low = middle + 1
                else:
                    high = middle
            exact = self._count_decoded(raw[:low], state) == consumed
            clean = self._decoder.getstate() == _CLEAN or not offset + low
        finally:
            self._decoder.setstate(now)
        if not exact or not clean:
            raise OSError("this place in the text has no offset")
        return offset + low

    def _count_decoded(self, data: bytes, state: Any) -> int:
        self._decoder.setstate(state)
        return len(self._decoder.decode(data))

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> Op[int]:
        """Go to an offset of `tell`, or to the beginning or end."""
        if whence != io.SEEK_SET and offset:
            raise io.UnsupportedOperation("text can only be sought from the beginning")
        if whence == io.SEEK_CUR:
            offset, whence = self.tell(), io.SEEK_SET
        place = yield from self.buffer.seek(offset, whence)
        self._begin_at(place)
        return place

    # -- writing

    def write(self, data: Any) -> Op[int]:
        """Take all of it; return the number of characters."""
        if not isinstance(data, str):
            raise TypeError(f"text is written as str, not {type(data).__name__}")
        self.buffer.file.check_writable()
        if self._snapshot is not None:
            yield from self.seek(self.tell())
        text = data
        if self._newline in ("\r", "\r\n"):
            text = data.replace("\n", self._newline)
        yield from self.buffer.write(self._encoder.encode(text))
        if self._line_buffering and ("\n" in text or "\r" in text):
            yield from self.buffer.flush()
        return len(data)

    def truncate(self, size: int | None = None) -> Op[int]:
        """Cut or extend the file to so many bytes, to the position for None."""
        return (yield from self.buffer.truncate(self.tell() if size is None else size))
