"""The way to a host by the user's ssh configuration: ProxyJump and ProxyCommand, hop by hop.

`configure_plan.py` of `_api` runs it. ssh runs itself for a jump host, and so every hop has a block
of its own. Of a list of jump hosts the first one also has a way of its own there; the others are
reached through those before them. It is a generator that yields a `Question` for each host and gets
an `Answer`; it asks nobody itself.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple

from ...errors import ConfigError
from ..route import MAX_JUMPS, DefaultPort, HopSpec, parse_jump
from .answer import Answer, Question, is_none

__all__ = ["ConfiguredHop", "find_way", "make_question"]

Asking = Generator[Question, Answer, "list[ConfiguredHop]"]


class ConfiguredHop(NamedTuple):
    """One hop: what ssh says about it.

    Attributes:
        answer: for this host.
        proxy_command: what carries its stream, as it stands in the file; "" for none.
        is_named: the caller named it, in ``host=`` or in ``proxy_jump=``.
    """

    answer: Answer
    proxy_command: str = ""
    is_named: bool = False


def make_question(spec: HopSpec) -> Question:
    """Return what ssh is asked about a jump host; a port counts only if it was given."""
    port = None if isinstance(spec.port, DefaultPort) else int(spec.port)
    return Question(spec.host, spec.username, port)


def find_way(
    target: Question, jumps: Sequence[HopSpec] | None, *, has_way: bool, has_bastion: bool
) -> Asking:
    """Return all hops to the target, in the order of travel.

    Args:
        target: whom to reach.
        jumps: hosts of ``proxy_jump=``, whose names the configuration may know.
        has_way: the caller gave a proxy, or disabled it, so that the target's own is not followed.
        has_bastion: a connection of the caller's carries the first of all hops.
    """
    if not has_way:
        return (yield from _reach(target, (), is_named=True))
    found: list[ConfiguredHop] = []
    for spec in jumps or ():
        if found or has_bastion:
            found.append(ConfiguredHop((yield make_question(spec)), is_named=True))
        else:
            found += yield from _reach(make_question(spec), (target,), is_named=True)
    found.append(ConfiguredHop((yield target), is_named=True))
    return found


def _reach(asked: Question, behind: tuple[Question, ...], *, is_named: bool = False) -> Asking:
    """Return a host and the way that its own block has; `behind` is reached through it."""
    if asked in behind or len(behind) > MAX_JUMPS:
        chain = " for ".join(one.host for one in (asked, *reversed(behind)))
        raise ConfigError(
            f"ProxyJump in the ssh configuration goes in a circle, or through more than "
            f'{MAX_JUMPS} hosts: {chain}. "ProxyJump none" in a block ends a chain'
        )
    answer = yield asked
    command, jump = answer.get_one("proxycommand"), answer.get_one("proxyjump")
    if jump and not is_none(jump):
        try:
            specs = parse_jump(jump, _Nothing) or []
        except (TypeError, ValueError) as error:
            raise ConfigError(f"ProxyJump for {asked.host} is not usable: {error}") from error
        found: list[ConfiguredHop] = []
        for spec in specs:
            if not isinstance(spec, HopSpec):
                continue
            if found:
                found.append(ConfiguredHop((yield make_question(spec))))
            else:
                found = yield from _reach(make_question(spec), (*behind, asked))
        return [*found, ConfiguredHop(answer, is_named=is_named)]
    if command and not is_none(command):
        return [ConfiguredHop(answer, command, is_named)]
    return [ConfiguredHop(answer, is_named=is_named)]


class _Nothing:
    """No connection can stand in a configuration."""
