"""Asks the user's ssh configuration, for tasks: runs what yields `Question`s, blocks no loop.

`planned.py` calls `ask_config`; `configure.py` is its twin for threads. `ssh_program.py` runs ``ssh
-G``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import partial
from time import monotonic
from typing import Any, TypeVar

from .._policy.endpoint import Endpoint
from .._policy.file_cache import begin_now
from .._policy.ssh_config.answer import Answer, Lookup, Question
from .._protocol.core import DeadlineExceeded
from .._protocol.story import get_current_story
from .._runtime.async_single_flight import single_flight
from .._runtime.async_workers import run_in_thread
from .._runtime.loop_tools import this_loop, until
from ..errors import HusshError, Phase
from .configure import get_program, make_config_error, pick
from .ssh_program import look_up

__all__ = ["ask_config"]

R = TypeVar("R")


async def ask_config(
    asking: Generator[Question | Lookup, Any, R],
    file: str | None,
    endpoint: Endpoint,
    deadline: float | None,
    time_limit: str,
) -> R:
    """Answer all questions; the arguments and errors are those of the sync twin."""
    program = get_program(file)
    loop = this_loop()
    try:
        with begin_now():
            question = next(asking)
            while True:
                left = None if deadline is None else deadline - monotonic()
                if isinstance(question, Lookup):
                    with until(deadline, Phase.CONFIG):
                        look = partial(look_up, question, left)
                        text = await run_in_thread(loop, look, is_slow=True)
                    question = asking.send(text)
                    continue
                asked = pick(question, program)
                found = asked.get_cached(question)
                if found is None:
                    make = partial(asked.ask, question, left)
                    ask: Callable[[], Awaitable[Answer]] = partial(run_in_thread, loop, make)
                    cached = partial(asked.get_cached, question)
                    with until(deadline, Phase.CONFIG):
                        found = await single_flight(loop, (asked, question), cached, ask)
                question = asking.send(found)
    except StopIteration as end:
        result: R = end.value
        return result
    except (HusshError, DeadlineExceeded) as error:
        shown = make_config_error(error, endpoint, time_limit)
        story = get_current_story(monotonic)
        if story is not None:
            story.note_failure(shown)
            await run_in_thread(loop, story.flush, is_slow=True)
        raise shown from error.__cause__
    finally:
        asking.close()
