"""Makes of the arguments of `execute` and `sudo` what the operation takes; opens nothing.

`Connection` and `AsyncConnection` use it. `arguments.py` has the checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .._connect.agent_forwarding import ForwardAgent, lend_agent
from .._connect.hop import Hop
from .._policy.options import Options
from .._protocol.execute import PLAIN, Execution, OnOutput
from .._protocol.process import Pty, make_env_requests
from .arguments import (
    check_max_output,
    check_on_output,
    check_pty,
    check_wait,
    encode_input,
)

__all__ = ["make_execution"]


def make_execution(
    session: Hop[Any],
    options: Options,
    input: str | bytes | None,
    max_output: int | None,
    wait: Literal["eof", "exit"],
    pty: bool | Pty | None,
    env: Mapping[str, str] | None,
    check: bool,
    on_output: OnOutput | None,
    forward_agent: ForwardAgent,
    *,
    can_await: bool,
) -> Execution:
    """Return how a command is run, of arguments as users give them.

    Raises:
        TypeError, ValueError: an argument is not usable.
    """
    configured = options.configured
    asks_for_more = (
        input is not None
        or max_output is not None
        or pty is not None
        or env is not None
        or on_output is not None
        or forward_agent is not None
    )
    sets_more = configured.env or configured.forward_agent
    if wait == "eof" and not (check or asks_for_more or sets_more):
        return PLAIN  # as most commands: no checks, and one object for all of them
    return Execution(
        stdin=encode_input(input),
        pty=check_pty(pty),
        max_output=check_max_output(max_output),
        wait=check_wait(wait),
        check=check,
        on_output=check_on_output(on_output, can_await=can_await),
        env=make_env_requests(configured.complete_env(env)),
        lend=lend_agent(session, options, forward_agent),
    )
