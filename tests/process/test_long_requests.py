"""Long commands, variables and banners, on real servers: OpenSSH's packets hold 256 KiB."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.connecting import connect_as_alice
from tests.support.sshd import Sshd

#: Most bytes of one argument or variable on Linux (MAX_ARG_STRLEN, with its NUL).
ARGUMENT = 128 * 1024 - 1
#: Options by the kind of encryption; each has its own code for long packets.
ENCRYPTIONS: dict[str, dict[str, Any]] = {
    "chacha": {"ciphers": ["chacha20-poly1305@openssh.com"]},
    "gcm": {"ciphers": ["aes128-gcm@openssh.com"]},
    "ctr": {"ciphers": ["aes128-ctr"], "macs": ["hmac-sha2-256"]},
    "etm": {"ciphers": ["aes128-ctr"], "macs": ["hmac-sha2-512-etm@openssh.com"]},
    "compressed": {"compression": True},
}


def random_text(size: int) -> str:
    """Return text that does not compress well."""
    return base64.b64encode(os.urandom(size)).decode()[:size]


@pytest.mark.parametrize("encryption", ENCRYPTIONS)
def test_long_requests(encryption: str, sshd_factory: Callable[..., Sshd], tmp_path: Path) -> None:
    """A command and a variable of nearly 128 KiB arrive whole behind a banner of 200 KB."""
    banner = tmp_path / "banner"
    banner.write_text(random_text(200_000))
    server = sshd_factory(
        options={"AcceptEnv": "LONG", "Banner": str(banner), "Compression": "yes"}
    )
    text = random_text(ARGUMENT - 100)
    with connect_as_alice(server, **ENCRYPTIONS[encryption]) as connection:
        assert connection.execute(f"echo {text}").stdout == text + "\n"
        with connection.popen('printf %s "$LONG"', env={"LONG": text}) as process:
            assert process.stdout.read() == text.encode()
        assert connection.execute("x" * 262_000).status != 0
        assert connection.execute("echo still here").stdout == "still here\n"
