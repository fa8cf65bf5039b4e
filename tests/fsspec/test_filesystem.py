"""`HusshFileSystem`: logins, secrets, what others get of it, and files as users of fsspec do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pickle
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fsspec", reason="fsspec is not installed")

import fsspec
from fsspec.asyn import get_loop
from fsspec.callbacks import Callback

from hussh.aio import AsyncConnection
from hussh.errors import AuthenticationError, ConnectionLost
from hussh.fsspec import HusshFileSystem
from tests.fsspec import credentials
from tests.support.sshd import Sshd

get_loop()  # fsspec's thread stays as long as the process; no test has left it behind

ROOT = Path(__file__).parents[2]
WORKER = """
import pickle, sys
from concurrent.futures import ThreadPoolExecutor
fs, path = pickle.loads(bytes.fromhex(sys.argv[1])), sys.argv[2]
try:
    with ThreadPoolExecutor(4) as pool:
        print({fs.cat_file(path) for path in pool.map(lambda _: path, range(8))})
        print(sum(pool.map(lambda _: len(fs.cat_file(path)), range(8))))
        again = pickle.loads(bytes.fromhex(sys.argv[1]))
        print(again is fs)
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(autouse=True)
def _no_instances() -> Iterator[None]:
    yield
    for fs in list(HusshFileSystem._cache.values()):
        if not fs.asynchronous:
            fs.close()
    HusshFileSystem.clear_instance_cache()


def options(server: Sshd, **more: Any) -> dict[str, Any]:
    """Return what a file system as alice on a server is made with."""
    return {"host": server.host, "port": server.port, "username": server.alice.name, **more}


@pytest.fixture
def fs(target: Sshd) -> Any:
    """Return a file system of alice's, by her key."""
    return HusshFileSystem(**options(target, private_key=str(target.alice.key.path)))


def worker(fs: Any, path: str, **environment: str) -> str:
    """Read a file in another process that got the file system as a pickle; return its output."""
    return subprocess.run(
        [sys.executable, "-c", WORKER, pickle.dumps(fs).hex(), path],
        capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, **environment},
    ).stdout  # fmt: skip


def test_one_login(fs: Any, target: Sshd) -> None:
    """A process logs in once, however many threads and equal instances it has."""
    (target.alice.files / "small").write_bytes(b"abc")
    path = target.alice.path("small")
    assert worker(fs, path) == "{b'abc'}\n24\nTrue\n"
    assert len(target.authentications()) == 1
    other = HusshFileSystem(**fs.storage_options, skip_instance_cache=True)
    assert other is not fs
    assert fs.cat_file(path) == other.cat_file(path) == b"abc"
    assert len(target.authentications()) == 2
    target.kill_sessions()
    with contextlib.suppress(ConnectionLost):  # unless that was noticed before
        fs.cat_file(path)
    assert fs.cat_file(path) == b"abc"  # it logs in again


def test_secrets(target: Sshd, bastion: Sshd) -> None:
    """No secret is in pickles, JSON, tokens and representations; it works in its own process."""
    secret = target.alice.password
    jump = options(bastion, password=bastion.alice.password)
    fs = HusshFileSystem(**options(target, password=secret, proxy_jump=jump))
    twin = HusshFileSystem(**options(target, password=secret, proxy_jump=dict(jump)))
    assert twin is fs
    wrong = HusshFileSystem(**options(target, password=secret + "x", proxy_jump=jump))
    assert wrong is not fs
    assert fs._fs_token != wrong._fs_token
    assert pickle.loads(pickle.dumps(fs)) is fs
    key = target.alice.key.path.read_text()
    by_text = HusshFileSystem(**options(target, private_key=key))
    coded = b64encode(key.encode()).decode()  # as many keep a key in a variable
    by_code = HusshFileSystem(**options(target, private_key=coded))
    for each in (fs, by_text, by_code):
        shown = [pickle.dumps(each), each.to_json().encode(), repr(each).encode()]
        shown += [repr(each.storage_options).encode(), repr(each.to_dict()).encode()]
        shown += [each._fs_token.encode(), repr(vars(each)).encode()]
        for text in shown:
            assert secret.encode() not in text
            assert key.split("\n")[1].encode() not in text
            assert coded.encode() not in text
    assert json.loads(fs.to_json())["left_out"] == ["password", "proxy_jump.password"]
    (target.alice.files / "small").write_bytes(b"abc")
    path = target.alice.path("small")
    for each in (fs, by_text, by_code):
        assert each.cat_file(path) == b"abc"
    told = worker(fs, path)
    assert told.startswith("AuthenticationError")
    assert "a pickle" not in told
    assert "which never brings password, proxy_jump.password" in told
    with pytest.raises(AuthenticationError) as refused:
        wrong.cat_file(path)
    assert secret not in str(refused.value)
    more: dict[str, Any] = {"timeout": timedelta(seconds=9), "on_banner": credentials.of_no_use}
    made = json.loads(HusshFileSystem("h", known_hosts=[Path("/x")], **more).to_json())
    assert (made["timeout"], made["known_hosts"], made["left_out"]) == (9, ["/x"], ["on_banner"])
    again = fsspec.AbstractFileSystem.from_json(by_text.to_json())
    assert again.storage_options["left_out"] == ["private_key"]


def test_credentials_by_name(target: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that is named gives the password, here and in workers."""
    monkeypatch.setenv("HUSSH_TEST_PASSWORD", target.alice.password)
    named = "tests.fsspec.credentials:from_environment"
    fs = HusshFileSystem(**options(target, credentials=named))
    (target.alice.files / "small").write_bytes(b"abc")
    path = target.alice.path("small")
    credentials.ASKED.clear()
    assert fs.cat_file(path) == b"abc"
    assert [(target.host, target.alice.name)] == credentials.ASKED
    assert worker(fs, path).splitlines() == ["{b'abc'}", "24", "True"]
    for wrong, kind in (("no-colon", ValueError), (7, ValueError)):
        with pytest.raises(kind, match="credentials"):
            HusshFileSystem(**options(target, credentials=wrong))
    jump = {"host": "bastion", "credentials": named}
    HusshFileSystem(**options(target, proxy_jump=jump))
    assert len(credentials.ASKED) == 1  # not before a connection is opened
    bad = HusshFileSystem(**options(target, credentials="tests.fsspec.credentials:of_no_use"))
    with pytest.raises(TypeError, match="must return a mapping"):
        bad.ls("/")


def test_options_that_are_refused() -> None:
    """What is unknown, open here, or cannot be pickled is refused by name, before anything else."""
    local = "a lambda"
    for wrong, kind, text in (
        ({"hots": "x"}, TypeError, "no option 'hots'"),
        ({"stream": object()}, TypeError, "'stream'"),
        ({"on_banner": lambda hop, text: local}, TypeError, "'on_banner' cannot be pickled"),
        ({"proxy_jump": AsyncConnection("x")}, TypeError, "'proxy_jump'"),
        ({"proxy_jump": {"host": "x", "hots": 1}}, TypeError, "no option 'hots'"),
        ({"port": "x"}, TypeError, "port"),
        ({"proxy_jump": "x", "proxy_command": "y"}, TypeError, "mutually exclusive"),
    ):
        with pytest.raises(kind, match=text):
            HusshFileSystem("h", **wrong)


def test_paths_and_urls() -> None:
    """URLs name user, host and port; a path is absolute, or begins at the home."""
    strip = HusshFileSystem._strip_protocol
    for url, path in (
        ("hussh://u@h:22/a/b#c?d", "/a/b#c?d"), ("hussh://h/~/x/", "x"), ("hussh://h/~", ""),
        ("hussh://h", "/"),
        ("hussh://h/", "/"), ("/a/", "/a"), ("a/b", "a/b"), ("", ""), ("/", "/"), ("~/a", "~/a"),
    ):  # fmt: skip
        assert strip(url) == path, url
    parents = {"/a/b": "/a", "/a": "/", "/": "/", "a": "", "~/a": "~", "hussh://h/a": "/"}
    assert {path: HusshFileSystem._parent(path) for path in parents} == parents
    found = HusshFileSystem._get_kwargs_from_urls("hussh://u%40d:p%3Aw@[::1]:2222/x")
    assert found == {"host": "::1", "port": 2222, "username": "u@d", "password": "p:w"}
    fs = HusshFileSystem("h", username="u", port=23)
    assert fs.unstrip_protocol("/a") == "hussh://u@h:23/a"
    assert fs.unstrip_protocol("~/a") == fs.unstrip_protocol("a") == "hussh://u@h:23/~/a"
    assert strip(fs.unstrip_protocol("a")) == "a"
    assert fs.fsid == HusshFileSystem("h", username="u", port=23, compression=True).fsid


@pytest.mark.parametrize("sign", "#/?[")
def test_urls_that_are_mistaken(sign: str) -> None:
    """A sign of a password that ends a URL's host shows no part of the password."""
    with pytest.raises(ValueError, match="%23") as caught:
        fsspec.open(f"hussh://u:sec{sign}ret@h/p")
    assert "sec" not in str(caught.value)
    assert caught.value.__context__ is None


def test_files(fs: Any, target: Sshd, tmp_path: Path) -> None:
    """Files are written in pieces, read at any place, appended, moved, copied and listed."""
    data = os.urandom(3_000_000)
    with target.alice.folder("fs") as folder:
        top = target.alice.path("fs")
        with fs.open(f"{top}/new/deep/file", "wb", block_size=1 << 20) as file:
            for at in range(0, len(data), 300_000):
                file.write(data[at : at + 300_000])
        assert (folder / "new/deep/file").read_bytes() == data
        with fs.open(f"{top}/new/deep/file", "ab") as file:
            assert file.tell() == len(data)
            file.write(b"end")
        with fs.open(f"{top}/new/deep/file", block_size=100_000) as file:
            assert file.read(10) == data[:10]
            file.seek(-5, 2)
            assert file.read() == data[-2:] + b"end"
            file.seek(1_000_000)
            assert file.read(1_500_000) == data[1_000_000:2_500_000]
        path = f"{top}/new/deep/file"
        assert fs.cat_file(path, 5, 10) == data[5:10]
        assert fs.cat_file(path, -3) == b"end"
        assert fs.cat_file(path, 7, -3) == data[7:]
        assert fs.cat_ranges([path] * 2, [0, 9], [3, 12]) == [data[:3], data[9:12]]
        with fs.open(f"{top}/text", "w") as file:
            file.write("grüße\n")
        assert fs.read_text(f"{top}/text") == "grüße\n"
        fs.mv(f"{top}/new", f"{top}/moved")
        fs.mv(f"{top}/text", f"{top}/moved/")
        assert fs.find(top) == [f"{top}/moved/deep/file", f"{top}/moved/text"]
        fs.cp(f"{top}/moved/text", f"{top}/a/b/text")
        (folder / "a/link").symlink_to("b/text")
        (folder / "a/up").symlink_to("..")
        (folder / "a/nowhere").symlink_to("none")
        kinds = {info["name"].rpartition("/")[2]: info["type"] for info in fs.ls(f"{top}/a")}
        assert kinds == {"b": "directory", "link": "file", "up": "link", "nowhere": "link"}
        assert fs.ls(f"{top}/a/b/text") == [fs.info(f"{top}/a/b/text")]
        assert fs.glob(f"{top}/**/text") == [f"{top}/a/b/text", f"{top}/moved/text"]
        seen: list[int] = []

        class Told(Callback):  # type: ignore[misc, unused-ignore]
            def absolute_update(self, value: int) -> None:
                seen.append(value)

        told: Any = Told()  # type: ignore[no-untyped-call, unused-ignore]
        fs.get_file(path.replace("new", "moved"), tmp_path / "back", callback=told)
        assert (tmp_path / "back").read_bytes() == data + b"end"
        assert seen[-1] == len(data) + 3
        with pytest.raises(OSError, match="not empty"):
            fs.rm(f"{top}/a", recursive=True, maxdepth=1)
        assert (folder / "a/b/text").exists()
        assert not os.path.lexists(folder / "a/nowhere")
        fs.rm(f"{top}/a", recursive=True)
        assert folder.exists()
        assert not (folder / "a").exists()
        assert fs.modified(f"{top}/moved/text").timestamp() == pytest.approx(
            (folder / "moved/text").stat().st_mtime, abs=1
        )
        calls: list[Any] = [
            lambda: fs.open(f"{top}/none"), lambda: fs.cat_file(f"{top}/none"),
            lambda: fs.ls(f"{top}/none"), lambda: fs.rm(f"{top}/none"),
            lambda: fs.put_file(tmp_path / "none", f"{top}/x"),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(FileNotFoundError):
                call()
        with pytest.raises(IsADirectoryError):
            fs.open(f"{top}/moved")


def test_transactions(fs: Any, target: Sshd) -> None:
    """Files of a transaction appear together at its end, or not at all."""
    with target.alice.folder("fs") as folder:
        top = target.alice.path("fs")
        with fs.transaction:
            with fs.open(f"{top}/one", "wb") as file:
                file.write(b"1")
            assert not (folder / "one").exists()
        assert os.listdir(folder) == ["one"]

        def fail() -> None:
            with fs.transaction:
                with fs.open(f"{top}/two", "wb") as file:
                    file.write(b"2")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert os.listdir(folder) == ["one"]


def test_in_tasks(target: Sshd) -> None:
    """With asynchronous=True coroutines share one login of the loop that runs them."""
    with target.alice.folder("fs") as folder:
        top = target.alice.path("fs")

        async def main() -> None:
            fs = HusshFileSystem(
                **options(target, private_key=target.alice.key.path), asynchronous=True
            )
            await fs.set_session()
            await asyncio.gather(*[fs._pipe_file(f"{top}/{n}", b"x" * n) for n in range(20)])
            sizes = {info["name"]: info["size"] for info in await fs._ls(top)}
            assert sizes == {f"{top}/{n}": n for n in range(20)}
            async with await fs.open_async(f"{top}/stream", "wb") as stream:
                await stream.write(b"one")
                await stream.write(b"two")
            async with await fs.open_async(f"{top}/stream") as stream:
                assert await stream.read(4) == b"onet"
                assert await stream.read() == b"wo"
            await fs._rm(top + "/1*")
            assert len(await fs._find(top)) == 10
            await fs._close()  # type: ignore[no-untyped-call, unused-ignore]

        asyncio.run(main())
        assert (folder / "stream").read_bytes() == b"onetwo"
    assert len(target.authentications()) == 1


def test_page(target: Sshd, bastion: Sshd, tmp_path: Path) -> None:
    """The examples of docs/fsspec.md print what they say."""
    names = {
        '"alice@bastion"': f'"{bastion.alice.name}@{bastion.host}:{bastion.port}"',
        '"~/.ssh/id_ed25519"': repr(str(target.alice.key.path)),
        "alice@target.internal": f"{target.alice.name}@{target.host}:{target.port}",
        '"target.internal", username="alice"': f'"{target.host}", port={target.port}, '
        f'username="{target.alice.name}"',
    }
    page = (ROOT / "docs/fsspec.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    for name, real in names.items():
        blocks = [block.replace(name, real) for block in blocks]
    (tmp_path / "credentials.py").write_text(
        next(block for block in blocks if "in credentials.py" in block)
    )
    ran = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)], capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    expected = re.findall(r"# =>(?: (.*))?$", page, re.MULTILINE)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == expected
