"""Answers the questions of a server that asks by keyboard-interactive (RFC 4256).

`auth` calls it. The password answers the first hidden prompt, ``prompt=`` answers the others. It
never answers a prompt that shows what is typed with the password.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .._policy.options import is_secret
from .._policy.prompts import Prompt, PromptCallback, PromptRequest
from .._policy.wire import string, uint32
from ..errors import printable
from .auth_messages import INFO_REQUEST, INFO_RESPONSE, Outcome
from .auth_methods import Login
from .core import Op, RunBlocking

__all__ = ["answer_questions"]

ROUNDS_MAX = 20


def answer_questions(login: Login, password: str | None) -> Op[Outcome]:
    """Answer the server's questions (RFC 4256).

    The password answers the first hidden prompt, prompt= answers the others.
    """
    login.begin("keyboard-interactive")
    login.link.send(login.request("keyboard-interactive", string(b"") + string(b"")))
    for _ in range(ROUNDS_MAX):
        reader = yield from login.read_reply()
        if reader.rest[:1] != bytes((INFO_REQUEST,)):
            return login.judge_outcome(reader)
        reader.byte()
        name, instruction, _language = (printable(reader.text()) for _ in range(3))
        prompts = tuple(
            Prompt(printable(reader.text()), reader.boolean())
            for _ in range(min(reader.uint32(), 100))
        )
        answers: list[str]
        if not prompts:
            answers = []
        elif len(prompts) == 1 and not prompts[0].echo and password is not None:
            answers, password = [password], None
        elif login.options.settings["prompt"] is not None:
            login.early.asked_user = True
            asked = PromptRequest(login.hop, name, instruction, prompts)
            ask = partial(_ask_user, login.options.settings["prompt"], asked)
            given = yield RunBlocking(ask, detachable=True, in_caller=True)
            answers = _check_answers(asked, given)
        else:
            login.unanswered = ", ".join(repr(prompt.text) for prompt in prompts)
            login.note_not_answered()
            return Outcome.FAILURE
        encoded = b"".join(string(answer.encode()) for answer in answers)
        login.link.send(bytes((INFO_RESPONSE,)) + uint32(len(answers)) + encoded)
    raise login.make_error(f"the server asked more than {ROUNDS_MAX} times")


def _ask_user(
    callback: PromptCallback, asked: PromptRequest, _seconds_left: float | None
) -> object:
    return callback(asked)  # the driver awaits the result of a coroutine function


def _check_answers(asked: PromptRequest, given: Any) -> list[str]:
    answers = [] if isinstance(given, str) else list(given)  # a string is no list of its letters
    count = len(asked.prompts)
    if len(answers) != count or not all(is_secret(answer) for answer in answers):
        raise ValueError(f"prompt= must return {count} strings of plain text, one for each prompt")
    return answers
