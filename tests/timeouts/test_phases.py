"""One time limit over every phase of every hop: whoever stalls, and wherever, it ends the wait."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from hussh import SSHResult
from hussh.errors import ConnectTimeout
from tests.conformance.apis import Api, Session
from tests.support.hostile import (
    Conn,
    HostileServer,
    Interactive,
    PublicKey,
    Round,
    polite,
)
from tests.support.hostile_catalogue import until
from tests.support.listeners import FullBacklog, MuteListener
from tests.support.sshd import Sshd
from tests.timeouts.conftest import LIMIT, SHORT, ConnectInVain

PHASE_AT = {
    "version": "kex",
    "reply": "kex",
    "kex": "auth",
    "service": "auth",
    "auth": "auth",
}


async def test_no_answer_to_the_first_packet(
    connect_in_vain: ConnectInVain, full_backlog: FullBacklog
) -> None:
    """An address that drops packets costs no more than the limit."""
    error = await connect_in_vain(full_backlog.host, full_backlog.port, "connect", limit=SHORT)
    assert error.hop == f"u@{full_backlog.host}:{full_backlog.port}"
    assert error.hop_index == 0


async def test_no_banner(connect_in_vain: ConnectInVain, mute_listener: MuteListener) -> None:
    """A server that accepts and says nothing costs no more than the limit."""
    error = await connect_in_vain(mute_listener.host, mute_listener.port, "banner", limit=SHORT)
    assert error.hop == f"u@{mute_listener.host}:{mute_listener.port}"


async def test_banner_byte_by_byte(
    connect_in_vain: ConnectInVain, slow_banner: Callable[..., Any]
) -> None:
    """Progress does not prolong the limit: a banner that trickles in."""
    peer = slow_banner(0.02)
    await connect_in_vain(peer.host, peer.port, "banner", limit=SHORT)


async def test_endless_lines_before_the_banner(connect_in_vain: ConnectInVain) -> None:
    """Lines before the banner (RFC 4253 section 4.2) do not prolong the limit."""
    stop = threading.Event()

    def chatter(conn: Conn) -> None:
        while not stop.wait(0.02):
            conn.send_raw(b"one moment, please\r\n")

    with HostileServer(chatter) as server:
        try:
            await connect_in_vain(server.host, server.port, "banner", limit=SHORT)
        finally:
            stop.set()


@pytest.mark.parametrize("where", PHASE_AT)
async def test_stall_on_the_way_in(connect_in_vain: ConnectInVain, where: str) -> None:
    """A server that falls silent within the handshake or the login costs no more than the limit."""
    with HostileServer(until(where, Conn.wait_closed)) as server:
        error = await connect_in_vain(server.host, server.port, PHASE_AT[where])
    assert error.hop == f"u@{server.host}:{server.port}"


async def test_refusals_without_end(connect_in_vain: ConnectInVain) -> None:
    """A server that keeps asking keyboard-interactive questions does not prolong the limit."""
    rounds = [Round([("more? ", True)])] * 1000
    stop = threading.Event()

    def answer(_: object) -> list[str]:
        stop.wait(0.1)
        return ["x"]

    with HostileServer(polite(Interactive(*rounds))) as server:
        await connect_in_vain(server.host, server.port, "auth", password=None, prompt=answer)


async def test_a_prompt_that_is_answered_too_late(connect_in_vain: ConnectInVain) -> None:
    """The limit also counts while the user is asked: it cannot cut the callback short, only lapse.

    The callback runs to its end, and its late answer is not sent.
    """
    asked: list[object] = []

    def answer(request: object) -> list[str]:
        asked.append(request)
        threading.Event().wait(LIMIT + 0.1)
        return ["too late"]

    factor = Interactive(Round([("code: ", False)]))
    with HostileServer(polite(factor)) as server:
        await connect_in_vain(server.host, server.port, "auth", password=None, prompt=answer)
        log = server.wait().auth_log
    assert len(asked) == 1
    assert all(not request.answers for request in log)


async def test_an_agent_that_hangs(connect_in_vain: ConnectInVain, tmp_path: Path) -> None:
    """An ssh-agent that takes the question and never answers costs no more than the limit."""
    takes_keys = polite(PublicKey(set()))  # else the agent is not asked
    with socket.socket(socket.AF_UNIX) as listener, HostileServer(takes_keys) as server:
        listener.bind(str(tmp_path / "agent"))
        listener.listen(1)
        path = tmp_path / "agent"
        await connect_in_vain(server.host, server.port, "auth", password=None, agent=path)


@pytest.fixture
def hanging_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let names take until the end of the test to resolve; addresses are not asked for."""
    real = socket.getaddrinfo
    release = threading.Event()

    def hang(host: Any, *given: Any, **named: Any) -> Any:
        if named.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, *given, **named)
        release.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "released")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    release.set()


@pytest.mark.usefixtures("hanging_resolver")
async def test_a_name_that_does_not_resolve_in_time(connect_in_vain: ConnectInVain) -> None:
    """A resolver that hangs costs no more than the limit, and the error blames it."""
    error = await connect_in_vain("name.test", 22, "dns", limit=SHORT)
    assert error.hop == "u@name.test:22"


async def test_the_way_through_a_bastion_hangs(
    connect_in_vain: ConnectInVain,
    login: Callable[..., Any],
    bastion: Sshd,
    full_backlog: FullBacklog,
) -> None:
    """A bastion that waits for a dropped packet: the limit holds, the bastion lives."""
    jump = await login(bastion)
    error = await connect_in_vain(
        full_backlog.host, full_backlog.port, "channel", proxy_jump=jump, limit=SHORT
    )
    assert error.hop == f"u@{full_backlog.host}:{full_backlog.port}"
    assert error.hop_index == 1
    assert (await jump.execute("echo alive")).stdout == "alive\n"
    await jump.close()


async def test_mute_behind_a_bastion(
    connect_in_vain: ConnectInVain,
    login: Callable[..., Any],
    bastion: Sshd,
    mute_listener: MuteListener,
) -> None:
    """A mute target behind a bastion: its phase and its hop are named, the bastion lives."""
    jump = await login(bastion)
    error = await connect_in_vain(mute_listener.host, mute_listener.port, "banner", proxy_jump=jump)
    assert (error.hop, error.hop_index) == (f"u@{mute_listener.host}:{mute_listener.port}", 1)
    assert (await jump.execute("echo alive")).stdout == "alive\n"
    await jump.close()


@pytest.mark.parametrize("where", ["reply", "auth"])
async def test_stall_behind_a_bastion(
    connect_in_vain: ConnectInVain, login: Callable[..., Any], bastion: Sshd, where: str
) -> None:
    """A stall in the inner handshake or login is named with the inner hop's place."""
    jump = await login(bastion)
    with HostileServer(until(where, Conn.wait_closed)) as server:
        error = await connect_in_vain(server.host, server.port, PHASE_AT[where], proxy_jump=jump)
        assert (error.hop, error.hop_index) == (f"u@{server.host}:{server.port}", 1)
    assert (await jump.execute("echo alive")).stdout == "alive\n"
    await jump.close()


async def test_a_bastion_given_by_name_is_mute(
    connect_in_vain: ConnectInVain, mute_listener: MuteListener
) -> None:
    """A jump host that is connected on the way is the one that the error names."""
    jump = f"j@{mute_listener.host}:{mute_listener.port}"
    error = await connect_in_vain("target.test", 22, "banner", proxy_jump=jump, limit=SHORT)
    assert (error.hop, error.hop_index) == (jump, 0)


async def test_a_bastion_that_does_not_answer_the_open(connect_in_vain: ConnectInVain) -> None:
    """A bastion that ignores the request for a channel costs no more than the limit."""
    with HostileServer(until("open", Conn.wait_closed)) as server:
        jump = f"j@{server.host}:{server.port}"
        error = await connect_in_vain("target.test", 22, "channel", proxy_jump=jump)
        assert (error.hop, error.hop_index) == ("u@target.test:22", 1)


async def test_every_hop_is_slow(
    api: Api, bastion: Sshd, relay_factory: Callable[..., Any]
) -> None:
    """Hops that are each within the limit are not, together: there is one limit for all."""
    first = relay_factory(bastion, rtt=0.1)
    second = relay_factory(bastion, rtt=0.1)
    third = relay_factory(bastion, rtt=0.1)
    account = bastion.alice
    ways = [f"{account.name}@{relay.host}:{relay.port}" for relay in (first, second)]
    begin = monotonic()
    with pytest.raises(ConnectTimeout) as caught:
        await api.connect(
            third.host,
            third.port,
            username=account.name,
            private_key=account.key.path,
            proxy_jump=",".join(ways),
            timeout=0.9,
        )
    assert 0.9 <= monotonic() - begin < 10
    assert caught.value.hop is not None


@pytest.mark.parametrize("limit", [0, None])
async def test_no_limit(api: Api, target: Sshd, limit: float | None) -> None:
    """0 and None mean no limit, for connecting and for commands."""
    session = await api.connect(
        target.host,
        target.port,
        username=target.alice.name,
        private_key=target.alice.key.path,
        timeout=limit,
    )
    assert (await session.execute("sleep 0.1; echo ok", timeout=limit)).stdout == "ok\n"
    await session.close()


async def test_the_limit_of_the_connection_holds_for_commands(
    api: Api, login: Callable[..., Any], target: Sshd
) -> None:
    """A command takes the connection's limit unless it has its own; 0 lifts it."""
    session: Session = await login(target, timeout=2)
    theirs, lifted, own = await api.together(
        lambda: session.execute("exec sleep 20"),
        lambda: session.execute("sleep 2.3; echo long", timeout=0),
        lambda: session.execute("exec sleep 20", timeout=0.1),
    )
    assert isinstance(theirs, TimeoutError)
    assert "after 2" in str(theirs)
    assert isinstance(lifted, SSHResult)
    assert lifted.stdout == "long\n"
    assert isinstance(own, TimeoutError)
    assert re.search(r"after (100 ms|0\.1 s)", str(own))
    await session.close()
