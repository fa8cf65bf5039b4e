"""Finds the paths that match a pattern, with as few listings as it takes, many at once.

`sftp_calls.py` makes it for `SFTP.glob` and `iglob`. Each directory is listed once, whatever the
pattern. What cannot be listed has nothing that matches, as with `pathlib`.
"""

from __future__ import annotations

import errno
import stat as modes
from collections import deque
from collections.abc import Generator
from functools import partial
from typing import Any

from ..._policy.glob_pattern import GlobPattern
from ..._policy.remote_path import check_name, expand_from_home, join
from ..._policy.sftp import make_file_error
from ..core import Op
from .file_types import find_kind, get_listed_type
from .home import expand_home
from .job_pool import Job, JobPool
from .list_job import list_all
from .names import LONGEST_PATH
from .request import Request
from .session import SftpState
from .wire import Name

__all__ = ["Glob"]

#: Directories that are listed before the matches are handed out.
AT_ONCE = 32


class Glob:
    """One search; `fetch_more` goes on with it."""

    def __init__(self, pattern: bytes) -> None:
        self._pattern = GlobPattern(pattern)
        self._home: bytes | None = None
        self._found: list[bytes] = []
        self._left: deque[tuple[bytes, frozenset[int]]] = deque()
        self._begun = False
        self._pool: JobPool

    def fetch_more(self, sftp: SftpState) -> Op[list[bytes]]:
        """Return some paths that match; none at all at the end."""
        session = yield from sftp.get_session()
        pattern = self._pattern
        if not self._begun:
            if pattern.base == b"~":
                self._home = yield from expand_home(sftp, pattern.base)
            self._left.append((pattern.base, pattern.begin()))
            self._begun = True
        while self._left and not self._found:
            # What is cut short begins again with the next call.
            self._pool = JobPool(session)
            taken = [self._left.pop() for _ in range(min(AT_ONCE, len(self._left)))]
            before = len(self._left)
            for path, at in taken:
                self._pool.add(partial(self._visit, path, at))
            try:
                yield from self._pool.run()
            except BaseException:
                while len(self._left) > before:
                    self._left.pop()
                self._left.extend(reversed(taken))
                self._found.clear()
                raise
        found, self._found = self._found, []
        return found

    # -- jobs

    def _visit(self, path: bytes, at: frozenset[int]) -> Job:
        """Find what matches in a directory, or is that path itself."""
        pattern = self._pattern
        while (name := pattern.get_literal(at)) is not None:
            path, at = join(path, name), pattern.step_into(at, name, False)
        if not pattern.may_go_on(at):
            yield from self._check(path)
            return
        if len(path) > LONGEST_PATH:
            reason = "directories lie in one another without end"
            raise make_file_error(errno.ELOOP, "list", path, reason=reason)
        if pattern.is_match(at) and path:  # ``**`` that stands for nothing
            yield from self._check(path, directory=True)
        above = pattern.step_up(at)
        if above:
            self._left.append((join(path, b".."), above))
        names = yield from list_all(self._pool, self._encode_asked(path) or b".")
        if isinstance(names, Request):
            return
        for entry in names:
            self._pool.work += 1
            if self._pool.is_due:
                yield None
            if not check_name(entry.name):
                continue
            kind = get_listed_type(entry.attributes, entry.longname)
            if kind and not (kind == modes.S_IFLNK and pattern.only_directories):
                self._take_entry(path, entry.name, at, kind)
            elif pattern.step_into(at, entry.name, True):
                yield from self._look_at_unknown(path, entry, at)

    def _look_at_unknown(
        self, folder: bytes, entry: Name, at: frozenset[int]
    ) -> Generator[Any, Any, None]:
        """Look at an entry whose type the server did not tell, or that may lead to a directory."""
        path = self._encode_asked(join(folder, entry.name))
        inquiry = find_kind(path, entry.attributes, entry.longname, follow=False)
        found = yield from self._pool.run_inquiry(inquiry)
        if isinstance(found, tuple):
            self._take_entry(folder, entry.name, at, found[1])
            if found[1] == modes.S_IFLNK and self._pattern.only_directories:
                after = self._pattern.step_into(at, entry.name, False)
                if self._pattern.is_match(after):
                    yield from self._check(join(folder, entry.name))

    def _take_entry(self, folder: bytes, name: bytes, at: frozenset[int], kind: int) -> None:
        pattern, is_directory = self._pattern, kind == modes.S_IFDIR
        after = pattern.step_into(at, name, is_directory)
        if not after:
            return
        path = join(folder, name)
        if pattern.is_match(after) and (is_directory or not pattern.only_directories):
            self._add(path)
        below = after - {len(pattern.parts)}
        if below and (is_directory or kind == modes.S_IFLNK):
            self._left.append((path, below))

    def _check(self, path: bytes, directory: bool = False) -> Generator[Any, Any, None]:
        """Add a path that no listing told of, if it is there."""
        if not path:  # an empty pattern
            return
        only = directory or self._pattern.only_directories
        found = yield from self._pool.run_inquiry(find_kind(self._encode_asked(path), follow=only))
        if isinstance(found, tuple) and (not only or found[1] == modes.S_IFDIR):
            self._add(path)

    def _add(self, path: bytes) -> None:
        slash = self._pattern.only_directories and not path.endswith(b"/")
        self._found.append(path + b"/" if slash else path)

    def _encode_asked(self, path: bytes) -> bytes:
        """Return a path as the server knows it."""
        return path if self._home is None else expand_from_home(path, self._home)
