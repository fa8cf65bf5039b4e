"""Operations of a tree that nobody waits for, such as those of tunnels.

A driver has one `Background`. The code that hands out events also steps the operations that waited
for them: the leader, the idle thread, or asyncio's loop. So a tunnel works while no call of the
user runs, and costs no thread and no task.

Theory of operation. Everything here happens with the tree's lock held, except for `RunBlocking`,
which a worker calls; its end comes back through `Driver.fresh`. Nobody gets what an operation
raises: it notes its own failures, and other errors are logged. An interrupt (Ctrl-C) within a step
is raised in the thread that it interrupted, and may end that operation, but no other. It may also
come between two steps of this module. So a task leaves `ready` only when it is known where it goes
on. One whose operation has yielded something that got lost has the interrupt thrown in instead.

A generator that is closed before its first step runs none of its clean-up. So an operation that is
given something to free, such as a socket, is started with a function that frees it in that case.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .._protocol.core import Op, RunBlocking, Wait, WaitFor
from .workers import Call

if TYPE_CHECKING:
    from types import GeneratorType

__all__ = ["Background", "Task"]

_log = logging.getLogger("hussh.tunnels")


class Task:
    """One operation, and what it is to be resumed with.

    Attributes:
        is_over: whether it has ended.
        never_ran: called if it is ended before its first step.
    """

    __slots__ = ("op", "never_ran", "answer", "error", "token", "is_over", "is_lost", "__weakref__")

    def __init__(self, op: Op[None], never_ran: Callable[[], object] | None = None) -> None:
        self.op = op
        self.never_ran = never_ran
        self.answer: Any = None
        self.error: BaseException | None = None
        self.token = 0
        self.is_over = False
        self.is_lost = False  # what the operation yielded last is not known

    @property
    def is_running(self) -> bool:
        """Whether it is within a step; a flag could stay set if an interrupt came between."""
        return cast("GeneratorType[Any, Any, None]", self.op).gi_running

    @property
    def is_new(self) -> bool:
        """Whether it has not had its first step."""
        generator = cast("GeneratorType[Any, Any, None]", self.op)
        return inspect.getgeneratorstate(generator) == inspect.GEN_CREATED


class Background:
    """The operations of one tree that run by themselves.

    Attributes:
        ready: those that may go on.
    """

    def __init__(self, enter: Callable[[], AbstractContextManager[object] | None]) -> None:
        """Start without operations.

        Args:
            enter: returns a context manager that holds the tree's lock, and steps what is ready
                at the end; None if this thread holds the lock already, or the tree is gone.
        """
        self._enter = enter
        self._waiting: dict[int, list[Task]] = {}
        self._blocked: set[Task] = set()
        self.ready: deque[Task] = deque()

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.ready or self._waiting or self._blocked)

    def start(self, op: Op[None], never_ran: Callable[[], object] | None = None) -> Task:
        """Run an operation from the next step on.

        Args:
            never_ran: called instead of the operation's clean-up if it is ended before that step.
        """
        task = Task(op, never_ran)
        self.ready.append(task)
        return task

    def cancel(self, task: Task) -> None:
        """End one of them, wherever it is, unless it is within its step."""
        if task.is_over or task.is_running:
            return
        self._blocked.discard(task)
        waiting = self._waiting.get(task.token, [])
        if task in waiting:
            waiting.remove(task)
            if not waiting:
                del self._waiting[task.token]
        _close(task)

    def wake(self, token: int) -> None:
        """Note that something happened to what some of them may wait for."""
        tasks = self._waiting.get(token)
        if tasks is not None:  # after an interrupt one may stand here that went on already
            self.ready.extend([task for task in tasks if task.token == token])
            self._waiting.pop(token, None)  # last: an interrupt may come before

    def wake_all(self) -> None:
        """Let all that wait look for themselves: an event may have got lost."""
        for token in list(self._waiting):
            self.wake(token)

    def step(self) -> None:
        """Let all that are ready go on until they wait."""
        while self.ready and not self.ready[0].is_running:
            self._advance(self.ready[0])

    def _advance(self, task: Task) -> None:
        """Let the first of those that are ready go on."""
        if task.is_over or (task in self._blocked and not task.is_lost):  # or stands here twice
            self._leave_ready(task)
            return
        answer, error = task.answer, task.error
        if task.is_lost and error is None and not task.is_new:
            error = KeyboardInterrupt("an interrupt came between two steps of a tunnel")
        need: Wait | None = None
        self._blocked.discard(task)
        task.token = 0
        try:
            task.is_lost = True
            need = task.op.send(answer) if error is None else task.op.throw(error)
        except StopIteration:
            pass
        except Exception:
            _log.warning("a tunnel failed in an unexpected way", exc_info=True)
        except BaseException as interrupt:
            if interrupt is not error:  # else it was raised before
                raise
        finally:
            error = None  # its traceback holds this frame
            task.answer = task.error = None
        self._go_on(task, need)

    def _go_on(self, task: Task, need: Wait | None) -> None:
        """Note where a task goes on, if it does; it is the first of those that are ready."""
        if need is None:
            task.is_over = True
        elif isinstance(need, WaitFor):
            task.token = need.of.token
            self._waiting.setdefault(task.token, []).append(task)
        elif isinstance(need, RunBlocking):
            self._call(task, need)
        else:  # a checkpoint
            self.ready.append(task)
        self._leave_ready(task)
        task.is_lost = False

    def _leave_ready(self, task: Task) -> None:
        if self.ready and self.ready[0] is task:
            self.ready.popleft()

    def _call(self, task: Task, need: RunBlocking) -> None:
        self._blocked.add(task)
        call = Call(partial(need.call, None), lambda: self._take_returned(task, call), is_slow=True)
        call.start()

    def _take_returned(self, task: Task, call: Call) -> None:
        """Take the result of a worker's call for a task (maybe in this thread)."""
        lock = self._enter()
        if lock is None:
            self._take_back(task, call)
            return
        with lock:
            self._take_back(task, call)

    def _take_back(self, task: Task, call: Call) -> None:
        if task not in self._blocked:  # closed meanwhile
            call.abandon()
            return
        self._blocked.discard(task)
        try:
            task.answer = call.get_outcome()
        except BaseException as error:
            task.error = error
        self.ready.append(task)

    def close(self) -> None:
        """End all of them, wherever they are; also those that the end of others starts."""
        while self:
            tasks = [*self.ready, *self._blocked]
            for waiting in self._waiting.values():
                tasks += waiting
            self.ready.clear()
            self._blocked.clear()
            self._waiting.clear()
            for task in tasks:
                _close(task)


def _close(task: Task) -> None:
    if task.is_running or task.is_over:
        return
    never_ran = task.never_ran if task.is_new else None
    task.is_over = True
    try:
        task.op.close()
        if never_ran is not None:
            never_ran()
    except Exception:
        _log.warning("a tunnel failed in an unexpected way", exc_info=True)
