"""``config=True``: the user's own file and the system's are read, in this order, as ssh does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.private_etc import run_inside
from tests.support.sshd import Sshd


def test_the_users_file_and_the_systems(bastion: Sshd, target: Sshd, home: Path) -> None:
    """Names, keys and ways come from both files; what the user's says first counts."""
    (home / ".ssh").mkdir(mode=0o700)
    own = home / ".ssh/config"
    own.write_text(
        f"Host behind\n  Port {target.port}\n  ProxyJump first\n"
        f"Host first\n  Port {bastion.port}\n  StrictHostKeyChecking accept-new\n"
    )
    own.chmod(0o600)
    system = (
        "Host behind first\n  HostName 127.0.0.1\n  User alice\n  Port 1\n"
        f"  IdentityFile {target.alice.key.path}\n"
        "  StrictHostKeyChecking yes\n"
    )
    options: dict[str, Any] = {"host": "behind", "config": True}
    known = {"ssh_known_hosts": target.known_hosts_line()}
    told = run_inside(
        [
            {"files": {"ssh_config": system}, "options": options},
            {"files": {"ssh_config": system, **known}, "options": options},
        ],
        home,
    )
    assert told == [["unknown 1"] * 2, ["in\n"] * 2]
    recorded = (home / ".ssh/known_hosts").read_text()
    assert recorded.split()[0] == f"[{bastion.host}]:{bastion.port}"
