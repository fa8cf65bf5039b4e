"""Awaiting step by step: to cancel at the n-th place where something suspends, or to time it.

On asyncio an operation may go on from one wait to the next while its task sleeps; each
of these waits counts as a place, too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

import anyio

from hussh._runtime.async_driver import TaskState

__all__ = ["Stepped"]

T = TypeVar("T")


_stepped: ContextVar[Stepped[Any] | None] = ContextVar("_stepped", default=None)
_step = TaskState.step


def _counted_step(task: TaskState, *arguments: Any) -> None:
    try:
        _step(task, *arguments)
    finally:
        del arguments  # an error among them holds this frame through its traceback
    stepped = _stepped.get()
    if stepped is not None and not task.over and _outside_of_tasks():
        stepped.suspended()


def _outside_of_tasks() -> bool:
    try:
        return asyncio.current_task() is None
    except RuntimeError:  # a loop of trio's
        return False


TaskState.step = _counted_step  # type: ignore[method-assign,assignment]


class Stepped(Generic[T]):
    """Awaits another awaitable in its place.

    Attributes:
        count: how often it has suspended.
        longest: the most CPU seconds of this thread that it took between two suspensions.
    """

    def __init__(
        self,
        inner: Awaitable[T],
        scope: anyio.CancelScope | None = None,
        at: int = 0,
        strike: Callable[[], object] | None = None,
    ) -> None:
        """Cancel the scope, or call ``strike``, where the inner one suspends the ``at``-th time."""
        self._inner = inner
        self._strike = strike or (scope.cancel if scope is not None else lambda: None)
        self._at = at
        self.count = 0
        self.longest = 0.0

    def suspended(self) -> None:
        """It is at one more place where it waits."""
        self.count += 1
        if self.count == self._at:
            self._strike()

    def __await__(self) -> Generator[Any, Any, T]:
        before = _stepped.set(self)
        try:
            return (yield from self._steps())
        finally:
            _stepped.reset(before)

    def _steps(self) -> Generator[Any, Any, T]:
        steps = self._inner.__await__()
        answer: Any = None
        error: BaseException | None = None
        while True:
            begin = time.thread_time()
            try:
                trap = steps.send(answer) if error is None else steps.throw(error)
            except StopIteration as done:
                value: T = done.value
                return value
            finally:
                self.longest = max(self.longest, time.thread_time() - begin)
            self.suspended()
            answer = error = None
            try:
                answer = yield trap
            except BaseException as thrown:
                error = thrown
