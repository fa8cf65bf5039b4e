"""Every form of ``proxy_jump=``, against real servers: who was asked for what, in which order."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hussh import ConnectError, Connection
from tests.jump.conftest import Login
from tests.support.netns import ADDRESSES, Network
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]

#: Name -> a server as one hop, given as this form.
FORMS: dict[str, Callable[[Sshd], object]] = {
    "string": lambda s: f"{s.host}:{s.port}",
    "string-user": lambda s: f"{s.alice.name}@{s.host}:{s.port}",
    "url": lambda s: f"ssh://{s.alice.name}@{s.host}:{s.port}",
    "tuple": lambda s: (s.host, s.port),
    "tuple-user": lambda s: (f"{s.alice.name}@{s.host}", s.port),
    "list-string": lambda s: [f"{s.host}:{s.port}"],
    "list-tuple": lambda s: [(s.host, s.port)],
}


def accepted(server: Sshd) -> list[tuple[str, str]]:
    """Return user and method of every completed login."""
    return [(each.user, each.method) for each in server.authentications() if each.accepted]


def forwards(server: Sshd) -> list[tuple[str, int]]:
    """Return where the server was asked to connect to, in order."""
    return [each.target for each in server.forwards()]


@pytest.mark.parametrize("form", FORMS)
def test_one_hop(form: str, bastion: Sshd, target: Sshd, login: Login) -> None:
    """Each form that names a bastion leads through it, with the target's user and key."""
    jumped = login(target, proxy_jump=FORMS[form](bastion))
    assert jumped.execute("echo $SERVER_NAME").stdout == "target\n"
    assert forwards(bastion) == [(target.host, target.port)]
    assert accepted(bastion) == [(target.alice.name, "publickey")]
    assert accepted(target) == [(target.alice.name, "publickey")]
    assert (bastion.connections(), target.connections()) == (1, 1)


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "list"])
def test_connection(wrapped: bool, bastion: Sshd, target: Sshd, login: Login) -> None:
    """A bastion that is connected carries the target without another login."""
    first = login(bastion)
    jumped = login(target, proxy_jump=[first] if wrapped else first)
    assert jumped.execute("echo $SERVER_NAME").stdout == "target\n"
    assert first.execute("echo $SERVER_NAME").stdout == "bastion\n"
    assert forwards(bastion) == [(target.host, target.port)]
    assert len(accepted(bastion)) == bastion.connections() == 1


@pytest.mark.parametrize("nothing", [None, "none", "NONE", []])
def test_no_jump(nothing: object, bastion: Sshd, target: Sshd, login: Login) -> None:
    """None, "none" in any case and an empty list connect directly."""
    direct = login(target, proxy_jump=nothing)
    assert direct.execute("echo $SERVER_NAME").stdout == "target\n"
    assert bastion.connections() == 0
    assert target.connections() == 1


@pytest.fixture
def chain(sshd_factory: SshdFactory) -> list[Sshd]:
    """Return four servers, the second on IPv6: three hops and the target."""
    addresses = ("127.0.0.1", "::1", "127.0.0.1", "127.0.0.1")
    return [
        sshd_factory(name=f"s{number}", address=address) for number, address in enumerate(addresses)
    ]


def _nested(login: Login, hops: list[Sshd]) -> object:
    last = None
    for server in hops:
        last = login(server, proxy_jump=last)
    return last


def _text(server: Sshd, user: str = "") -> str:
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"{user}{host}:{server.port}"


CHAINS: dict[str, Callable[[Login, list[Sshd]], object]] = {
    "nested": _nested,
    "list": lambda _, hops: [(hops[0].host, hops[0].port), _text(hops[1]), _text(hops[2])],
    "string": lambda _, hops: ",".join(_text(hop) for hop in hops),
    "string-users": lambda _, hops: ",".join(_text(hop, f"{hop.alice.name}@") for hop in hops),
    "string-urls": lambda _, hops: ",".join("ssh://" + _text(hop) for hop in hops),
    "connection-first": lambda login, hops: [login(hops[0]), ",".join(map(_text, hops[1:]))],
}


@pytest.mark.parametrize("form", CHAINS)
def test_order_of_travel(form: str, chain: list[Sshd], login: Login) -> None:
    """Three hops are travelled in the order in which they are listed, one login on each."""
    *hops, last = chain
    jumped = login(last, proxy_jump=CHAINS[form](login, hops))
    assert jumped.execute("echo $SERVER_NAME").stdout == "s3\n"
    for server, following in zip(hops, chain[1:], strict=True):
        assert forwards(server) == [(following.host, following.port)]
    assert forwards(last) == []
    for server in chain:
        assert server.connections() == 1
        assert accepted(server) == [(server.alice.name, "publickey")]


def test_target_sees_the_last_hop(chain: list[Sshd], login: Login) -> None:
    """The connection that each server sees belongs to a process of the hop before it."""
    *hops, last = chain
    jumped = login(last, proxy_jump=CHAINS["list"](login, hops))
    address, port = jumped.execute("echo $SSH_CONNECTION").stdout.split()[:2]
    assert address == "127.0.0.1"
    assert _owns_port(hops[-1], int(port))
    assert not _owns_port(hops[0], int(port))


def _owns_port(server: Sshd, port: int) -> bool:
    table = Path("/proc/net/tcp").read_text().splitlines()[1:]
    inodes = {row[9] for row in map(str.split, table) if int(row[1].split(":")[1], 16) == port}
    held = set()
    for process in server.processes():
        try:
            for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
                held.add(str(descriptor.readlink()))
        except PermissionError:
            pytest.skip("needs to see what a server's processes have open (SYS_PTRACE)")
    return any(f"socket:[{inode}]" in held for inode in inodes)


def test_users_of_hops(bastion: Sshd, target: Sshd, login: Login) -> None:
    """A hop without a user gets the target's, a hop with one keeps it."""
    bob = target.bob
    place = f"{bastion.host}:{bastion.port}"
    login(target, username=bob.name, private_key=bob.key.path, proxy_jump=place).close()
    assert [user for user, _ in accepted(bastion)] == [bob.name]
    bastion.settle()
    bastion.authorize(bastion.alice, bob.key)
    named = f"{bastion.alice.name}@{place}"
    login(target, username=bob.name, private_key=bob.key.path, proxy_jump=named)
    assert [user for user, _ in accepted(bastion)] == [bastion.alice.name]


def test_password_of_hops(sshd_factory: SshdFactory, login: Login) -> None:
    """A string hop is given the target's password, a Connection hop its own."""
    first, last = sshd_factory(), sshd_factory()
    with pytest.raises(Exception, match=f"@{first.host}:{first.port}, auth") as refused:
        login(last, password=last.alice.password, proxy_jump=(first.host, first.port))
    assert last.alice.password not in str(refused.value)
    assert ("password", "failed") in [(a.method, a.outcome) for a in first.authentications()]
    assert last.connections() == 0
    bastion = login(first, password=first.alice.password)
    login(last, password=last.alice.password, proxy_jump=bastion)
    assert [method for _, method in accepted(first)] == ["password"]
    last.wait_for_log(r"^Accepted password")  # the server tells us before it tells its log
    assert [method for _, method in accepted(last)] == ["password"]


def test_port_of_hops(network: Network, sshd_factory: SshdFactory, login: Login) -> None:
    """A hop without a port is reached at 22, never at the target's port."""
    with network.enter("target"):
        last = sshd_factory(address=ADDRESSES["target"], port=2022)
    with network.enter("bastion"):
        wrong = sshd_factory(address=ADDRESSES["bastion"], port=2022)
    with network.enter("client"):
        with pytest.raises(ConnectError, match=r"port 22: .*refused") as refused:
            login(last, proxy_jump=ADDRESSES["bastion"])
        assert refused.value.hop == f"{last.alice.name}@{ADDRESSES['bastion']}:22"
        assert wrong.connections() == 0
        with network.enter("bastion"):
            right = sshd_factory(address=ADDRESSES["bastion"], port=22)
        jumped = login(last, proxy_jump=ADDRESSES["bastion"])
        assert jumped.execute("true").status == 0
    assert forwards(right) == [(last.host, 2022)]
    assert wrong.connections() == 0


def test_target_out_of_reach(network: Network, sshd_factory: SshdFactory, login: Login) -> None:
    """A target that only the bastion reaches: directly an error, through the bastion a command."""
    with network.enter("target"):
        last = sshd_factory(address=ADDRESSES["target"], name="inside")
    with network.enter("bastion"):
        middle = sshd_factory(address=ADDRESSES["bastion"])
    with network.enter("client"):
        with pytest.raises(ConnectError, match="unreachable"):
            login(last)
        bastion = login(middle)
        jumped = login(last, proxy_jump=bastion)
        assert jumped.execute("echo $SERVER_NAME").stdout == "inside\n"
        seen = jumped.execute("echo $SSH_CONNECTION").stdout.split()[0]
    assert seen == "198.51.100.1"  # the bastion's inner side
    assert last.connections() == 1


def _untouched(listener: socket.socket) -> bool:
    listener.setblocking(False)
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return True
    return False


def test_cycles_open_nothing() -> None:
    """A way that passes the same server twice is refused before a socket is opened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        here = f"me@127.0.0.1:{port}"
        ways: list[object] = [here, [here], f"{here},{here}", ("127.0.0.1", port),
                              f"{here},other@127.0.0.1:{port},{here}"]  # fmt: skip
        for way in ways:
            with pytest.raises(ValueError, match="twice"):
                Connection("127.0.0.1", port, "me", proxy_jump=way)
        assert _untouched(listener)


def test_more_than_ten_hops_open_nothing() -> None:
    """Eleven hops are refused before a socket is opened, in a string as in a list."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        hops = [f"user{number}@127.0.0.1:{port}" for number in range(11)]
        for way in (",".join(hops), hops):
            with pytest.raises(ValueError, match="11 jump hosts"):
                Connection("127.0.0.1", port, "me", proxy_jump=way)
        assert _untouched(listener)


def test_cycle_through_connections(bastion: Sshd, target: Sshd, login: Login) -> None:
    """Nested connections count with all of their hops, for cycles and for the limit."""
    first = login(bastion)
    second = login(target, proxy_jump=first)
    with pytest.raises(ValueError, match="twice"):
        login(bastion, proxy_jump=second)
    with pytest.raises(ValueError, match="11 jump hosts"):
        login(target, proxy_jump=[second, *(f"user{number}@127.0.0.1" for number in range(9))])
    assert second.execute("true").status == 0
    assert (bastion.connections(), target.connections()) == (1, 1)
    assert len(forwards(bastion)) == 1


def test_arguments_open_nothing() -> None:
    """Hosts and ports that cannot be meant are refused before a socket is opened."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        for bad in (f"127.0.0.1:{port}x", ("127.0.0.1", 0), ["127.0.0.1:70000"]):
            with pytest.raises(TypeError, match="port must be a valid integer"):
                Connection("127.0.0.1", port, proxy_jump=bad)
        for worse in (5, b"127.0.0.1", {"host": "x"}, object()):
            with pytest.raises(TypeError, match="proxy_jump must be a Connection"):
                Connection("127.0.0.1", port, proxy_jump=worse)
        with pytest.raises(ValueError, match="control"):
            Connection("127.0.0.1\0", port, proxy_jump=f"127.0.0.1:{port}")
        with pytest.raises(TypeError, match="mutually exclusive"):
            Connection("127.0.0.1", port, proxy_jump="x", proxy_command="y")
        assert _untouched(listener)
