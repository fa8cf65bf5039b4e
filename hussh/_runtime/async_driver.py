"""The driver for event loops: it runs operations in tasks of asyncio or trio.

Theory of operation. `driver` explains who waits for what, who leads and who is woken. Here a waiter
is a task. This file has what asyncio and trio have in common. `asyncio_driver` and `trio_driver`
have how a task waits, and who moves the bytes meanwhile. The tree's lock is held around each step
and each call of C, never across an await. It is needed although a loop has one thread, because
finalizers run in other threads, too. A finalizer reaches a task through the loop's thread-safe
call.

An operation with `step_in_loop` may also be stepped by the code that hands out the events
(`asyncio_driver`), so that its task sleeps until the operation is over. It does not matter who
makes a step, because each step looks anew.

Cancellation is thrown into the operation where it waits. The operation's clean-up only queues
messages. They are sent as far as the socket takes them, and the cancellation goes on. An operation
that finds everything without waiting lets other tasks run every few milliseconds.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from sys import is_finalizing
from time import monotonic
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

from .._native.link import Link
from .._protocol.core import Checkpoint, DeadlineExceeded, Op, RunBlocking, Wait, WaitFor
from ..errors import HusshError
from .async_single_flight import single_flight
from .async_workers import run_in_thread, run_to_the_end
from .blocking_call import call_in_time
from .driver import Driver
from .fd_set import FdSet
from .keepalive import Keepalive, MakeBeats, Tended
from .loop_tools import Loop, this_loop, until
from .poll_timeout import poll_timeout
from .stream import Stream
from .workers import LAST_MOMENT, Call

__all__ = ["TaskState", "AsyncDriver"]

T = TypeVar("T")

#: Seconds that an operation may go on without letting other tasks run.
TIME_SLICE = 0.003
_LOOK_AGAIN = Checkpoint()


class TaskState:
    """The operation of a task, and how far it is; asyncio and trio add how the task sleeps.

    Attributes:
        need: what the operation yielded last.
        over, result: whether it has ended, and with what.
        failure: what it raised while somebody else than its task stepped it.
        moved: whether somebody else has stepped it to where only its task can go on.
        concluded: whether all that it left to be sent has been sent.
    """

    __slots__ = ("op", "token", "woken", "need", "over", "result", "failure", "moved",
                 "concluded")  # fmt: skip

    def __init__(self, op: Op[Any]) -> None:
        self.op = op
        self.token = 0
        self.woken = self.over = self.moved = self.concluded = False
        self.need: Wait | None = None
        self.result: Any = None
        self.failure: BaseException | None = None

    def wake(self) -> None:
        """Let the task look again."""
        raise NotImplementedError

    def step(self, answer: Any = None, error: BaseException | None = None) -> None:
        """Go on to the next need or to the end; raise what the operation raises."""
        self.moved = False
        self.failure = None  # it is out of date, and holds this through its traceback
        try:
            self.need = self.op.send(answer) if error is None else self.op.throw(error)
        except StopIteration as done:
            self.need = None
            self.over = True
            self.result = done.value
        finally:
            error = None  # its traceback will hold this frame

    @property
    def is_interrupted(self) -> bool:
        """Whether it must raise what goes before a cancellation, such as KeyboardInterrupt."""
        return self.failure is not None and not isinstance(self.failure, Exception)

    def take_over(self) -> None:
        """Go on, in the task, where somebody else stopped; raise what the operation has raised."""
        self.moved = False
        failure, self.failure = self.failure, None
        try:
            if failure is not None:
                raise failure
        finally:
            del failure  # whose traceback would hold this frame, and this it


class AsyncDriver(Driver[TaskState]):
    """A root link, the links over it, and the tasks that wait for them."""

    def __init__(self, stream: Stream, loop: Loop) -> None:
        self._loop = loop
        self._stepping = False  # the loop's thread is in a step, not in a finalizer
        self._fd_set: FdSet | None = None
        self._closing: threading.Event | None = None  # set once a slow stream is closed
        super().__init__(stream)

    # -- what asyncio and trio add

    def _make_task_state(self, op: Op[Any], *, step_in_loop: bool) -> TaskState:
        """Return the state for an operation that `run` was given."""
        raise NotImplementedError

    def _prepare(self, task: Any) -> None:
        """Note that an operation is about to wait; called within the step that has come to that."""

    async def _wait(self, task: Any, deadline: float | None) -> bool:
        """Wait for what `task` is registered for; return whether other tasks have run."""
        raise NotImplementedError

    def _note_rest(self) -> None:
        """Note that an operation has ended; called within its last step."""

    # -- the loop

    @property
    def loop(self) -> Loop:
        """The loop to which the tree belongs."""
        return self._loop

    def check_loop(self) -> None:
        """Raise RuntimeError outside of the loop to which this tree belongs."""
        self._loop.check()

    @contextmanager
    def mine(self) -> Iterator[Link]:
        """Hold the lock as `locked` does, for calls of the user that do not wait.

        It raises what `check_closable` raises.
        """
        self.check_closable()
        with self._step() as root:
            yield root

    @contextmanager
    def my_fresh(self) -> Iterator[Link]:
        """Hold the lock as `fresh` does, for calls of the user that do not wait."""
        self.check_closable()
        with self.fresh() as root:
            yield root

    def call_in_loop(self, call: Callable[[], object]) -> None:
        """Make a call that only the loop's own steps may make: now, or soon."""
        if self._stepping and self._loop.is_here:
            call()
        else:
            self._loop.call_soon(call)

    @contextmanager
    def _step(self) -> Iterator[Link]:
        before = self._stepping
        try:
            self._enter()
            yield self.root
        finally:
            self._leave(before)

    # The same without a context manager, where that would cost too much.  Within `try`,
    # because an interrupt may come at any place.

    def _enter(self) -> None:
        self._lock.acquire()
        self._stepping = True

    def _leave(self, before: bool = False) -> None:
        self._stepping = before
        if not before:
            self.let_go()

    # -- running operations

    async def run(
        self, op: Op[T], deadline: float | None = None, *, step_in_loop: bool = False
    ) -> T:
        """Run an operation to its end.

        Cancellation reaches the operation at its next wait.

        Args:
            deadline: a `time.monotonic()` value; when it passes, the operation gets a
                DeadlineExceeded.
            step_in_loop: whether other code than this task may step the operation. It then has
                to wait before it ends, must call nothing of the user, and its result must own
                nothing.
        """
        self.check_process()
        self.check_loop()
        task = self._make_task_state(op, step_in_loop=step_in_loop)
        answer: Any = None
        error: BaseException | None = None
        cancelled = False
        calm = True
        slice_end = monotonic() + TIME_SLICE
        need: Wait | None = None
        looked = self.arrivals
        try:
            if not step_in_loop:
                try:
                    self._enter()
                    self._take_input()
                finally:
                    self._leave()
            while True:
                try:
                    self._enter()
                    self._forget_waiter(task)
                    if isinstance(need, WaitFor):
                        looked = self.arrivals
                    if task.moved and (error is None or task.is_interrupted):
                        task.take_over()
                    else:
                        task.step(answer, error)
                    if task.over:
                        self._conclude(task)
                        return task.result  # type: ignore[no-any-return]
                    need = task.need
                    if isinstance(need, WaitFor):
                        if looked == self.arrivals:
                            self._add_waiter(task, need.of.token)
                            self._prepare(task)
                        else:  # it looks again first
                            need, looked = _LOOK_AGAIN, self.arrivals
                finally:
                    self._leave()
                answer = error = None
                try:
                    if isinstance(need, RunBlocking):
                        if cancelled:  # it may still want to close a file
                            with anyio.CancelScope(shield=True):
                                answer = await self._block(need, deadline)
                        else:
                            answer = await self._block(need, deadline)
                        slice_end = monotonic() + TIME_SLICE
                    elif isinstance(need, WaitFor) and await self._wait(task, deadline):
                        slice_end = monotonic() + TIME_SLICE
                    else:
                        if isinstance(need, Checkpoint):
                            self._pass_checkpoint(deadline)
                        if monotonic() > slice_end:
                            await anyio.lowlevel.checkpoint()
                            slice_end = monotonic() + TIME_SLICE
                except BaseException as raised:
                    error = raised
                    cancelled = cancelled or isinstance(raised, self._loop.cancelled)
        except BaseException as raised:
            quiet = (HusshError, DeadlineExceeded, GeneratorExit, self._loop.cancelled)
            calm = isinstance(raised, quiet)
            raise
        finally:
            error = None  # its traceback holds this frame, and so the tree
            if not task.concluded:
                try:
                    self._enter()
                    if not calm:
                        self._wake_all()
                    self._conclude(task)
                finally:
                    self._leave()

    def _conclude(self, task: TaskState) -> None:
        """Clean up after an operation that is over or given up; called in a step."""
        self._forget_waiter(task)
        # Also on the way out of an error: CLOSE messages and the like must leave.
        task.op.close()
        if not self.root.freed:
            self._settle()
        self._note_rest()
        task.concluded = True

    def _pass_checkpoint(self, deadline: float | None) -> None:
        """Send what is queued, and look at the time limit."""
        with self._step():
            self._settle()
        if deadline is not None and monotonic() >= deadline:
            raise DeadlineExceeded

    async def _block(self, need: RunBlocking, deadline: float | None) -> Any:
        """Make a call that may block in a thread, after everything queued so far was sent."""
        with self._step():
            self._settle()
        with call_in_time(need, deadline) as make, until(deadline):
            result = partial(
                run_in_thread,
                self._loop,
                make,
                is_slow=need.detachable or need.in_caller or need.abort is not None,
                abort=need.abort,
                moment=0.0 if need.detachable else LAST_MOMENT,
            )
            if need.cached is None:
                answer = await result()
            else:
                answer = await single_flight(self._loop, need.dedupe_key, need.cached, result)
            if inspect.isawaitable(answer):  # of a callback that is a coroutine function
                answer = await answer
        return answer

    # -- keepalives

    def tend(self, session: Tended, interval: float, make: MakeBeats = Keepalive) -> None:
        """Make beats for a session every `interval` seconds until it is closed."""
        raise NotImplementedError

    def note_session_end(self) -> None:
        """Note that a session with keepalives was closed or collected; from any thread."""
        raise NotImplementedError

    # -- ending

    def _close_stream(self) -> None:
        self._forget()
        if not self._stream.slow or is_finalizing():
            self._stream.close()
        elif self._closing is None:
            closing = threading.Event()
            Call(self._stream.close, closing.set, is_slow=True).start()
            self._closing = closing

    def _forget(self) -> None:
        several, self._fd_set = self._fd_set, None
        if several is not None:
            several.close()

    def check_closable(self) -> None:
        """Raise RuntimeError outside of its loop, unless that has ended (`may_close_here`)."""
        if not self._loop.may_close_here:
            self._loop.check()

    @property
    def is_ending(self) -> bool:
        """Whether a thread is still closing the stream; see `join`."""
        return self._closing is not None and not self._closing.is_set()

    def join(self) -> None:
        """Wait as `wait_gone` does, in a thread, once no loop polls any more."""
        while self.is_ending and self._closing is not None:
            self._closing.wait(poll_timeout(None))

    async def wait_gone(self) -> None:
        """Wait, even when cancelled, until the fds of a closed tree are closed.

        A proxy command that ignores SIGTERM takes a second.
        """
        if not (self.closed and self._polls) and not self.is_ending:
            return
        try:
            loop = this_loop()  # maybe another loop, because this tree's may have ended
        except RuntimeError:
            return  # our coroutine is being collected, and no loop runs
        with anyio.CancelScope(shield=True):
            while self.closed and self._polls:
                await anyio.lowlevel.checkpoint()  # the thread that polls is about to end
            if self.is_ending and self._closing is not None:
                await run_to_the_end(loop, self._closing.wait)
