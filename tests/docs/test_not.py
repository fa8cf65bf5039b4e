"""The page of what hussh does not do is true where a machine can tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import hussh
from hussh._api.check_options import list_supported_algorithms
from hussh._policy.algorithms import CIPHERS, HOST_KEYS, KEY_EXCHANGE, MACS
from hussh._policy.connection_options import ConnectionOptions, read_declared
from hussh._policy.keys.signature_algorithms import choose_signature_algorithms
from hussh._policy.ssh_config import settings
from hussh._protocol.sftp import wire

TOP = Path(__file__).resolve().parents[2]
ROW = re.compile(r"^\| ([a-z].*?) \| .* \|$", re.MULTILINE)
OPTIONS = read_declared(ConnectionOptions)
SOURCE = "\n".join(path.read_text() for path in (TOP / "hussh").rglob("*.py"))


def lacks(*words: str) -> Callable[[], bool]:
    """Return whether the package's source has none of these words."""
    return lambda: not any(word in SOURCE for word in words)


#: By the beginning of a row: whether it is true. True stands for what no test can tell.
CHECKS: dict[str, Callable[[], bool] | bool] = {
    "read `~/.ssh/config`": lambda: OPTIONS["config"].option.default is None,
    "record an unknown": lambda: OPTIONS["host_key_policy"].option.default == "accept-unknown",
    "look up host keys in DNS": lambda: "verifyhostkeydns" in settings._UNSAFE,
    "sign with SHA-1": lambda: (
        not {"ssh-rsa", "ssh-dss"}
        & {
            *choose_signature_algorithms("ssh-rsa", None),
            *choose_signature_algorithms("ssh-dss", None),
        }
    ),
    "offer CBC ciphers": lambda: (
        not re.search(
            r"-cbc|sha1(,|$)|sha1-", ",".join((*CIPHERS, *MACS, *KEY_EXCHANGE, *HOST_KEYS))
        )
        and "aes128-cbc" in list_supported_algorithms()["ciphers"]
    ),
    "talk to security keys": lacks("fido2", "libfido", "pkcs11", "C_Sign"),
    "log in by host": lacks('"hostbased"'),
    "hand on your Kerberos": lacks("delegate_to_peer", "gss-group", "gss-curve"),
    "change an expired": True,
    "try a refused": True,
    "connect again by itself": True,
    "share connections": lacks("ControlMaster"),
    "forward X11": lacks("x11-req", "tun@openssh.com"),
    "turn your terminal": lacks("import termios", "tty.setraw"),
    "speak SFTP other": lambda: "version 3" in (wire.__doc__ or ""),
    "synchronise folders": lacks("librsync", "adler32", "rolling"),
    "serve": lambda: [name for name in hussh.__all__ if "server" in name.lower()] == ["ServerBusy"],
    "run on Windows": True,
    "work in subinterpreters": lambda: hasattr(hussh, "ForkedConnectionError"),
}


def test_each_line_is_true() -> None:
    """Every line has a check, every check a line, and all are true."""
    rows = ROW.findall((TOP / "docs/not.md").read_text())
    rows = [row for row in rows if row != "hussh does not"]
    assert len(rows) == len(CHECKS)
    for row in rows:
        (check,) = [check for start, check in CHECKS.items() if row.startswith(start)]
        assert check if isinstance(check, bool) else check(), row
