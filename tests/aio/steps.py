"""Awaiting step by step: to cancel at the n-th place where something suspends, or to time it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Generic, TypeVar

import anyio

__all__ = ["Stepped"]

T = TypeVar("T")


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

    def __await__(self) -> Generator[Any, Any, T]:
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
            self.count += 1
            if self.count == self._at:
                self._strike()
            answer = error = None
            try:
                answer = yield trap
            except BaseException as thrown:
                error = thrown
