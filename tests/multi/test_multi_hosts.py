"""Where the connections come from: shared options, options per host, and pickled descriptions."""

from __future__ import annotations

import contextlib
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from hussh import Connection
from hussh.aio import AsyncConnection
from hussh.errors import ConnectTimeout
from hussh.multi_conn import AsyncMultiConnection, MultiConnection, MultiResult
from tests.multi.conftest import HOSTS, Multi
from tests.support.listeners import MuteListener
from tests.support.relay import Relay
from tests.support.sshd import Sshd

SHARED = MultiConnection.from_shared_auth


def connections(multi: MultiConnection) -> list[AsyncConnection]:
    """Return what a MultiConnection is made of."""
    return [member.connection for member in multi._group.members]


def test_every_option_can_be_shared() -> None:
    """`from_shared_auth` has every option of a connection, with the same default and kind."""
    parameters = inspect.signature(SHARED).parameters
    theirs = inspect.signature(AsyncConnection).parameters
    for name, option in theirs.items():
        if name != "host":
            assert name in parameters, name
            assert parameters[name].default == option.default, name


def test_the_signature_of_old() -> None:
    """Names, order and defaults of 0.3.3's parameters; what is new is keyword-only."""

    def old(function: object) -> list[tuple[str, object]]:
        parameters = inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        return [(p.name, p.default) for p in parameters if p.kind is not p.KEYWORD_ONLY]

    assert old(SHARED) == [
        ("hosts", inspect.Parameter.empty), ("username", None), ("password", None),
        ("key_path", None), ("port", 22), ("timeout", 0), ("batch_size", None),
    ]  # fmt: skip
    three = [("connections", inspect.Parameter.empty), ("batch_size", None), ("timeout", None)]
    assert old(MultiConnection) == old(MultiConnection.from_connections) == three
    self = ("self", inspect.Parameter.empty)
    assert old(MultiConnection.connect) == [self, ("prune_failures", False), ("timeout", None)]
    assert [name for name, _ in old(MultiConnection.execute_map)] == [
        "self", "host_command_map", "timeout",
    ]  # fmt: skip


def test_the_twins_have_the_same_methods() -> None:
    """Each public method of one is one of the other, with the same parameters."""

    def methods(kind: type) -> dict[str, list[tuple[str, object, object]]]:
        return {
            name: [
                (p.name, p.kind, p.default) for p in inspect.signature(value).parameters.values()
            ]
            for name, value in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    assert methods(MultiConnection) == methods(AsyncMultiConnection)


def test_a_host_of_its_own() -> None:
    """A mapping changes any option for that host; the others keep the common one."""
    hosts: list[Any] = ["a", {"host": "b", "username": "admin", "port": 2222, "timeout": 5}, "a"]
    a, b, again = connections(SHARED(hosts, username="u", port=22, timeout=9))
    assert [(c.host, c.username, c.port, c.timeout) for c in (a, b, again)] == [
        ("a", "u", 22, 9), ("b", "admin", 2222, 5), ("a", "u", 22, 9),
    ]  # fmt: skip


@pytest.mark.parametrize("own", ["key_path", "private_key"])
@pytest.mark.parametrize("common", ["key_path", "private_key"])
def test_a_key_of_its_own(common: str, own: str) -> None:
    """Either name of the key replaces the common one, whatever that was called."""
    options = {common: "/common"}
    a, b = connections(SHARED(["a", {"host": "b", own: "/own"}], **options))  # type: ignore[arg-type]
    assert (a.private_key, b.private_key) == ("/common", "/own")


def test_another_way_for_one_host() -> None:
    """A host may have its own bastion, none, or a proxy command."""
    hosts: list[Any] = [
        "a",
        {"host": "b", "proxy_jump": "other"},
        {"host": "c", "proxy_jump": None},
    ]
    a, b, c = connections(SHARED(hosts, proxy_jump="way", username="u"))
    assert [[hop.host for hop in one._plan.route] for one in (a, b, c)] == [
        ["way", "a"], ["other", "b"], ["c"],
    ]  # fmt: skip


def test_a_command_beside_a_common_bastion() -> None:
    """A host's own proxy command replaces the common bastion, and the other way round."""
    command = {"host": "b", "proxy_command": "nc %h %p"}
    a, b, c = connections(
        SHARED(["a", command, {"host": "c", "proxy_command": None}], proxy_jump="way", username="u")
    )
    assert [[hop.host for hop in one._plan.route] for one in (a, b, c)] == [
        ["way", "a"], ["b"], ["way", "c"],
    ]  # fmt: skip
    assert [one._plan.proxy_command for one in (a, b, c)] == [None, "nc %h %p", None]
    jump = {"host": "b", "proxy_jump": "way"}
    a, b, c = connections(
        SHARED(["a", jump, {"host": "c", "proxy_jump": "none"}], proxy_command="nc %h %p",
               username="u")
    )  # fmt: skip
    assert [[hop.host for hop in one._plan.route] for one in (a, b, c)] == [
        ["a"], ["way", "b"], ["c"],
    ]  # fmt: skip
    assert [one._plan.proxy_command for one in (a, b, c)] == ["nc %h %p", None, "nc %h %p"]
    both = {"host": "b", "proxy_jump": "way", "proxy_command": "nc %h %p"}
    with pytest.raises(TypeError, match="mutually exclusive"):
        SHARED([both])


def test_bastions_by_name_are_shared_by_equal_credentials() -> None:
    """Hosts that reach a bastion as the same user share it; others have one of their own."""
    hosts: list[Any] = [
        "a",
        "b",
        {"host": "c", "username": "v"},
        {"host": "d", "password": "else"},
        "e",
    ]
    a, b, c, d, e = connections(SHARED(hosts, "u", "secret", proxy_jump="x:1,y"))
    way = a._plan.bastion
    assert way is not None
    assert way is b._plan.bastion is e._plan.bastion
    assert len({id(one._plan.bastion) for one in (a, c, d)}) == 3
    assert [(hop.host, hop.port, hop.username) for hop in way._plan.route] == [
        ("x", 1, "u"), ("y", 22, "u"),
    ]  # fmt: skip
    assert [len(one._plan.hops) for one in (way, a)] == [2, 1]


def test_chains_that_begin_with_an_object() -> None:
    """A list of a connection and a name: the name's hop is shared, too, over that connection."""
    first = AsyncConnection("first")
    a, b = connections(SHARED(["a", "b"], proxy_jump=[first, "second"]))
    assert a._plan.bastion is b._plan.bastion
    assert a._plan.bastion is not None
    assert a._plan.bastion._plan.bastion is first


@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ("", ValueError, "host is empty"),
        ("b:22", ValueError, "host is not a host name"),
        ({"host": 5}, TypeError, "host must be a string"),
        ({"host": "b", "port": "x"}, TypeError, "port must be a valid integer"),
        ({"host": "b", "proxy_jump": 5}, TypeError, "proxy_jump must be"),
        ({"host": "b", "timeout": -1}, ValueError, "timeout must be finite"),
        ({"host": "b", "password": "\ud800"}, ValueError, "password holds"),
    ],
)
def test_an_error_says_whose_it_is(bad: Any, error: type[Exception], words: str) -> None:
    """Among many hosts, a wrong argument is that of one place in the list."""
    with pytest.raises(error, match=rf"^hosts\[2\]: {words}"):
        SHARED(["a", "a", bad, "a"])


def test_hosts_are_no_mapping() -> None:
    """A mapping by itself is not taken for a list of its keys."""
    hosts: Any = {"host": "a"}
    with pytest.raises(TypeError, match="a list of hosts, not one mapping"):
        SHARED(hosts)


def test_a_bastion_has_the_time_of_whom_it_carries(
    multi: Multi, bastion: Sshd, relay_factory: Callable[..., Relay]
) -> None:
    """One host with little time does not take that of the others who share its bastion."""
    relay = relay_factory(bastion)
    relay.freeze()
    hosts = [{"host": HOSTS[0], "timeout": 0.1}, HOSTS[1]]
    way = f"{relay.host}:{relay.port}"

    def thaw(host: str, _: object) -> None:
        if host == HOSTS[0]:
            relay.thaw()

    connection = multi(hosts, proxy_jump=way)
    hasty, patient = connection.connect(on_result=thaw).values()
    assert isinstance(hasty.error, ConnectTimeout)
    assert patient.stderr == ""
    connection.close()


def test_a_call_may_give_a_bastion_more_time(
    multi: Multi, bastion: Sshd, relay_factory: Callable[..., Relay]
) -> None:
    """The time-out of `connect` holds for the bastion, too, in place of the common one."""
    relay = relay_factory(bastion, rtt=0.1)
    connection = multi(2, proxy_jump=f"{relay.host}:{relay.port}", timeout=0.05)
    assert connection.connect().succeeded is None
    assert connection.connect(timeout=60).failed is None
    connection.close()


def test_a_sync_bastion(multi: Multi, bastion: Sshd) -> None:
    """A Connection as bastion is copied: one login more, which all hosts share."""
    key = bastion.alice.key.path
    with Connection(bastion.host, bastion.port, "alice", private_key=key) as way:
        with multi(3, proxy_jump=way) as connected:
            assert connected.execute("true").failed is None
        assert way.execute("true").status == 0
    assert len(bastion.authentications()) == 2


def test_descriptions_can_be_pickled(multi: Multi, bastion: Sshd) -> None:
    """An unconnected MultiConnection, pickled and back, works, with its bastion still shared."""
    given = multi(4, proxy_jump=f"{bastion.host}:{bastion.port}", batch_size=7)
    again: MultiConnection = pickle.loads(pickle.dumps(given))
    assert (repr(again), again.hosts) == (repr(given), given.hosts)
    with again:
        assert again.execute("true").failed is None
    assert len(bastion.authentications()) == 1


def test_a_connection_can_be_pickled(many: Sshd) -> None:
    """An unconnected AsyncConnection keeps every option and its bastion."""
    way = AsyncConnection("way", "w", "pass", known_hosts=["/a"], agent=False)
    one = AsyncConnection("host", "u", key_path="/key", timeout=3, port=9, proxy_jump=way)
    again: AsyncConnection = pickle.loads(pickle.dumps(one))
    assert again._plan.target == one._plan.target
    assert again._plan.route == one._plan.route
    assert again._plan.bastion is not None
    assert again._plan.bastion._plan.target == way._plan.target
    assert again.timeout == 3


def test_nothing_live_can_be_pickled(multi: Multi, many: Sshd) -> None:
    """A live connection of any kind says clearly that it stays here."""
    with multi(1) as connected:
        one = connections(connected)[0]
        result: MultiResult = connected.execute("true")
        for live in (connected, one):
            with pytest.raises(TypeError, match="cannot pickle"):
                pickle.dumps(live)
        assert pickle.loads(pickle.dumps(result)) == result
    pickle.dumps(connected)
    sync = Connection(HOSTS[0], many.port, "alice", private_key=many.alice.key.path)
    with sync, pytest.raises(TypeError, match="cannot pickle a live connection"):
        pickle.dumps(sync)


def test_failures_can_be_pickled(multi: Multi) -> None:
    """Results with errors compare equal after a round trip, and keep hop and phase."""
    with multi([HOSTS[0], {"host": HOSTS[1], "port": 1}]) as connected:
        result = connected.execute("sleep 5; echo", timeout=0.3)
    again: MultiResult = pickle.loads(pickle.dumps(result))
    assert again == result
    assert [(one.hop, one.phase) for one in again.values()] == [
        (one.hop, one.phase) for one in result.values()
    ]
    assert again != MultiResult(again.values()[:1])


def test_no_secret_is_shown() -> None:
    """No repr and no error has a password in it."""
    made = SHARED(["a"], "u", "hunter2-secret", proxy_jump="b")
    with pytest.raises(TypeError) as caught:
        SHARED([{"host": "a", "password": 3}], "u", "hunter2-secret")
    text = f"{made!r} {connections(made)!r} {caught.value}"
    assert "hunter2" not in text


def waiting(listener: MuteListener) -> int:
    """Return how many connections have come."""
    count = 0
    listener.listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.listener.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize("behind", [False, True])
def test_an_operation_that_connects(
    multi: Multi, mute_listener: MuteListener, behind: bool
) -> None:
    """An operation's time limit holds for the connecting that it does, on the bastion, too."""
    mute = {"host": mute_listener.host, "port": mute_listener.port}
    if behind:
        mute = {"host": HOSTS[0], "proxy_jump": f"{mute_listener.host}:{mute_listener.port}"}
    with contextlib.closing(multi([mute, HOSTS[1]], timeout=1)) as connected:
        execute, write = connected.execute, connected.sftp_write_data
        for result, limit in (
            (execute("true", timeout=0.2), "0.2 s"),
            (write("x", "limited", timeout=0.3), "0.3 s"),
            (connected.sftp_read("limited", timeout=0.25), "0.3 s"),
            (connected.execute("true"), "1 s"),
            (connected.execute("true", timeout=60), "1 s"),
        ):
            late, fine = result.values()
            assert f"timed out after {limit}" in late.stderr
            assert (late.status, late.phase) == (-1, "banner")
        assert fine.status == 0  # the others had little time, even for a host that answers
    # The second and the fourth had more time than any before, and were worth a try.
    assert waiting(mute_listener) == 3


def test_nobody_waits_without_a_limit(multi: Multi, mute_listener: MuteListener) -> None:
    """After an attempt that had one, a host that does not answer holds up no later operation."""
    mute = {"host": mute_listener.host, "port": mute_listener.port}
    with contextlib.closing(multi([mute, HOSTS[1]], timeout=0)) as connected:
        for has_time, result in (
            (False, connected.connect(timeout=0.2)),
            (True, connected.execute("true")),
            (False, connected.connect(timeout=0.2)),
            (True, connected.execute("true", timeout=60)),
        ):
            late, fine = result.values()
            assert "timed out after 0.2 s" in late.stderr
            assert fine.status == 0 or not has_time
    with contextlib.closing(multi([mute, HOSTS[1]], timeout=0)) as connected:
        for has_time in (False, True):
            result = connected.execute("true", timeout=None if has_time else 0.2)
            late, fine = result.values()
            assert "timed out after 0.2 s" in late.stderr
            assert fine.status == 0 or not has_time
