"""The examples of docs/ run as they are printed, in networks made for them (root only).

All Python blocks of a page run in one namespace, one after another. What they print must be what
their ``# =>`` comments say, line by line.
"""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.accounts import IS_ROOT, OBSTACLE
from tests.support.netns import ADDRESSES, BASTION_INSIDE, Network
from tests.support.sshd import Sshd

TOP = Path(__file__).resolve().parents[2]
#: The loop of fsspec is in a thread of another network; tests/fsspec runs its page. Those of the
#: other page are test files, which test_testing_plugin.py runs.
ELSEWHERE = {"fsspec", "testing"}
PAGES = sorted(
    page
    for page in (TOP / "docs").glob("*.md")
    if "```python" in page.read_text() and page.stem not in ELSEWHERE
)
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"# =>(?: (.*))?$", re.MULTILINE)
#: alice may become root with her password.
SUDO = {
    "sudoers": "alice ALL=(ALL) ALL\nDefaults !mail_no_user\n",
    "pam.d/sudo": "auth required pam_unix.so\naccount required pam_unix.so\n"
    "session required pam_permit.so\n",
}
RELAY = TOP / "tests/proxy/relay.py"


def expected(code: str) -> list[str]:
    return [(text or "").rstrip() for text in EXPECTED.findall(code)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(
    page: Path,
    network: Network,
    sshd_factory: Callable[..., Sshd],
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every example of the page works and prints what the page says."""
    if ".sudo(" in page.read_text():
        if shutil.which("sudo") is None:
            pytest.skip("sudo is not installed")
        if not IS_ROOT:  # sudo looks for alice in the machine's own files
            pytest.skip(f"needs namespaces of the server's own: {OBSTACLE}")
    with network.enter("bastion"):
        bastion = sshd_factory(
            name="bastion",
            address=ADDRESSES["bastion"],
            port=22,
            hosts={"target.internal": ADDRESSES["target"]},
            etc=SUDO,
        )
    with network.enter("target"):
        target = sshd_factory(name="target", address=ADDRESSES["target"], port=22)
    with network.enter("bastion"):  # the third of the chain is the bastion's inner side
        sshd_factory(name="third", address=BASTION_INSIDE, port=22)
    (home / ".ssh").mkdir(mode=0o700)
    key = home / ".ssh/id_ed25519"
    key.write_text(target.alice.key.text)
    key.chmod(0o600)
    workplace = tmp_path / "workplace"
    workplace.mkdir()
    (workplace / "relay.py").write_text(RELAY.read_text())
    monkeypatch.chdir(workplace)
    _teach_names(monkeypatch)

    code: list[str] = BLOCK.findall(page.read_text())
    output = io.StringIO()
    names: dict[str, Any] = {"__name__": "example"}
    with network.enter("client"), contextlib.redirect_stdout(output):
        for block in code:
            text = block.replace('"secret"', repr(bastion.alice.password))
            exec(compile(text, str(page), "exec"), names)
    names.clear()
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    assert lines == [line for block in code for line in expected(block)]


def _teach_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client know the bastion's name, and no other."""
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        if host == "bastion" and not more.get("flags"):
            return look_up(ADDRESSES["bastion"], *rest, **more)
        return look_up(host, *rest, **{**more, "flags": socket.AI_NUMERICHOST})

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_every_page_is_linked() -> None:
    """README names every page of docs/, but for those that only the site has."""
    readme = (TOP / "README.md").read_text()
    of_site = {"index.md", "changelog.md", "contributing.md"}
    missing = [
        page.name
        for page in (TOP / "docs").glob("*.md")
        if f"docs/{page.name}" not in readme and page.name not in of_site
    ]
    assert missing == []
