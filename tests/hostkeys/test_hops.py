"""Host keys on the way: every hop is checked under its own name, and stops what comes after it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, HostKeyError
from tests.hostkeys.lines import found, line, name_of, write
from tests.support.keys import Keys
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
HOPS = ("bastion", "middle", "target")


class Way:
    """Three servers in a row, reached by one key; the last one under a name of its own."""

    def __init__(self, sshd_factory: SshdFactory, keys: Keys) -> None:
        self.key = keys.get(name="way")
        self.servers = {name: sshd_factory(name=name) for name in HOPS}
        for server in self.servers.values():
            server.authorize(server.alice, self.key)

    def lines(self, **replaced: str) -> list[str]:
        """Return the known_hosts lines of all hops, some of them replaced."""
        return [
            replaced.get(name) or line(name_of(server), server.host_keys["ed25519"])
            for name, server in self.servers.items()
        ]

    @contextlib.contextmanager
    def connect(self, file: Path, policy: str = "strict", **options: Any) -> Iterator[Connection]:
        """Connect through the first two servers to the third; all hops have the same options."""
        first, second, last = self.servers.values()
        user = first.alice.name
        with Connection(
            last.host,
            last.port,
            user,
            private_key=self.key.path,
            known_hosts=file,
            host_key_policy=policy,
            proxy_jump=[f"{first.host}:{first.port}", f"{second.host}:{second.port}"],
            **options,
        ) as connection:
            yield connection


@pytest.fixture
def way(sshd_factory: SshdFactory, keys: Keys) -> Way:
    """Return three servers in a row."""
    return Way(sshd_factory, keys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return where a known_hosts file may be."""
    return tmp_path / "known_hosts"


@pytest.mark.parametrize("hashed", [False, True])
def test_every_hop_under_its_own_name(hashed: bool, way: Way, file: Path) -> None:
    """With three lines, one for each hop, strict connects: no tunnel hides their names."""
    write(file, *way.lines(), hashed=hashed)
    with way.connect(file) as connection:
        assert connection.execute("echo $SERVER_NAME").stdout == "target\n"


@pytest.mark.parametrize("policy", ["accept-unknown", "strict"])
@pytest.mark.parametrize("wrong", HOPS)
def test_wrong_key_on_one_hop(wrong: str, policy: str, way: Way, keys: Keys, file: Path) -> None:
    """A changed key stops at its hop and names it; that server and those after it see no login."""
    index, server = HOPS.index(wrong), way.servers[wrong]
    recorded = keys.get(name="other-host")
    write(file, *way.lines(**{wrong: line(name_of(server), recorded)}))
    with pytest.raises(HostKeyError) as caught, way.connect(file, policy):
        pass
    error = caught.value
    assert (error.hop, error.hop_index, error.phase) == (
        f"{server.alice.name}@{server.host}:{server.port}",
        index,
        "hostkey",
    )
    assert error.host == name_of(server)
    assert error.reason == "changed"
    assert error.fingerprint == server.host_keys["ed25519"].fingerprint
    assert error.recorded == (recorded.fingerprint,)
    for text in (error.host, error.fingerprint, recorded.fingerprint):
        assert text in str(error)
    server.wait_for_log(
        r"^(Connection closed by|Disconnected from|Received disconnect)|Broken pipe"
    )
    for name in HOPS[:index]:
        assert [each.accepted for each in way.servers[name].authentications()] == [True]
    for name in HOPS[index:]:
        assert way.servers[name].authentications() == []
    for name in HOPS[index + 1 :]:
        assert way.servers[name].connections() == 0


@pytest.mark.parametrize("missing", HOPS)
def test_unknown_key_on_one_hop(missing: str, way: Way, file: Path) -> None:
    """strict wants a line for each hop; the error names the one that has none."""
    server = way.servers[missing]
    text = write(file, *way.lines(**{missing: "# nothing\n"})).read_text()
    with pytest.raises(HostKeyError) as caught, way.connect(file):
        pass
    assert caught.value.hop_index == HOPS.index(missing)
    assert (caught.value.host, caught.value.reason) == (name_of(server), "unknown")
    assert server.authentications() == []
    assert file.read_text() == text


def test_every_hop_is_recorded(way: Way, file: Path) -> None:
    """accept-new records one line for each hop, under its own name; strict passes then."""
    with way.connect(file, "accept-new"):
        pass
    assert file.read_text() == "".join(way.lines())
    for server in way.servers.values():
        (entry,) = found(file, name_of(server))
        assert entry == " ".join(server.host_keys["ed25519"].public_line.split()[:2])
    with way.connect(file, "strict"):
        pass
    assert file.read_text() == "".join(way.lines())


def test_policy_of_each_connection_is_its_own(way: Way, keys: Keys, file: Path) -> None:
    """A bastion that was connected without a check does not loosen the check of its targets."""
    bastion, _, target = way.servers.values()
    wrong = keys.get(name="other-host")
    write(file, line(name_of(bastion), wrong), line(name_of(target), wrong))
    credentials: dict[str, Any] = {"private_key": way.key.path, "known_hosts": file}
    with Connection(
        bastion.host, bastion.port, bastion.alice.name, **credentials, host_key_policy="ignore"
    ) as carrier:
        where = (target.host, target.port, target.alice.name)
        with pytest.raises(HostKeyError) as caught:
            Connection(*where, **credentials, proxy_jump=carrier)
        assert (caught.value.hop_index, caught.value.host) == (1, name_of(target))
        Connection(*where, **credentials, proxy_jump=carrier, host_key_policy="ignore").close()
        assert carrier.execute("echo alive").stdout == "alive\n"


def test_name_that_only_the_bastion_knows(sshd_factory: SshdFactory, file: Path) -> None:
    """A target is recorded under the name it was asked for, which only the bastion resolves."""
    inside = sshd_factory(name="inside")
    front = sshd_factory(name="front", hosts={"db.internal": inside.host})
    way: dict[str, Any] = {"private_key": front.alice.key.path, "known_hosts": file}
    for policy in ("accept-new", "strict"):
        with (
            Connection(
                front.host, front.port, "alice", private_key=front.alice.key.path
            ) as carrier,
            Connection(
                "db.internal", inside.port, "alice", **way,
                proxy_jump=carrier, host_key_policy=policy,
            ) as connection,
        ):  # fmt: skip
            assert connection.execute("echo $SERVER_NAME").stdout == "inside\n"
    assert file.read_text() == line(f"[db.internal]:{inside.port}", inside.host_keys["ed25519"])
