"""The client asks for new keys: after so many bytes, and after so much time, at every hop."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from hussh._policy.route import DEFAULT_PORT
from tests.config.test_connections import block, write
from tests.conformance.apis import APIS, Api, Session
from tests.support.connecting import connect_as_alice
from tests.support.sshd import Sshd

GIB = 1 << 30


async def asked_for(session: Session, count: int, *servers: Sshd) -> None:
    """Wait until each server has seen so many key exchanges; commands go on, sshd asks for none."""
    while any(server.log_text().count("KEXINIT received") < count for server in servers):
        assert (await session.execute("sleep 0.1; echo in")).stdout == "in\n"


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_by_bytes(api: Api, bastion: Sshd, target: Sshd, tmp_path: Path) -> None:
    """RekeyLimit of the ssh configuration: each hop's keys serve for so many bytes, both ways."""
    lines = (f"IdentityFile {target.alice.key.path}", "RekeyLimit 100K")
    text = block("b", bastion, *lines) + block("t", target, *lines, "ProxyJump b")
    config = write(tmp_path, text, bastion, target)
    data = b"x" * (400 << 10)

    async def main() -> None:
        session = await api.connect("t", DEFAULT_PORT, config=config)
        for count in (2, 3):
            assert (await session.execute("cat", input=data)).stdout_bytes == data
            await asked_for(session, count, bastion, target)
        await session.close()

    api.run(main)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_by_time(api: Api, bastion: Sshd, target: Sshd) -> None:
    """With rekey_interval= each hop gets new keys, again and again."""
    options: dict[str, Any] = {"username": "alice", "private_key": target.alice.key.path}

    async def main() -> None:
        session = await api.connect(
            target.host,
            target.port,
            **options,
            proxy_jump=f"{bastion.host}:{bastion.port}",
            rekey_interval=timedelta(seconds=1) if api.name == "sync" else 1,
        )
        await asked_for(session, 3, bastion, target)
        await session.close()

    api.run(main)


@pytest.mark.parametrize(
    ("cipher", "most"),
    [
        ("chacha20-poly1305@openssh.com", GIB),
        ("aes256-gcm@openssh.com", 64 * GIB),
        ("aes128-ctr", 64 * GIB),
    ],
)
def test_bytes_of_each_cipher(cipher: str, most: int, target: Sshd) -> None:
    """OpenSSH's bounds: 2^32 blocks of AES, 1 GiB of a cipher with smaller blocks."""
    with connect_as_alice(target, ciphers=[cipher]) as connection:
        link = connection._get_session().link
        assert link.rekey_bytes == most
        link.rekey_after(5)
        assert link.rekey_bytes == 5


def test_intervals_that_make_no_sense() -> None:
    """Less than a second, negative, endless and of another type."""
    for value in (0.5, -1, float("inf"), timedelta(milliseconds=2)):
        with pytest.raises(ValueError, match="rekey_interval must be 0, or at least 1 second"):
            Connection("127.0.0.1", rekey_interval=value)
    with pytest.raises(TypeError, match="rekey_interval"):
        Connection("127.0.0.1", rekey_interval="1h")  # type: ignore[arg-type]
