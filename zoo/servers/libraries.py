"""Servers that are libraries: asyncssh, paramiko, Twisted Conch, npm's ssh2, Go, Erlang.

`catalogue` lists them. The programs around them are in `zoo/programs`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import ClassVar

from ..peer import NotHere
from .server import Program, find_program, package_version

PROGRAMS = Path(__file__).resolve().parent.parent / "programs"
#: Where scripts/zoo installs Python packages and npm's, by its environment variables.
PYTHON = "ZOO_PYTHON"
NODE_MODULES = "ZOO_NODE_MODULES"


class PythonProgram(Program):
    """A program of ours around a package from PyPI."""

    package: ClassVar[str]
    program: ClassVar[str]

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Return the program under the Python that has the package."""
        if not self._found():
            raise NotHere(f"the PyPI package {self.package} could not be installed")
        return [os.environ[PYTHON], str(PROGRAMS / self.program)], {}

    def version(self) -> str:
        """Return the package's name and version."""
        return f"{self.package} {self._found()}"

    def _found(self) -> str:
        if PYTHON not in os.environ:
            raise NotHere("run scripts/zoo, which installs it")
        ask = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        asked = subprocess.run([os.environ[PYTHON], "-c", ask], capture_output=True, text=True)
        return asked.stdout.strip()


class Asyncssh(PythonProgram):
    """asyncssh's server, with its own SFTP server."""

    name = "asyncssh"
    package = "asyncssh"
    program = "asyncssh_server.py"


class Paramiko(PythonProgram):
    """paramiko's server, with an SFTP interface over os."""

    name = "paramiko"
    package = "paramiko"
    program = "paramiko_server.py"


class Conch(PythonProgram):
    """Twisted Conch, with its own Unix SFTP server."""

    name = "Twisted Conch"
    faults: ClassVar = {
        "Unicode names": "its Unix SFTP server takes ASCII names only (UnicodeDecodeError in "
        "twisted.conch.unix, answered with FAILURE)",
    }
    package = "twisted"
    program = "conch_server.py"


class NpmSsh2(Program):
    """npm's ssh2, with SFTP over fs."""

    name = "npm ssh2"

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Return the program under node."""
        modules = Path(os.environ.get(NODE_MODULES, "/nonexistent"))
        node = find_program("node", "nodejs")
        if not (modules / "ssh2").is_dir():
            raise NotHere("the npm package ssh2 could not be installed")
        return [node, str(PROGRAMS / "ssh2_server.js")], {"NODE_PATH": str(modules)}

    def version(self) -> str:
        """Return the package's name and version."""
        ask = "console.log(require('ssh2/package.json').version)"
        environment = {**os.environ, "NODE_PATH": os.environ[NODE_MODULES]}
        asked = subprocess.run(["node", "-e", ask], capture_output=True, text=True, env=environment)
        return f"ssh2 {asked.stdout.strip()}"


class Go(Program):
    """Go's x/crypto/ssh with pkg/sftp."""

    name = "Go x/crypto"

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Build the program from Debian's packages of both."""
        go = find_program("go", "golang-go")
        sources = Path("/usr/share/gocode")
        for package in ("golang.org/x/crypto/ssh", "github.com/pkg/sftp"):
            if not (sources / "src" / package).is_dir():
                raise NotHere(f"the sources of {package} are not installed")
        program = folder / "server"
        cache = {"GO111MODULE": "off", "GOPATH": str(sources), "GOFLAGS": "-mod=mod"}
        cache["GOCACHE"] = os.environ.get("ZOO_CACHE", str(folder / "cache"))
        built = subprocess.run(
            [go, "build", "-o", program, PROGRAMS / "server.go"],
            env={**os.environ, **cache},
            capture_output=True,
            text=True,
        )
        if built.returncode:
            raise NotHere(f"go build failed: {built.stderr[-200:]}")
        return [str(program)], {}

    def version(self) -> str:
        """Return the versions of Debian's packages."""
        names = ("golang-golang-x-crypto-dev", "golang-github-pkg-sftp-dev")
        return ", ".join(package_version(name) for name in names)


class Erlang(Program):
    """Erlang's ssh application with ssh_sftpd."""

    name = "Erlang ssh"
    none: ClassVar = {
        "a command": "its commands are Erlang functions: one stream, no exit status",
        "5 MiB of stdin": "its commands are Erlang functions: no stdin",
    }
    faults: ClassVar = {
        "Unicode names": "listing a name beyond Latin-1 ends its SFTP session; OpenSSH's sftp "
        "loses its connection by the same `ls`",
    }

    def command(self, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Return the program under escript."""
        return [find_program("escript", "erlang-base"), str(PROGRAMS / "erlang_server.escript")], {
            "HOME": str(folder),  # where it keeps its cookie
            "LC_ALL": "C.UTF-8",  # else it ends SFTP sessions where a name is not Latin-1
            "ERL_FLAGS": "+fnu",
        }

    def arguments(self, host_key: Path, authorized: Path, home: Path) -> list[str]:
        """Give it folders where the others get files."""
        _, user, password, _, home_path = super().arguments(host_key, authorized, home)
        return [str(host_key.parent), user, password, str(authorized.parent), home_path]

    def version(self) -> str:
        """Return the version of Debian's package."""
        return package_version("erlang-ssh")
