"""Shows the progress of transfers on a terminal, by `rich`, or calls the user's function.

`sftp.py`, `files.py` and their twins use it for their ``progress=``, and `_multi` asks it whether
to show anything. Nothing is imported, and nothing is shown, unless the user asked for it and stderr
is a terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .._protocol.sftp.tree import TreeCallback
from .arguments import check_plain_function

__all__ = ["Progress", "ShownProgress", "show_bars", "can_show", "check_bars",
           "make_terminal_settings",
           "show_tree_bars"]  # fmt: skip

#: Called with the bytes so far and in all.
Progress = Callable[[int, "int | None"], object]
#: What ``progress=`` takes: such a function, or True for bars on the terminal.
ShownProgress = Progress | bool | None


def check_bars(wanted: bool) -> bool:
    """Tell whether to show anything.

    Raises:
        ImportError: it is wanted and could be shown, but `rich` is not installed.
    """
    if not wanted or not _has_terminal():
        return False
    if not can_show():
        raise ImportError("progress=True needs the package rich: pip install 'hussh[progress]'")
    return True


def can_show() -> bool:
    """Tell whether a display is possible: stderr is a terminal, and `rich` is installed."""
    if not _has_terminal():
        return False
    try:
        import rich.progress  # noqa: F401
    except ImportError:
        return False
    return True


def _has_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def make_terminal_settings() -> dict[str, Any]:
    """Return how a display of `rich` shares the terminal with what the program prints.

    The display belongs to stderr. It puts above itself what the program prints to a terminal,
    without breaking long lines. A stdout that is a file or a pipe stays as it is.
    """
    from rich.console import Console

    is_shared = sys.stdout is not None and sys.stdout.isatty()
    return {"console": Console(stderr=True, soft_wrap=True), "redirect_stdout": is_shared}


@contextmanager
def show_bars(progress: ShownProgress, title: str) -> Iterator[Progress | None]:
    """Return the callback of one file's transfer; bars are shown while the block runs."""
    with _show(progress, title, False) as display:
        if display is not None:
            yield display.tell
        else:
            yield None if isinstance(progress, bool) else progress


@contextmanager
def show_tree_bars(progress: ShownProgress, title: str) -> Iterator[TreeCallback | None]:
    """Return the callback of a directory's transfer; bars are shown while the block runs."""
    with _show(progress, title, True) as display:
        if display is not None:
            yield display.tell
        elif progress is None or isinstance(progress, bool):
            yield None
        else:
            call = progress
            yield lambda done, total, *_: call(done, total)


@contextmanager
def _show(progress: object, title: str, files: bool) -> Iterator[_Bars | None]:
    if progress is not None and not isinstance(progress, bool) and not callable(progress):
        raise TypeError("progress must be callable, True or None")
    check_plain_function(progress, "progress")
    if not check_bars(progress is True):
        yield None
        return
    display = _Bars(title, files)
    with display.progress:
        yield display


class _Bars:
    """One line for the bytes, and one for the files of a directory."""

    def __init__(self, title: str, files: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self.progress: Any = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[counted]}"),
            TimeElapsedColumn(),
            **make_terminal_settings(),
        )
        self._bytes = self.progress.add_task(title, total=None, counted="")
        self._files = self.progress.add_task("files", total=None, counted="") if files else None

    def tell(
        self, done: int, total: int | None, files: int = 0, all_files: int | None = None
    ) -> None:
        """Show how far it is."""
        from rich.filesize import decimal

        of = "" if total is None else f" of {decimal(total)}"
        counted = f"{decimal(done)}{of}"
        self.progress.update(self._bytes, completed=done, total=total, counted=counted)
        if self._files is not None:
            counted = f"{files}" if all_files is None else f"{files}/{all_files}"
            self.progress.update(self._files, completed=files, total=all_files, counted=counted)
