"""Shows the progress of a batch on a terminal, by `rich`.

`multi_connection.py`, its twin and the subcommand ``run`` use it. Nothing is imported, and nothing
is shown, unless the user asked for it and stderr is a terminal.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from .._api.transfer_bars import make_terminal_settings
from .._host_results import HostResult

__all__ = ["Display"]


class Display:
    """One line on stderr while its ``with`` block runs; nothing if it is not shown."""

    def __init__(self, shown: bool, title: str, total: int) -> None:
        self._failed = 0
        self._progress: Any = None
        if not shown:
            return
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed"),
            TimeElapsedColumn(),
            **make_terminal_settings(),
        )
        self._task = self._progress.add_task(title, total=total, failed=0)

    def add(self, result: HostResult) -> None:
        """Count one more host as done."""
        self._failed += result.status != 0
        if self._progress is not None:
            self._progress.update(self._task, advance=1, failed=self._failed)

    def __enter__(self) -> Display:
        if self._progress is not None:
            try:
                self._progress.start()
            except RuntimeError:  # no thread for it: the work matters more than its display
                self._progress = None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
