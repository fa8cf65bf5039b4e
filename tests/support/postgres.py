"""A PostgreSQL of the test's own, where its programs are installed; see `WHY_NOT`.

It keeps its files in a folder of the test, runs as no superuser (it refuses to), and ends with its
block.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.watch import wait_for_text

__all__ = ["WHY_NOT", "postgres"]


def _folder() -> Path | None:
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((place for place in places if (place / "initdb").exists()), None)


_PROGRAMS = _folder()
#: In a user namespace of one user root is nobody special, and still owns the test's folder.
_AS_USER = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
_PREFIX = _AS_USER if os.geteuid() == 0 else []


def _find_obstacle() -> str:
    if _PROGRAMS is None:
        return "needs PostgreSQL's initdb and postgres"
    if _PREFIX and subprocess.run([*_PREFIX, "true"], capture_output=True).returncode:
        return "needs user namespaces, because PostgreSQL does not run as root"
    return ""


#: Why there can be none here; empty where there can.
WHY_NOT = _find_obstacle()


@contextlib.contextmanager
def postgres(folder: Path, address: str) -> Iterator[None]:
    """Run a server on port 5432 of an address; the user ``app`` needs no password."""
    assert _PROGRAMS is not None
    data, log = folder / "data", folder / "postgres.log"
    subprocess.run(
        [*_PREFIX, _PROGRAMS / "initdb", "-D", data, "-U", "app", "-A", "trust", "--no-sync",
         "--no-instructions", "-E", "UTF8", "--locale=C"],
        check=True, capture_output=True,
    )  # fmt: skip
    with (data / "pg_hba.conf").open("a") as rules:
        rules.write("host all app 0.0.0.0/0 trust\n")
    settings = {
        "listen_addresses": address, "unix_socket_directories": "", "fsync": "off",
        "shared_buffers": "1MB", "max_connections": "10", "autovacuum": "off",
    }  # fmt: skip
    options = [f"-c{name}={value}" for name, value in settings.items()]
    command = [*_PREFIX, str(_PROGRAMS / "postgres"), "-D", str(data), *options]

    def is_ready(text: str) -> bool:
        return "ready to accept connections" in text

    with log.open("wb") as sink, subprocess.Popen(command, stdout=sink, stderr=sink) as process:
        try:
            wait_for_text(log, is_ready, timeout=30, writer=process.pid)
            yield
        finally:
            process.send_signal(signal.SIGINT)  # a fast end, which removes its shared memory
            process.wait(30)
