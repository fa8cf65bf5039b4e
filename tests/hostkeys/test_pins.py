"""``host_key=``, ``host_key_alias=`` and ``host_key_policy=`` as a function, on every hop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, HostKey, HostKeyError
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection
from tests.conformance.apis import APIS, Api
from tests.hostkeys.lines import found, line, name_of, write
from tests.support.keys import Key, Keys
from tests.support.sshd import Sshd


def options_for(server: Sshd, **more: Any) -> dict[str, Any]:
    """Return what logs alice in."""
    return {"username": "alice", "private_key": server.alice.key.path, **more}


def pins(key: Key) -> list[str]:
    """Return the forms in which a key may be pinned."""
    return [key.fingerprint, " ".join(key.public_line.split()[:2]), key.public_line]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "rsa"])
def test_pinned_keys(kind: str, target: Sshd, home: Path) -> None:
    """A whole pinned key of any type is asked for; known_hosts are not asked, nor written."""
    ssh = home / ".ssh"
    ssh.mkdir()
    other = line(name_of(target), target.bob.key)
    (ssh / "known_hosts").write_text(other)  # which would be "changed"
    for pin in pins(target.host_keys[kind])[1:]:
        for policy in ("strict", "accept-new"):
            Connection(
                target.host,
                target.port,
                **options_for(target, host_key=pin, host_key_policy=policy),
            ).close()
    assert (ssh / "known_hosts").read_text() == other


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_pin_is_for_the_target(
    api: Api, bastion: Sshd, target: Sshd, keys: Keys, tmp_path: Path
) -> None:
    """The pin of the target does not hold for a bastion that is given by name; a wrong one does."""
    good = pins(target.host_keys["ed25519"])[0]
    wrong = keys.get(name="other-host").fingerprint
    jump = f"{bastion.host}:{bastion.port}"
    known = write(tmp_path / "known_hosts", bastion.known_hosts_line())
    more = {"proxy_jump": jump, "known_hosts": known, "host_key_policy": "strict"}

    async def main() -> None:
        options = options_for(target, host_key=[wrong, good], **more)
        session = await api.connect(target.host, target.port, **options)
        await session.close()
        with pytest.raises(HostKeyError, match="is not the pinned one") as caught:
            await api.connect(
                target.host, target.port, **options_for(target, host_key=wrong, **more)
            )
        error = caught.value
        assert (error.hop_index, error.reason, error.recorded) == (1, "changed", (wrong,))

    api.run(main)


def test_pins_of_each_host(bastion: Sshd, target: Sshd) -> None:
    """Each host of a MultiConnection may have its own pin, behind one login at the bastion."""
    right = pins(target.host_keys["ed25519"])[0]
    hosts = [
        {"host": target.host, "port": target.port, "host_key": right},
        {"host": target.host, "port": target.port, "host_key": pins(bastion.host_keys["rsa"])[0]},
    ]
    multi = MultiConnection.from_shared_auth(
        hosts, proxy_jump=f"{bastion.host}:{bastion.port}", **options_for(target, known_hosts=())
    )
    with multi:
        good, bad = multi.execute("echo in").values()
    assert (good.status, good.stdout, bad.status) == (0, "in\n", -1)
    assert "is not the pinned one" in bad.stderr
    assert len(bastion.authentications()) == 1


@pytest.mark.parametrize(
    ("pin", "error", "text"),
    [
        ("SHA256:short", ValueError, "must be"),
        ("MD5:aa:bb", ValueError, "must be"),
        ("ssh-ed25519 AAAA", ValueError, "damaged"),
        ([], ValueError, "empty"),
        (3, TypeError, "must be a string"),
        (["SHA256:" + "A" * 43, b"x"], TypeError, "must be a string"),
    ],
)
def test_what_is_no_pin(pin: Any, error: type[Exception], text: str) -> None:
    """A pin in another form is refused before anything is opened, with the forms there are."""
    with pytest.raises(error, match=text):
        Connection("host", host_key=pin)


def test_alias(target: Sshd, tmp_path: Path) -> None:
    """The key is recorded under the alias, without a port, and looked up there only."""
    file = tmp_path / "known_hosts"
    where = (target.host, target.port)
    alias = options_for(target, known_hosts=file, host_key_alias="db-7")
    Connection(*where, **alias, host_key_policy="accept-new").close()
    assert found(file, "db-7")
    assert not found(file, name_of(target))
    Connection(*where, **alias, host_key_policy="strict").close()
    with pytest.raises(HostKeyError, match="is not known"):
        Connection(*where, **{**alias, "host_key_alias": None}, host_key_policy="strict")


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_function_decides(
    api: Api, bastion: Sshd, target: Sshd, keys: Keys, tmp_path: Path
) -> None:
    """A function is asked on every hop, with what the known hosts say, and its answer counts."""
    stranger = keys.get(name="other-host")
    file = tmp_path / "known_hosts"
    seen: list[HostKey] = []

    def decide(key: HostKey) -> bool:
        seen.append(key)
        return True

    async def decide_later(key: HostKey) -> bool:
        return decide(key)

    jump = f"{bastion.host}:{bastion.port}"

    async def main() -> None:
        for marker, status in ((None, "unknown"), ("", "changed"), ("@revoked", "revoked")):
            lines = [bastion.known_hosts_line()]
            if marker is not None:
                shown = target.host_keys["ed25519"] if marker else stranger
                lines.append(line(name_of(target), shown, marker))
            write(file, *lines)
            seen.clear()
            session = await api.connect(
                target.host,
                target.port,
                proxy_jump=jump,
                **options_for(
                    target,
                    known_hosts=file,
                    host_key_policy=decide if api.name == "sync" else decide_later,
                    host_key_algorithms=["ssh-ed25519"],
                ),
            )
            await session.close()
            first, second = seen
            assert (first.status, first.host, first.port) == ("known", bastion.host, bastion.port)
            assert (second.status, second.algorithm) == (status, "ssh-ed25519")
            assert second.fingerprint == target.host_keys["ed25519"].fingerprint
            assert second.hop == f"alice@{target.host}:{target.port}"
        assert file.read_text() == "".join(lines)
        with pytest.raises(HostKeyError, match="refused by the function") as caught:
            await api.connect(
                target.host,
                target.port,
                proxy_jump=jump,
                **options_for(
                    target, known_hosts=file, host_key_policy=lambda key: key.port == bastion.port
                ),
            )
        assert caught.value.hop_index == 1

    api.run(main)


@pytest.mark.parametrize("at_fault", ["bastion", "target"])
def test_function_that_raises_in_a_batch(at_fault: str, bastion: Sshd, target: Sshd) -> None:
    """The result of each host names the hop and the phase in which the function has raised."""
    faulty = {"bastion": bastion, "target": target}[at_fault]

    def decide(key: HostKey) -> bool:
        if key.port == faulty.port:
            raise LookupError("no such key")
        return True

    group = MultiConnection.from_shared_auth(
        [target.host] * 2, port=target.port, host_key_policy=decide,
        proxy_jump=f"{bastion.host}:{bastion.port}",
        **options_for(target),
    )  # fmt: skip
    with group:
        for result in group.execute("true").values():
            assert "LookupError: no such key" in result.stderr
            assert result.error is not None
            assert (result.error.hop, result.error.phase) == (
                f"alice@{faulty.host}:{faulty.port}",
                "hostkey",
            )


def test_functions_that_cannot_decide(target: Sshd) -> None:
    """A coroutine function is for the async API, and an answer that is no bool is an error."""

    async def later(_: HostKey) -> bool:
        return True

    with pytest.raises(TypeError, match="host_key_policy"):
        Connection("host", host_key_policy=later)
    AsyncConnection("host", host_key_policy=later)
    with pytest.raises(TypeError, match="must return True or False"):
        Connection(
            target.host,
            target.port,
            **options_for(target, host_key_policy=lambda key: 1, known_hosts=()),
        )
