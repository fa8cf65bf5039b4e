"""vendor/fetch.py: where the release of libssh2 comes from, whatever Debian has moved on to.

The mirrors are on loopback; apt itself does the asking.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from build_ffi import fetcher
from tests.support.mirror import Mirror, mirror

fetch = fetcher()
LOCK = json.loads(fetch.LOCK.read_text())
POOL = "pool/main/libs/libssh2/"
WANTED = POOL + LOCK["upstream"]["file"]

HELPER = fetch.mirrors.APT_HELPER

pytestmark = pytest.mark.skipif(not HELPER.is_file(), reason=f"no {HELPER}")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, and no source named."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HUSSH_CACHE", str(folder))
    monkeypatch.delenv("HUSSH_LIBSSH2_SOURCE", raising=False)
    return folder


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /etc/apt; whatever it will name is reached without the machine's proxy."""
    folder = tmp_path / "etc"
    (folder / "sources.list.d").mkdir(parents=True)
    monkeypatch.setattr(fetch.mirrors, "APT_ETC", folder)
    direct = tmp_path / "direct.conf"
    direct.write_text('Acquire::http::Proxy::127.0.0.1 "DIRECT";\n')
    monkeypatch.setenv("APT_CONFIG", str(direct))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return folder


@pytest.fixture
def mirrors(etc: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Mirror]]:
    """Two mirrors of this machine, and the public one; all are empty."""
    with ExitStack() as stack:
        made = [stack.enter_context(mirror()) for _ in range(3)]
        lines = [f"deb {one.url} trixie main\n" for one in made[:2]]
        (etc / "sources.list").write_text("".join(lines))
        monkeypatch.setattr(fetch.mirrors, "DEFAULT_MIRROR", made[2].url)
        yield made


@pytest.fixture(scope="module")
def patched() -> Path:
    """The source as a build gets it."""
    return Path(fetch.prepare())


@pytest.fixture(scope="module")
def release(patched: Path) -> bytes:
    """The release as a mirror has it."""
    given = Path(os.environ.get("HUSSH_LIBSSH2_SOURCE", ""))
    for path in (given, fetch.cache_folder() / LOCK["upstream"]["file"]):
        if path.is_file() and fetch.mirrors.sha256(path) == LOCK["upstream"]["sha256"]:
            return bytes(path.read_bytes())
    pytest.skip("the release itself is not here, only an unpacked source")


def _same(one: Path, other: Path) -> bool:
    names = LOCK["upstream"]["files"]
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def _index(suite: str, version: str) -> dict[str, bytes]:
    """What a mirror has of a suite: one source package, in this version."""
    sources = f"Package: libssh2\nVersion: {version}\nDirectory: {POOL}\n"
    release = f"Suite: {suite}\nComponents: main\n"
    return {
        f"dists/{suite}/InRelease": release.encode(),
        f"dists/{suite}/main/source/Sources.xz": lzma.compress(sources.encode()),
        f"{POOL}libssh2_{version.rpartition('-')[0]}.orig.tar.gz": b"what is new",
    }


@pytest.mark.parametrize("suites", [("sid",), ("stable", "trixie"), ("sid", "testing", "trixie")])
def test_suites_that_moved_on(
    suites: tuple[str, ...],
    cache: Path,
    mirrors: list[Mirror],
    release: bytes,
    patched: Path,
) -> None:
    """No suite needs to have this version, as long as a mirror has the file for any other."""
    for suite in suites:
        mirrors[0].files |= _index(suite, "1.12.0-1")
    mirrors[0].files[WANTED] = release
    assert _same(fetch.prepare(), patched)
    assert mirrors[0].asked == [WANTED]
    assert mirrors[1].asked == mirrors[2].asked == []


def test_debian_revision_makes_no_difference(
    cache: Path, mirrors: list[Mirror], release: bytes, patched: Path
) -> None:
    """What Debian patches, in lines that we patch, too, is not even asked for."""
    mirrors[0].files |= _index("sid", "1.11.1-99")
    for name in ("libssh2_1.11.1-99.debian.tar.xz", "libssh2_1.11.1-99.dsc"):
        mirrors[0].files[POOL + name] = b"--- a/src/packet.c\n"
    mirrors[0].files[WANTED] = release
    assert _same(fetch.prepare(), patched)
    assert mirrors[0].asked == [WANTED]


@pytest.mark.parametrize("content", [None, b"", b"another file"], ids=["none", "empty", "other"])
def test_next_mirror_is_asked(
    content: bytes | None, cache: Path, mirrors: list[Mirror], release: bytes, patched: Path
) -> None:
    """A mirror that lacks the file, or has another one under its name, is passed over."""
    for one in mirrors[:2]:
        if content is not None:
            one.files[WANTED] = content
    mirrors[2].files[WANTED] = release
    assert _same(fetch.prepare(), patched)
    assert all(WANTED in one.asked for one in mirrors)


def test_no_mirror_has_it(cache: Path, mirrors: list[Mirror]) -> None:
    """All that were asked are named, each with its reason, and what else can be done."""
    mirrors[1].files[WANTED] = b"another file"
    with pytest.raises(fetch.FetchError) as caught:
        fetch.prepare()
    message = str(caught.value)
    assert "\n" not in message
    assert f"{mirrors[0].url}: 404" in message
    assert f"{mirrors[1].url}: Hash Sum mismatch" in message
    assert f"{mirrors[2].url}: 404" in message
    assert "libssh2-1.11.1.tar.gz" in message
    assert "HUSSH_LIBSSH2_SOURCE" in message
    assert list(cache.iterdir()) == []


def test_password_of_a_mirror_is_not_told(cache: Path, etc: Path, mirrors: list[Mirror]) -> None:
    """An address may carry a password, which an error must not show."""
    url = mirrors[0].url.replace("://", "://me:secret@")
    (etc / "sources.list").write_text(f"deb {url} trixie main\n")
    with pytest.raises(fetch.FetchError) as caught:
        fetch.prepare()
    assert mirrors[0].url in str(caught.value)
    assert "secret" not in str(caught.value)


def test_second_build_asks_nobody(
    cache: Path, mirrors: list[Mirror], release: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is kept, also for a version with other patches."""
    mirrors[0].files[WANTED] = release
    first = fetch.prepare()
    mirrors[0].files.clear()
    monkeypatch.setattr(fetch, "_digest", lambda *_: "another")
    assert fetch.prepare() != first
    assert len(mirrors[0].asked) == 1


def test_file_cache_file_that_changed_is_refused(cache: Path, mirrors: list[Mirror]) -> None:
    """A file in the cache with another checksum is named, and nothing is made of it."""
    cache.mkdir()
    kept = cache / LOCK["upstream"]["file"]
    kept.write_bytes(b"not the tarball")
    with pytest.raises(fetch.FetchError, match=f"{kept} has the wrong checksum"):
        fetch.prepare()
    assert list(cache.iterdir()) == [kept]


def test_machine_without_apt(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt the error says what to download, and where to name it."""
    monkeypatch.setattr(fetch.mirrors, "APT_HELPER", tmp_path / "none")
    with pytest.raises(fetch.FetchError, match=r"download upstream's .*HUSSH_LIBSSH2_SOURCE"):
        fetch.prepare()
    assert list(cache.iterdir()) == []


def test_mirror_that_is_a_folder(
    cache: Path, etc: Path, tmp_path: Path, release: bytes, patched: Path
) -> None:
    """A mirror on a disk is copied from, and stays as it is."""
    pool = tmp_path / "debian" / POOL
    pool.mkdir(parents=True)
    (pool / LOCK["upstream"]["file"]).write_bytes(release)
    (etc / "sources.list").write_text(f"deb file:{tmp_path}/debian trixie main\n")
    assert _same(fetch.prepare(), patched)
    assert (pool / LOCK["upstream"]["file"]).read_bytes() == release


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        (
            "sources.list",
            (
                "deb cdrom:[Debian] trixie main\n# deb http://old.example/debian bookworm main\n"
                "deb cdrom:/debian trixie main\n"
                "deb http://security.debian.org/debian-security trixie-security main\n"
                "deb [arch=amd64 trusted=no] http://mirror.example/debian/ trixie main contrib\n"
            ),
            ["http://mirror.example/debian"],
        ),
        (
            "sources.list.d/debian.sources",
            (
                "Types: deb\nURIs: https://apt.example/node\nSuites: x\nComponents: main\n\n"
                "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: sid\n"
                "Components: main\n\n"
                "# a comment\nTypes: deb\nURIs:\n https://in.example/debian-remote\n"
                " https://in.example/debian\nSuites: trixie\nComponents: main contrib\n"
            ),
            ["https://in.example/debian-remote", "https://in.example/debian"],
        ),
        (
            "sources.list.d/cloud.sources",
            "Types: deb\nURIs: mirror+file://{list}\nSuites: trixie\nComponents: main\n",
            ["https://one.example/debian", "https://two.example/debian"],
        ),
        (
            "sources.list",
            "deb http://in.example/ubuntu noble main\n",
            ["http://in.example/ubuntu"],
        ),
        ("sources.list", "", []),
    ],
)
def test_machines_own_mirrors_are_known(
    name: str, text: str, found: list[str], etc: Path, tmp_path: Path
) -> None:
    """Both formats of apt's sources are understood; the public mirror is the last resort."""
    listed = tmp_path / "mirrors.list"
    listed.write_text("https://one.example/debian/\tpriority:1\nhttps://two.example/debian\n")
    (etc / name).write_text(text.replace("{list}", str(listed)))
    assert fetch.mirrors._mirrors() == [*found, fetch.mirrors.DEFAULT_MIRROR]
