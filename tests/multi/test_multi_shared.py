"""Bastions that many share, failures that are told once, and what is refused at once."""

from __future__ import annotations

import gc
import re
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from hussh.aio import AsyncConnection
from hussh.errors import AuthenticationError, ConnectionLost, HusshError
from hussh.multi_conn import MultiConnection
from tests.multi.conftest import Multi
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd


def test_a_refused_bastion_login_is_not_tried_again(multi: Multi, bastion: Sshd) -> None:
    """However many hosts, and whatever the batch size, wrong credentials are tried once."""
    way = AsyncConnection(bastion.host, "alice", "wrong", port=bastion.port, agent=False)
    connection = multi(12, proxy_jump=way, batch_size=3)
    failed = connection.connect().values()
    connection.close()
    assert {type(one.error) for one in failed} == {AuthenticationError}
    bastion.wait_for_log("Failed password")
    bastion.wait_for_log("Connection (closed|reset) by|Received disconnect|Broken pipe")
    assert len(re.findall("Failed password", bastion.log_text())) == 1


def test_a_prompt_that_raises_is_a_failed_login(sshd_factory: Callable[..., Sshd]) -> None:
    """Its error is in phase auth, and later operations do not ask again."""
    server = sshd_factory(
        options={
            "AuthenticationMethods": "keyboard-interactive",
            "KbdInteractiveAuthentication": "yes",
        }
    )
    asked: list[int] = []

    def prompt(request: Any) -> list[str]:
        asked.append(1)
        raise LookupError("no password here")

    with MultiConnection.from_shared_auth(
        [server.host], "alice", port=server.port, prompt=prompt, agent=False, timeout=60
    ) as connected:
        one = connected.execute("true").values()[0]
        connected.execute("true")
    assert len(asked) == 1
    assert one.phase == "auth"


def test_phase_of_a_lost_bastion(multi: Multi, bastion: Sshd) -> None:
    """A bastion that goes away long after its login did not fail in the phase auth."""
    with multi(1, proxy_jump=f"{bastion.host}:{bastion.port}") as connected:
        bastion.kill_sessions()
        error = connected.execute("true").values()[0].error
    assert isinstance(error, ConnectionLost)
    assert isinstance(error.__cause__, HusshError)
    assert error.__cause__.phase != "auth"


def test_connect_while_another_thread_closes(multi: Multi) -> None:
    """Every error of ours is a HusshError."""
    connection = multi(1)
    connection._group.placement._closing = True  # as between shut() and ended() of another thread
    with pytest.raises(HusshError):
        connection.connect()
    connection._group.placement._closing = False


def test_two_on_one_bastion(multi: Multi, bastion: Sshd) -> None:
    """One bastion object carries targets of two MultiConnections, from several threads."""
    way = AsyncConnection(
        bastion.host, "alice", key_path=bastion.alice.key.path, port=bastion.port, timeout=60
    )
    with multi(1, proxy_jump=way) as other:
        with multi(1, proxy_jump=way) as one:
            assert one.execute("true").failed is None
            assert other.execute("true").failed is None
            other.close()
            assert one.execute("true").failed is None, "its loop is the other's, and goes on"
            other.connect()
        assert other.execute("true").failed is None
    assert not [one for one in threading.enumerate() if one.name.startswith("hussh-loop")]


async def test_two_twins_on_one_bastion(loop: str, multi: Multi, bastion: Sshd) -> None:
    """The same for the async twin, which gives 'RuntimeError: … another event loop' per host."""
    way = AsyncConnection(
        bastion.host, "alice", key_path=bastion.alice.key.path, port=bastion.port, timeout=60
    )
    async with multi(1, proxy_jump=way) as one, multi(1, proxy_jump=way) as other:
        assert (await one.execute("true")).failed is None
        assert (await other.execute("true")).failed is None


def test_connect_within_connect(multi: Multi) -> None:
    """A signal handler may connect what is being connected just now."""
    connection = multi(2)
    spread = connection._group.placement._spread

    def interrupted(*arguments: Any) -> Any:
        connection._group.placement._spread = spread  # type: ignore[method-assign]
        assert connection.connect().failed is None
        return spread(*arguments)

    connection._group.placement._spread = interrupted  # type: ignore[method-assign,assignment]
    with connection:
        assert connection.execute("true").failed is None
    assert not [one for one in threading.enumerate() if one.name.startswith("hussh-loop")]


def test_what_the_others_wait_for(multi: Multi, mute_listener: MuteListener) -> None:
    """All hosts behind a bastion that is silent say in which phase it is stuck."""
    way = f"{mute_listener.host}:{mute_listener.port}"
    connection = multi(3, proxy_jump=way, timeout=0.3)
    phases = {one.phase for one in connection.connect().values()}
    connection.close()
    assert phases == {"banner"}


def test_no_hosts_leave_nothing(multi: Multi) -> None:
    """Without a host nothing is open, so nothing was left unclosed."""
    connection = multi([])
    connection.execute("true")
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        del connection
        gc.collect()
    assert warned == []


@pytest.mark.parametrize("callback", [5, "coroutine function"])
def test_callbacks_are_checked_at_once(multi: Multi, callback: Any) -> None:
    """What cannot be called, or would never be awaited, is refused before anything is done."""

    async def coroutine(host: str, result: object) -> None: ...

    with multi(1) as connected, pytest.raises(TypeError, match="on_result"):
        connected.execute("true", on_result=coroutine if callback != 5 else callback)


def test_a_silent_bastion_costs_its_time_once(multi: Multi, mute_listener: MuteListener) -> None:
    """Hosts of later batches do not wait again for the bastion that was silent for the first."""
    way = f"{mute_listener.host}:{mute_listener.port}"
    connection = multi(8, proxy_jump=way, timeout=0.3, batch_size=2)
    assert connection.connect().succeeded is None
    connection.close()
    mute_listener.listener.setblocking(False)
    dialled = 0
    while True:
        try:
            mute_listener.listener.accept()[0].close()
        except BlockingIOError:
            break
        dialled += 1
    assert dialled <= 2  # 4 today, one for each batch
