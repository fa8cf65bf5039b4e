"""Asks the user's ssh configuration, for threads: runs what yields `Question`s.

`_api/planned.py` and `configure_plan.py` import it; `async_configure.py` is its twin for tasks. All
answers for one attempt to connect are those of one moment, and so are all answers for one batch. It
decides nothing: `_policy/ssh_config` reads the answers.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from functools import lru_cache, partial
from time import monotonic
from typing import Any, TypeVar

from .._policy.endpoint import Endpoint
from .._policy.file_cache import begin_now
from .._policy.ssh_config.answer import USUAL, Lookup, Question
from .._protocol.connect import make_timeout_error
from .._protocol.core import DeadlineExceeded
from .._protocol.story import get_current_story
from .._runtime.workers import call_within
from ..errors import HusshError, Phase
from .ssh_program import SshProgram, look_up

__all__ = ["ask_config", "make_config_error", "get_program", "log_notes"]

R = TypeVar("R")

_log = logging.getLogger("hussh.config")
_usual = SshProgram("none", lasting=True)


@lru_cache(maxsize=16)
def get_program(file: str | None) -> SshProgram:
    """Return the one object that asks about this file; None means ssh's own files."""
    return SshProgram(file)


def pick(question: Question, program: SshProgram) -> SshProgram:
    """Whom to ask."""
    return _usual if question is USUAL else program


def ask_config(
    asking: Generator[Question | Lookup, Any, R],
    file: str | None,
    endpoint: Endpoint,
    deadline: float | None,
    time_limit: str,
) -> R:
    """Answer all questions; the result is the generator's.

    Args:
        asking: raises ConfigError where it cannot use an answer.
        file: see `get_program`.
        endpoint: of the target, for errors.
        deadline: of `time.monotonic()`; None means no limit but that of each question.
        time_limit: how an error words it.

    Raises:
        ConfigError: or what `asking` raises.
        ConnectTimeout: time was over.
    """
    program = get_program(file)
    try:
        with begin_now():
            question = next(asking)
            while True:
                left = None if deadline is None else deadline - monotonic()
                try:
                    if isinstance(question, Lookup):
                        answer: Any = call_within(partial(look_up, question, left), deadline)
                    else:
                        asked = pick(question, program)
                        answer = asked.get_cached(question) or call_within(
                            partial(asked.ask, question, left), deadline
                        )
                except TimeoutError as error:
                    if isinstance(error, HusshError):
                        raise
                    raise DeadlineExceeded(Phase.CONFIG) from None
                question = asking.send(answer)
    except StopIteration as end:
        result: R = end.value
        return result
    except (HusshError, DeadlineExceeded) as error:
        shown = make_config_error(error, endpoint, time_limit)
        story = get_current_story(monotonic)
        if story is not None:
            story.note_failure(shown)
            story.flush()
        raise shown from error.__cause__
    finally:
        asking.close()


def make_config_error(
    error: HusshError | DeadlineExceeded, endpoint: Endpoint, time_limit: str
) -> HusshError:
    """Return what to raise; it knows its place."""
    if isinstance(error, DeadlineExceeded):
        return make_timeout_error(endpoint, Phase.CONFIG, error, time_limit)
    return endpoint.mark(error, Phase.CONFIG)


def log_notes(notes: Sequence[str]) -> None:
    """Tell the log what is not followed; its handlers may wait."""
    for note in notes:
        _log.info("%s", note)


def is_logged() -> bool:
    """Whether the log wants to know."""
    return _log.isEnabledFor(logging.INFO)
