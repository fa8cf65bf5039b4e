"""scripts/prerequisites: everything that is missing at once, and the line that installs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
SCRIPT = TOP / "scripts/prerequisites"
SHELL = shutil.which("sh") or "/bin/sh"


def ask(purpose: str, path: Path | None = None, **changes: str) -> list[str]:
    """Run the script, with no programs but those in one folder; return the lines it says."""
    env = {name: text for name, text in os.environ.items() if name not in ("CFLAGS", "CPPFLAGS")}
    if path is not None:
        env["PATH"] = str(path)
    done = subprocess.run(
        [SHELL, SCRIPT, purpose],
        env={**env, "CC": "cc", **changes},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == ""
    assert done.returncode == (1 if done.stderr else 0)
    return done.stderr.splitlines()


def offer(folder: Path, *names: str) -> Path:
    """Make programs of these names that do nothing."""
    for name in names:
        (folder / name).write_text(f"#!{SHELL}\n")
        (folder / name).chmod(0o755)
    return folder


def test_nothing_is_missing() -> None:
    """Where the library was built it is silent."""
    assert ask("build") == []


@pytest.mark.parametrize(
    ("installer", "line"),
    [
        ("apt-get", "apt-get install gcc python3 python3-venv patch openssh-client openssh-server"),
        ("dnf", "dnf install gcc python3 patch openssh-clients openssh-server iproute"),
        ("apk", "apk add gcc python3 patch openssh-client openssh-server iproute2"),
    ],
)
def test_bare_machine(installer: str, line: str, tmp_path: Path) -> None:
    """All tools are named in one line, and all packages in the next, by the system's names."""
    printed = ask("test", offer(tmp_path, installer))
    assert len(printed) == 2
    assert printed[0].startswith("hussh: missing: a C compiler (cc), ")
    for name in ("Python", "patch", "ssh", "sshd", "ip"):
        assert re.search(rf"\b{name}\b", printed[0])
    # Without a compiler headers are looked for in the usual places, where this machine has some.
    packages = set(printed[1].removeprefix("hussh: as root: ").split())
    assert packages >= set(line.split())


@pytest.mark.parametrize(
    ("installer", "packages"),
    [
        ("apt-get", "libc6-dev python3-dev libssl-dev zlib1g-dev"),
        ("dnf", "glibc-devel python3-devel openssl-devel zlib-devel"),
        ("apk", "musl-dev python3-dev openssl-dev zlib-dev"),
    ],
)
def test_no_headers(installer: str, packages: str, tmp_path: Path) -> None:
    """All headers are named at once; what is no matter of building is not."""
    (offer(tmp_path, installer) / "cc").symlink_to(shutil.which("cc") or "cc")
    printed = ask("build", tmp_path, CC="cc -nostdinc")
    assert re.findall(r"\(([^)]*)\)", printed[0]) == [
        "stdio.h", "Python.h", "openssl/opensslv.h", "zlib.h",
    ]  # fmt: skip
    verb = {"apt-get": "apt-get install", "dnf": "dnf install", "apk": "apk add"}[installer]
    assert printed[1:] == [f"hussh: as root: {verb} {packages}"]


def test_unknown_system(tmp_path: Path) -> None:
    """Where no installer is known the second line says so."""
    printed = ask("build", tmp_path)
    assert printed[1:] == ["hussh: install that with the tools of your system, then try again"]


def test_compiler_that_is_named(tmp_path: Path) -> None:
    """CC may be a command with arguments; one that is not there is named."""
    assert ask("build", CC="env cc") == []
    assert "a C compiler (no-such-compiler -v)" in ask("build", CC="no-such-compiler -v")[0]


def test_headers_elsewhere(tmp_path: Path) -> None:
    """Headers are looked for where the flags of the environment say, blanks or not."""
    folder = tmp_path / "a place"
    for name in ("stdio.h", "Python.h", "openssl/opensslv.h", "zlib.h"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('#define OPENSSL_VERSION_STR "3.77.1"\n')
    assert ask("build", CC="cc -nostdinc", CPPFLAGS=f"'-I{folder}'") == []


def test_headers_of_openssl_1(tmp_path: Path) -> None:
    """Older headers of OpenSSL, which lack a macro, count as missing."""
    (tmp_path / "openssl").mkdir()
    (tmp_path / "openssl/opensslv.h").write_text('#define OPENSSL_VERSION_TEXT "OpenSSL 1.1.1"\n')
    printed = ask("build", CFLAGS=f"-I{tmp_path}")
    assert printed[0] == "hussh: missing: the headers of OpenSSL 3 (openssl/opensslv.h)"


def test_scripts_say_the_same_elsewhere(tmp_path: Path) -> None:
    """Where there is no apt, scripts/lib.sh stops with these lines and nothing else."""
    tool = tmp_path / "scripts/tell"
    tool.parent.mkdir()
    for name in ("lib.sh", "prerequisites"):
        shutil.copy(TOP / "scripts" / name, tool.parent)
    tool.write_text('. "$(dirname "$0")/lib.sh"\ninstall_packages\necho not reached\n')
    programs = tmp_path / "bin"
    programs.mkdir()
    offer(programs, "dnf")
    (programs / "dirname").symlink_to(shutil.which("dirname") or "dirname")
    done = subprocess.run(
        [SHELL, tool],
        env={"PATH": str(programs), "CC": "no-such-compiler"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("hussh: missing: a C compiler (no-such-compiler), ")
    assert "\nhussh: as root: dnf install gcc " in done.stderr
