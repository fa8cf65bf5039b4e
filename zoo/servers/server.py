"""What a server of the zoo is to the rest: a name, what it has not, its faults, and how it starts.

The modules beside this one subclass `Server`; `zoo.__main__` uses it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from ..peer import NotHere, Peer

USER = "zoo"
PASSWORD = "zoo-password"
START_TIMEOUT = 30.0  # seconds


class Server(ABC):
    """One kind of server.

    Attributes:
        name: as the page calls it.
        none: check -> why the server has nothing of the kind.
        faults: check -> what the server does wrong, with the evidence.
    """

    name: ClassVar[str]
    none: ClassVar[Mapping[str, str]] = {}
    faults: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    @contextmanager
    def run(self, folder: Path) -> Iterator[Peer]:
        """Start it, with all that it writes below an empty folder; yield it; end it.

        Raises:
            NotHere: this machine has not what it needs.
        """


class Program(Server):
    """A server that is a program of ours around somebody's library (`zoo/programs`).

    It gets the paths and the one account as arguments and says "ready PORT".
    """

    @abstractmethod
    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Return the program with its first arguments, and what its environment has besides."""

    @abstractmethod
    def version(self) -> str:
        """Return the library's name and version."""

    def arguments(self, host_key: Path, authorized: Path, home: Path) -> list[str]:
        """Return the rest of the arguments."""
        return [str(host_key), USER, PASSWORD, str(authorized), str(home)]

    @contextmanager
    def run(self, folder: Path) -> Iterator[Peer]:
        """Make keys and a home, and start the program."""
        host_key, key = make_key(folder / "ssh_host_ed25519_key"), make_key(folder / "key")
        authorized = folder / "authorized_keys"
        authorized.write_bytes(key.with_suffix(".pub").read_bytes())
        home = folder / "home"
        home.mkdir()
        command, more = self.command(folder)
        command = [*command, *self.arguments(host_key, authorized, home)]
        with process(command, folder / "log", {**os.environ, **more}) as child:
            assert child.stdout is not None
            line = child.stdout.readline().split()
            if line[:1] != [b"ready"]:
                raise OSError(f"{self.name} did not start: {(folder / 'log').read_text()[-500:]}")
            yield Peer(
                "127.0.0.1", int(line[1]), USER, PASSWORD, key, str(home), home, self.version()
            )


@contextmanager
def process(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server with its stderr in a file; end it and its children afterwards."""
    with log.open("wb") as sink:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=environment,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        for stream in (child.stdin, child.stdout):
            if stream is not None:
                stream.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait(START_TIMEOUT)


def make_key(path: Path) -> Path:
    """Make an Ed25519 key pair with this name; return the path of the private half."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return path


def find_program(name: str, package: str) -> str:
    """Return a program's path, or raise NotHere with the Debian package that has it."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        raise NotHere(f"{name} is not installed (Debian package {package})")
    return path


def package_version(package: str) -> str:
    """Return a Debian package's name and version; maybe the name alone."""
    command = ["dpkg-query", "-W", "-f", "${source:Upstream-Version}", package]
    try:
        output = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return package
    return f"{package} {output}".strip()
