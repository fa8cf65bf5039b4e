"""The system's known_hosts files, in a mount namespace where /etc/ssh belongs to the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.hostkeys.lines import line, name_of
from tests.support.keys import Keys
from tests.support.private_etc import run_inside
from tests.support.sshd import Sshd


def test_system_files(bastion: Sshd, target: Sshd, keys: Keys, home: Path) -> None:
    """Both files of the system make keys known, changed and revoked, on every hop, by default."""
    (own,) = [key for key in target.host_keys.values() if key.algorithm == "ssh-ed25519"]
    stranger = keys.get(name="stranger")
    direct = {"host": target.host, "port": target.port, "username": "alice",
              "private_key": str(target.alice.key.path)}  # fmt: skip
    behind = {**direct, "proxy_jump": f"{bastion.host}:{bastion.port}"}
    strict = {**direct, "host_key_policy": "strict"}
    name = name_of(target)
    good, revoked = line(name, own), line("*", own, "@revoked")
    cases: list[tuple[dict[str, str], dict[str, Any], str]] = [
        ({}, strict, "unknown 0"),
        ({"ssh_known_hosts": good}, strict, "in\n"),
        ({"ssh_known_hosts2": good}, strict, "in\n"),
        ({"ssh_known_hosts2": line(name, stranger)}, direct, "changed 0"),
        ({"ssh_known_hosts": good, "ssh_known_hosts2": revoked}, direct, "revoked 0"),
        ({"ssh_known_hosts": revoked}, behind, "revoked 1"),
        ({"ssh_known_hosts": good}, behind, "in\n"),
        # Where the caller names files, the system's are not read.
        ({"ssh_known_hosts": revoked}, {**direct, "known_hosts": str(home / "none")}, "in\n"),
    ]
    told = run_inside([{"files": files, "options": options} for files, options, _ in cases], home)
    assert told == [[expected] * 2 for _, _, expected in cases]
    (home / ".ssh").mkdir()
    (home / ".ssh/known_hosts").write_text(revoked)
    assert run_inside([{"files": {"ssh_known_hosts": good}, "options": direct}], home) == [
        ["revoked 0"] * 2
    ]
    assert os.listdir(home / ".ssh") == ["known_hosts"]


def test_recording_goes_to_the_first_file(target: Sshd, home: Path) -> None:
    """accept-new writes to the user's file though the system's has other hosts."""
    options = {
        "host": target.host,
        "port": target.port,
        "username": "alice",
        "private_key": str(target.alice.key.path),
        "host_key_policy": "accept-new",
    }
    system = {"ssh_known_hosts": "other.test ssh-ed25519 AAAA\n"}
    assert run_inside([{"files": system, "options": options}], home) == [["in\n"] * 2]
    recorded = (home / ".ssh/known_hosts").read_text()
    assert recorded.startswith(f"{name_of(target)} ")
    assert recorded.count("\n") == 1
