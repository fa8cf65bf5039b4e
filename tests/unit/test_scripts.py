"""The shell functions that scripts/demo and scripts/test share."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import clean_environment

TOP = Path(__file__).resolve().parents[2]
# Nothing is forbidden or allowed on this machine, and one package is missing.
INSTALL = """
. scripts/lib.sh
PACKAGES=thing EXTRA_PACKAGES=
forbid_daemons() { :; }
allow_daemons() { :; }
missing_packages() { [ $# = 0 ] || printf '%s ' "$@"; }
as_root() { "$@"; }
sudo() { :; }
install_packages
echo installed
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return the file of a program ``apt-get`` that is found before the real one."""
    if shutil.which("apt-get") is None:
        pytest.skip("needs apt-get")
    (tmp_path / "bin").mkdir()
    file = tmp_path / "bin/apt-get"
    file.touch(mode=0o755)
    return file


def install(program: Path) -> subprocess.Popen[str]:
    """Start the installation of what is missing, with this program."""
    environment = clean_environment()
    return subprocess.Popen(
        ["sh", "-c", INSTALL, "scripts/test"],
        cwd=TOP,
        env={**environment, "PATH": f"{program.parent}:{environment['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_installing_is_not_silent(program: Path, tmp_path: Path) -> None:
    """What apt-get does is said while it does it."""
    os.mkfifo(tmp_path / "continue")
    program.write_text(
        '#!/bin/sh\ncase "$*" in *install*) echo "Get:1 http://debian thing"\n'
        f"read -r line <{tmp_path}/continue; echo Setting up thing;; esac\n"
    )
    with install(program) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "test: installing thing \n"
        assert running.stdout.readline() == "test: Get:1 http://debian thing\n"
        (tmp_path / "continue").write_text("\n")
        out, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (0, "")
    assert out == "test: Setting up thing\ninstalled\n"


def test_failed_installation_says_why(program: Path) -> None:
    """The errors of apt-get are shown, and nothing goes on."""
    program.write_text("#!/bin/sh\necho noise; echo 'E: no such thing' >&2; exit 100\n")
    with install(program) as running:
        out, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert out == "test: installing thing \n"
    assert err == "E: no such thing\n" * 2 + "test: apt-get could not install thing \n"
