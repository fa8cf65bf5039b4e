"""``gssapi=``: logins with a Kerberos ticket, by a real KDC, on every hop and in every API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hussh import AuthenticationError, Connection, ConnectTimeout, HusshError
from hussh._policy.advice import advise
from hussh._policy.kerberos import KERBEROS, get_principal
from hussh.multi_conn import MultiConnection
from tests.auth.steps import SshdFactory, attempts, login, refused
from tests.conformance.apis import APIS, Api
from tests.support.hostile import Conn, HostileServer
from tests.support.hostile_wire import string, u32
from tests.support.kerberos import OBSTACLE, REALM, Realm
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd

INSIDE = "target.internal"
Start = Callable[..., Sshd]


@pytest.fixture
def realm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Realm]:
    """Return a realm that knows this machine by its address, and a name behind the bastion."""
    if OBSTACLE:
        pytest.skip(OBSTACLE)
    with Realm(tmp_path / "realm", "127.0.0.1", INSIDE) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        made.kinit()
        yield made


@pytest.fixture
def start(realm: Realm, sshd_factory: SshdFactory) -> Start:
    """Start servers that take tickets, and beside them what ``more`` says."""

    def make(**more: Any) -> Sshd:
        options = {
            "GSSAPIAuthentication": "yes",
            "GSSAPIStrictAcceptorCheck": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            **more.pop("options", {}),
        }
        server = sshd_factory(options=options, environment=realm.environment, **more)
        server.forget_keys(server.alice)
        return server

    return make


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_bastion_and_target(api: Api, start: Start) -> None:
    """Both hops are entered by a ticket; only the bastion knows the target's name."""
    bastion, target = start(hosts={INSIDE: "127.0.0.1"}), start(name="inside")

    async def main() -> None:
        jump = await api.connect(bastion.host, bastion.port, username="alice", gssapi=True)
        behind = await api.connect(
            INSIDE, target.port, username="alice", gssapi=True, proxy_jump=jump
        )
        assert (await behind.execute("echo $SERVER_NAME")).stdout == "inside\n"
        await behind.close()
        await jump.close()
        named = await api.connect(
            INSIDE, target.port, username="alice", gssapi=f"host/{INSIDE}@{REALM}",
            proxy_jump=f"alice@{bastion.host}:{bastion.port}",
        )  # fmt: skip
        assert (await named.execute("echo in")).stdout == "in\n"
        await named.close()

    api.run(main)
    target.wait_for_log("^Accepted gssapi-with-mic for alice", count=2)
    assert {method for method, _ in attempts(target)} == {"gssapi-with-mic"}


def test_name_is_not_resolved_here(realm: Realm, start: Start) -> None:
    """The server's name is asked for as it stands: 127.0.0.1, which resolves to localhost."""
    server = start()
    with login(server, gssapi=True) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    log = realm.log.read_text()
    assert f"for host/127.0.0.1@{REALM}" in log
    assert "localhost" not in log


def test_realm_of_the_configuration(realm: Realm) -> None:
    """The realm of a name is what krb5.conf says; else the user's KDC finds it."""
    realm.configure(extra="[domain_realm]\n .there.test = THERE.TEST\n")
    assert get_principal("A.there.test") == "host/a.there.test@THERE.TEST"
    assert get_principal("elsewhere.test") == "host/elsewhere.test@"


def test_why_there_is_no_ticket(realm: Realm, start: Start, mute_listener: MuteListener) -> None:
    """No ticket, an expired one, an unknown server, no KDC: told, with what to do, in 1 attempt."""
    server = start()

    def why(**options: Any) -> str:
        error = refused(server, gssapi=True, **options)
        assert isinstance(error, AuthenticationError)
        assert "gave no ticket" in error.text
        assert attempts(server) == []  # the server was not asked
        return error.text

    realm.kinit("-s", "-3h", "-l", "1h", "-r", "9h")
    assert "kinit" in why()
    realm.forget_tickets()
    assert "get a ticket with kinit" in why()
    realm.kinit()
    error = refused(server, gssapi="nobody.test")
    assert "host/nobody.test" in error.text
    assert "gssapi= takes it" in error.text
    realm.stop()
    assert "no KDC of the realm answers" in why()
    realm.configure(port=mute_listener.port)

    async def wait(api: Api) -> None:
        with pytest.raises(ConnectTimeout, match=r"authenticating at .* waiting for Kerberos"):
            await api.connect(server.host, server.port, username="alice", gssapi=True, timeout=0.4)

    for api in APIS:
        api.run(partial(wait, api))


def test_ticket_that_is_not_enough(realm: Realm, start: Start) -> None:
    """Another user's ticket is refused; other credentials follow, also as a second factor."""
    server = start(options={"PasswordAuthentication": "yes"})
    error = refused(server, username="bob", gssapi=True)
    assert "the server refused the Kerberos ticket; tried: gssapi-with-mic;" in error.text
    assert ".k5login" in advise(error)
    bob = server.bob
    with login(server, username="bob", gssapi=True, private_key=bob.key.path) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    with login(server, username="bob", gssapi=True, password=bob.password) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    both = start(options={"AuthenticationMethods": "gssapi-with-mic,publickey"})
    both.authorize(both.alice, both.alice.key)
    with login(both, gssapi=True, private_key=both.alice.key.path) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert "wants another" in refused(both, gssapi=True).text


def test_server_without_its_key(realm: Realm, start: Start) -> None:
    """A keytab that is not, or no more, the server's is told in its Kerberos's words."""
    server = start()
    realm.change_key("127.0.0.1")
    error = refused(server, gssapi=True)
    assert "refused the Kerberos ticket" in error.text
    assert "gssapi-with-mic (the server's Kerberos: " in error.text
    assert "keytab" in advise(error)
    assert isinstance(error, AuthenticationError)
    assert "publickey" in error.methods_left  # what came after the token was heard
    realm.keytab.unlink()
    assert "refused the Kerberos ticket" in refused(server, gssapi=True).text


def test_batch(realm: Realm, start: Start) -> None:
    """Hosts of a batch are entered by tickets, through a bastion that is entered by one."""
    bastion, target = start(), start()
    with MultiConnection.from_shared_auth(
        [target.host] * 2, "alice", port=target.port, gssapi=True,
        proxy_jump=f"{bastion.host}:{bastion.port}", host_key_policy="ignore",
    ) as batch:  # fmt: skip
        results = list(batch.execute("echo in").values())
    assert [result.stdout for result in results] == ["in\n", "in\n"]


def test_configuration(realm: Realm, start: Start, tmp_path: Path) -> None:
    """GSSAPIAuthentication is followed if there is a ticket, in the order of PreferredAuth…."""
    server = start()
    config = tmp_path / "config"

    def connect(order: str = "") -> list[str]:
        config.write_text(
            f"Host t\n HostName 127.0.0.1\n Port {server.port}\n User alice\n{order}"
            " GSSAPIAuthentication yes\n StrictHostKeyChecking no\n"
            f" IdentityFile {server.alice.key.path}\n"
        )
        server.settle()
        with Connection("t", config=config) as connection:
            assert connection.execute("echo in").stdout == "in\n"
        return [method for method, outcome in attempts(server) if outcome == "accepted"]

    assert connect() == ["gssapi-with-mic"]
    server.authorize(server.alice, server.alice.key)
    assert connect(" PreferredAuthentications publickey,gssapi-with-mic\n") == ["publickey"]
    assert connect(" PreferredAuthentications publickey\n") == ["publickey"]
    assert connect(" PreferredAuthentications gssapi-with-mic\n") == ["gssapi-with-mic"]
    realm.forget_tickets()
    assert connect() == ["publickey"]
    with pytest.raises(AuthenticationError, match="no ticket"):
        Connection("t", config=config, gssapi=True)


#: What a server does after the request, and the words of the error.
BREACHES: dict[str, tuple[list[tuple[int, list[bytes]]], str]] = {
    "another mechanism": ([(60, [string(b"\6\1\1")])], "was not offered"),
    "no token": ([(60, [string(KERBEROS)]), (61, [string(b"nonsense")])], "authenticating|failed"),
    "error": (
        [
            (60, [string(KERBEROS)]),
            (64, [u32(1), u32(2), string("no\x1b[2J keytab"), string("")]),
            (51, [string(b"password"), b"\0"]),
        ],
        r"Kerberos: no.\[2J keytab",
    ),
    "cut": ([(60, [string(KERBEROS)]), (61, [u32(9)])], "ends within"),
    "endless": ([(60, [string(KERBEROS)]), *[(64, [u32(1)] * 2 + [u32(0)] * 2)] * 20], "more than"),
}


@pytest.mark.parametrize("breach", BREACHES)
def test_breach(breach: str, realm: Realm) -> None:
    """A server that does not keep to RFC 4462 gets an error that says so, and no MIC."""
    answers, words = BREACHES[breach]

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        assert conn.read_auth_request().method == "gssapi-with-mic"
        for number, fields in answers:
            conn.send(number, *fields)
        while True:
            assert conn.read_packet()[0] != 66

    with HostileServer(script) as server:
        with pytest.raises(HusshError, match=words) as caught:
            Connection(*server.address, "alice", gssapi=True, timeout=20_000)
        server.wait()
    assert caught.value.phase == "auth"


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: Sshd) -> None:
    """An argument is an error that says what to install; a configuration's word is left out."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"pip install 'hussh\[gssapi\]'"):
        Connection("127.0.0.1", 1, gssapi=True)
    config = tmp_path / "config"
    config.write_text(
        f"Host t\n HostName {target.host}\n Port {target.port}\n User alice\n"
        f" GSSAPIAuthentication yes\n StrictHostKeyChecking no\n"
        f" IdentityFile {target.alice.key.path}\n"
    )
    with Connection("t", config=config) as connection:
        assert connection.execute("echo in").stdout == "in\n"


@pytest.mark.parametrize("value", [1, "a b", "a\nb", None])
def test_bad_values(value: object) -> None:
    """What is neither a bool nor a name is refused before anything is opened."""
    with pytest.raises((TypeError, ValueError), match="gssapi must"):
        Connection("127.0.0.1", 1, gssapi=value)  # type: ignore[arg-type]
