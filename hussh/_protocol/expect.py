"""Waits for a pattern in the output of a shell, as pexpect does.

`_api` runs `expect` for shells. Output is searched once, in portions, with an overlap for what lies
across their borders. So a long output costs no more than its length, and a match may be as long as
the overlap. Text is decoded so that a character may be split between portions, and positions in the
text are positions in the bytes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from .._native.channel import Channel
from .._policy.expect_match import ExpectMatch
from .._policy.merged_output import MergedOutput
from .._results.ssh_result import SSHResult
from ..errors import ExpectEOF, ExpectTimeout, HusshError, printable
from .channel import note_result
from .core import Checkpoint, DeadlineExceeded, Op
from .process import get_exit, read_any

__all__ = ["MAX_BEFORE", "OVERLAP", "AnyPattern", "Compiled", "check_max_before", "check_patterns",
           "expect"]  # fmt: skip

#: The longest match that is found for certain, in bytes.
OVERLAP = 1 << 16
#: Bytes that are searched in one step.
PORTION = 1 << 18
#: Most bytes that are kept of what came before a match.
MAX_BEFORE = 16 << 20
#: Keeps bytes that are no UTF-8 apart from all characters, each as one.
ESCAPE = "surrogateescape"

Compiled = re.Pattern[str] | re.Pattern[bytes]
AnyPattern = str | bytes | Compiled


def check_patterns(
    pattern: AnyPattern | Sequence[AnyPattern], *, is_exact: bool = False
) -> list[Compiled]:
    """Return the patterns, compiled; `is_exact` takes them as they are, and no regex.

    Raises:
        TypeError, ValueError: it is no pattern, or an empty list.
    """
    given = pattern if isinstance(pattern, list | tuple) else [pattern]
    if not given:
        raise ValueError("expect needs a pattern")
    return [_compile(each, is_exact=is_exact) for each in given]


def check_max_before(max_before: object) -> int:
    """Return the most bytes to keep of what comes before a match."""
    if isinstance(max_before, bool) or not isinstance(max_before, int):
        raise TypeError(f"max_before must be an int, not {type(max_before).__name__}")
    if max_before < 0:
        raise ValueError("max_before must not be negative")
    return max_before


def _compile(pattern: Any, *, is_exact: bool) -> Compiled:
    if isinstance(pattern, str | bytes):
        if not pattern:
            raise ValueError("an empty pattern matches everything")
        source: Any = pattern
        compiled: Compiled = re.compile(re.escape(source) if is_exact else source, re.DOTALL)
        return compiled
    if isinstance(pattern, re.Pattern) and not is_exact:
        return pattern
    kinds = "str or bytes" if is_exact else "str, bytes, a compiled pattern"
    raise TypeError(f"a pattern must be {kinds}, not {type(pattern).__name__}")


class _Search:
    """The search for the first of some patterns in output that grows."""

    def __init__(self, patterns: Sequence[Compiled]) -> None:
        self.patterns = patterns
        self.done = 0  # bytes that were searched

    def look(self, data: bytearray, *, is_whole: bool) -> tuple[int, int, int, Any] | None:
        """Search one more portion; return start, end, the pattern's number and the match.

        Args:
            is_whole: whether nothing follows the data.
        """
        begin = max(0, self.done - OVERLAP)
        context = min(begin, 1)  # so that ^ knows whether a line begins there
        end = min(len(data), self.done + PORTION)
        window = bytes(data[begin - context : end])
        is_whole = is_whole and end == len(data)
        text: str | None = None
        best: tuple[int, int, int, Any] | None = None
        for number, pattern in enumerate(self.patterns):
            if isinstance(pattern.pattern, bytes):
                found: Any = pattern.search(window, context)
                span = found.span() if found else None
            else:
                if text is None:
                    text = codecs.getincrementaldecoder("utf-8")(ESCAPE).decode(window, is_whole)
                found = pattern.search(text, context)
                span = found and tuple(
                    len(text[:at].encode("utf-8", ESCAPE)) for at in found.span()
                )
            if span is not None and (best is None or span[0] < best[0]):
                best = (*span, number, found)
        self.done = end
        if best is None:
            return None
        offset = begin - context
        return best[0] + offset, best[1] + offset, best[2], best[3]


def expect(
    channel: Channel,
    seen: MergedOutput,
    patterns: Sequence[Compiled],
    max_before: int,
    time_limit: str,
) -> Op[ExpectMatch]:
    """Wait until one of the patterns has come; take it, and what came before it, from `seen`.

    Of several patterns the one that begins first counts, and of those the first in the list.

    Args:
        max_before: most bytes to keep of what came before; the oldest go.
        time_limit: the limit as the error words it.

    Raises:
        ExpectTimeout, ExpectEOF: it did not come; `seen` keeps what came.
    """
    search = _Search(patterns)
    is_truncated = is_whole = False
    try:
        while True:
            while search.done < len(seen):
                found = search.look(seen.data, is_whole=is_whole)
                if found is not None:
                    start, end, number, match = found
                    if start > max_before:
                        is_truncated = True
                        seen.take(start - max_before)
                    before, after = seen.take(min(start, max_before)), seen.take(end - start)
                    return ExpectMatch(before, after, number, match, is_truncated)
                yield Checkpoint()
            too_many = len(seen) - max(max_before, OVERLAP)
            if too_many > 0:
                is_truncated = True
                seen.take(too_many)
                search.done -= too_many
            if is_whole:
                text = f"{_name(patterns)} has not come, and the shell has ended{_show_tail(seen)}"
                raise ExpectEOF(text, result=_copy_output(seen, channel))
            if not (yield from read_any(channel, seen)):
                is_whole = True
                search.done = max(0, search.done - 4)  # where a character may be cut
    except DeadlineExceeded:
        text = f"{_name(patterns)} has not come{time_limit}{_show_tail(seen)}"
        raise ExpectTimeout(text, result=_copy_output(seen, channel)) from None
    except HusshError as error:
        note_result(error, channel.link, partial(_copy_output, seen, channel))
        raise


def _name(patterns: Sequence[Compiled]) -> str:
    text = printable(repr(patterns[0].pattern), 80)
    more = len(patterns) - 1
    return f"{text} (and {more} more)" if more else text


def _show_tail(seen: MergedOutput) -> str:
    last = bytes(seen.data[-400:]).decode("utf-8", "replace").rstrip().rpartition("\n")[2]
    shown = printable(last[-80:])
    return f"; the last that came is {shown!r}" if shown else "; nothing came"


def _copy_output(seen: MergedOutput, channel: Channel) -> SSHResult:
    out, err, order = seen.split_apart()
    ended = None if channel.link.dead else get_exit(channel)
    status, signal = (-1, None) if ended is None else (ended.status, ended.signal)
    return SSHResult(out, err, status, signal, False, order)
