"""Writing known_hosts files, and asking ssh-keygen about them; for the tests in this directory."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.keys import Key
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd


def name_of(server: Sshd) -> str:
    """Return the name under which a server is recorded."""
    return f"[{server.host}]:{server.port}"


def line(names: str, key: Key, marker: str = "") -> str:
    """Return one line of a known_hosts file."""
    return f"{marker} {names} {' '.join(key.public_line.split()[:2])}\n".lstrip()


def write(path: Path, *lines: str, hashed: bool = False) -> Path:
    """Write the file, with hashed names if asked; return its path."""
    path.write_text("".join(lines))
    if hashed:
        subprocess.run(
            ["ssh-keygen", "-q", "-H", "-f", str(path)],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(),
        )
        path.with_name(path.name + ".old").unlink()
        assert path.read_text().startswith("|1|")
    return path


def found(path: Path, name: str) -> list[str]:
    """Return the lines, without names, that ``ssh-keygen -F`` finds for a name."""
    told = subprocess.run(
        ["ssh-keygen", "-F", name, "-f", str(path)],
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    lines = [one for one in told.stdout.splitlines() if one and not one.startswith("#")]
    return [" ".join(one.split()[1:3]) for one in lines]
