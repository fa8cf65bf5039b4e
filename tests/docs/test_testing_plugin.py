"""The plugin `hussh.testing` in test runs of users: its page's examples, no leftovers, refusals.

Each test starts a pytest of its own, as root where we are, and as an account with a login shell
that is not root. Where this machine has no such account, the library of tests/support/preload.py
shows one to that pytest and to the servers.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import preload
from tests.support.processes import wait_gone

TOP = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Where root's sshd wants an empty folder.
SEPARATION = Path("/run/sshd")
NO_ROOT = os.geteuid() != 0
UID = os.getuid() if NO_ROOT else 61_150
CONFTEST = 'pytest_plugins = ["hussh.testing"]\n'
#: A session with a program in the background; both are told of in a file.
LEAVES_PROGRAMS = """
import os
import signal
import pytest

@pytest.mark.parametrize("kind", ["sshd", "bastion"])
def test_leaves(kind, request):
    server = request.getfixturevalue(kind)
    server = getattr(server, "target", server)
    connection = server.connect()
    run = connection.execute("nohup setsid sleep 600 >/dev/null 2>&1 & echo $! $PPID")
    shell = connection.popen("echo $$; read nothing", pty=True)
    pids = [*run.stdout.split(), shell.stdout.readline().decode().strip()]
    with open("pids", "a") as file:
        print(os.getpid(), server._process.pid, *pids, sep="\\n", file=file)
    if os.environ.get("CRASH"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


#: What raises, and a warning tells of each socket that stays open.
FAILS_TO_START = """
import socket
import pytest

def test_taken_port(sshd):
    sshd.stop()
    with socket.create_server((sshd.host, sshd.port)), pytest.raises(OSError, match="in use"):
        sshd.start()
    sshd.start()
    with sshd.connect() as connection:
        assert connection.execute("true").status == 0

def test_wrong_setting(sshd_factory):
    with pytest.raises(ValueError, match="one line"):
        sshd_factory(settings={"Banner": "none\\nPermitTTY no"})
    with pytest.raises(pytest.fail.Exception, match="Bad configuration option: Nonsense"):
        sshd_factory(settings={"Nonsense": 1})

def test_order(bastion):
    bastion.stop()
    bastion.target.stop()
    with pytest.raises(RuntimeError, match="the way to this server, is not running"):
        bastion.target.start()
    bastion.start()
    bastion.target.start()
    with bastion.target.connect() as connection:
        assert connection.execute("true").status == 0
"""


class Runner:
    """Runs tests of a user's in a folder that is that user's."""

    def __init__(self, folder: Path, as_root: bool) -> None:
        """Prepare a folder for `files`, and another one for pytest's."""
        self.folder = folder
        self._uid = 0 if as_root else UID
        for name in ("etc", "home", "tests"):
            (folder / name).mkdir()
        account = "root" if as_root else "developer"
        entry = f"{account}:x:{self._uid}:{self._uid}::{folder / 'home'}:/bin/sh\n"
        nobody = "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
        (folder / "etc/passwd").write_text(entry if as_root else entry + nobody)
        (folder / "etc/group").write_text("")
        self._shown = not as_root  # root is there on every machine
        (folder / "tests/pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
        if not NO_ROOT:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, self._uid, self._uid)

    def write(self, **files: str) -> None:
        """Write test files, by their names without ``.py``."""
        for name, text in files.items():
            (self.folder / "tests" / f"{name}.py").write_text(text)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the user's pytest; return what it says."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
                   "--basetemp", str(self.folder / "base"), *arguments]  # fmt: skip
        if self._shown:
            command = preload.with_accounts(self.folder / "etc", *command)
        environment = {
            "HOME": str(self.folder / "home"),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(TOP),
            **variables,
        }
        identity: dict[str, Any] = {}
        if self._uid != os.geteuid():
            identity = {"user": self._uid, "group": self._uid, "extra_groups": []}
        return subprocess.run(
            command, cwd=self.folder / "tests", env=environment, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, **identity,
        )  # fmt: skip

    def pids(self) -> list[int]:
        """Return the processes that a test has told of."""
        return [int(line) for line in (self.folder / "tests/pids").read_text().split()]


as_user = pytest.mark.parametrize("runner", ["user"], indirect=True)
as_both = pytest.mark.parametrize(
    "runner",
    ["user"] if NO_ROOT else ["user", pytest.param("root", marks=pytest.mark.long)],
    indirect=True,
)


@pytest.fixture
def runner(request: pytest.FixtureRequest) -> Iterator[Runner]:
    """Return what runs tests as root, and as another user, who may not enter our own folders."""
    if request.param == "root" and not SEPARATION.is_dir():
        pytest.skip(f"root's sshd needs {SEPARATION}")
    with tempfile.TemporaryDirectory(prefix="plugin-", dir=preload.open_folder()) as folder:
        yield Runner(Path(folder), as_root=request.param == "root")


@as_both
def test_page(runner: Runner) -> None:
    """All test files of docs/testing.md pass, and the real home stays as empty as it was."""
    files = dict(BLOCK.findall((TOP / "docs/testing.md").read_text()))
    assert len(files) == 6
    runner.write(**{name.removesuffix(".py"): text for name, text in files.items()})
    done = runner.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ passed in", done.stdout, re.MULTILINE), done.stdout
    assert list((runner.folder / "home").iterdir()) == []


@as_user
def test_starts_that_fail(runner: Runner) -> None:
    """A taken port, a wrong setting and a wrong order raise, and the server can be started then."""
    runner.write(conftest=CONFTEST, test_starts=FAILS_TO_START)
    done = runner.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@as_both
def test_nothing_remains(runner: Runner) -> None:
    """Sessions, what they put into the background, and servers end with each test."""
    runner.write(conftest=CONFTEST, test_leaves=LEAVES_PROGRAMS)
    done = runner.run()
    assert done.returncode == 0, done.stdout + done.stderr
    pids = runner.pids()
    assert len(pids) == 10
    assert wait_gone(pids, 0) == []


@as_both
def test_nothing_remains_of_killed_tests(runner: Runner) -> None:
    """The same if the test run is killed, so that no fixture comes to its end."""
    runner.write(conftest=CONFTEST, test_leaves=LEAVES_PROGRAMS)
    done = runner.run("-k", "bastion", CRASH="yes")
    assert done.returncode == -9, done.stdout + done.stderr
    pids = runner.pids()
    assert len(pids) == 5
    assert wait_gone(pids, 20) == []


@as_user
@pytest.mark.parametrize("what", ["error", "skip"])
def test_no_sshd(runner: Runner, what: str) -> None:
    """Where sshd is missing, a test that needs it is an error or skipped; the text says why."""
    nowhere = (
        "import os\nimport hussh._testing.server as server\n"
        "server._SYSTEM_FOLDERS = ()\nos.environ['PATH'] = '/nonexistent'\n"
    )
    runner.write(
        conftest=CONFTEST + nowhere,
        test_one="def test_one(sshd): pass\ndef test_two(bastion): pass\ndef test_three(): pass\n",
    )
    done = runner.run("-rsE", "-o", f"hussh_missing_sshd={what}")
    assert "there is no sshd: install OpenSSH's server (openssh-server of Debian" in done.stdout
    counted = {"error": "1 passed, 2 errors", "skip": "1 passed, 2 skipped"}[what]
    assert counted in done.stdout, done.stdout + done.stderr


@as_user
def test_no_account(runner: Runner) -> None:
    """An account without a login shell, or none at all, is named as the reason."""
    passwd = runner.folder / "etc/passwd"
    runner.write(conftest=CONFTEST, test_one="def test_one(sshd): pass\n")
    passwd.write_text(passwd.read_text().replace("/bin/sh", "/usr/sbin/nologin"))
    assert "has no login shell (/etc/passwd says /usr/sbin/nologin)" in runner.run().stdout
    passwd.write_text("somebody:x:1:1::/:/bin/sh\n")
    assert f"no account has the uid {runner._uid} that runs the tests" in runner.run().stdout
