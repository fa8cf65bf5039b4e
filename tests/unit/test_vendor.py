"""vendor/fetch.py: what it accepts, what it refuses, and that it says so in one line."""

from __future__ import annotations

import filecmp
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

VENDOR = Path(__file__).resolve().parents[2] / "vendor"
FETCH = VENDOR / "fetch.py"
PATCHES = sorted((VENDOR / "patches").glob("*.patch"))


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hussh_vendor_fetch", FETCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fetch = _load()
LOCK = json.loads(fetch.LOCK.read_text())


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source as a build gets it: from the cache, or downloaded once for all tests here."""
    return Path(fetch.prepare())


@pytest.fixture(scope="module")
def unpatched(patched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same source as Debian has it, with all patches of ours taken out again."""
    folder = tmp_path_factory.mktemp("vendor") / "libssh2"
    shutil.copytree(patched, folder)
    (folder / fetch.OUR_RECORD).unlink()
    for patch in reversed(PATCHES):
        subprocess.run(
            ["patch", "-p1", "--reverse", "--force", "--fuzz=0", f"--input={patch}"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own, and no source folder named."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HUSSH_CACHE", str(folder))
    monkeypatch.delenv("HUSSH_LIBSSH2_SOURCE", raising=False)
    return folder


def _run(**changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(FETCH)],
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _refusal(**changes: str) -> str:
    """Run it as a program, expecting failure; return the one line that it says."""
    done = _run(**changes)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("vendor/fetch.py: ")
    return done.stderr


def _leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_describes_the_real_source(patched: Path) -> None:
    """The facts for build_info come from the tree: version, revision, CVEs, patches."""
    facts = fetch.describe(patched)
    assert facts["libssh2"] == LOCK["upstream"]["version"]
    assert facts["debian"].startswith(f"{facts['libssh2']}-")
    assert set(facts["cves"]) >= set(LOCK["cves"])
    assert facts["missing_cves"] == []
    assert facts["patches"] == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in PATCHES
    }


def test_lock_names_every_patch() -> None:
    """A patch that the lock does not name could go missing unnoticed."""
    assert LOCK["patches"] == [path.name for path in PATCHES]


def test_patches_say_why() -> None:
    """Each patch starts with a reason in words before its first hunk."""
    for path in PATCHES:
        header = path.read_text().partition("\n--- ")[0]
        assert len(header.split()) > 15, path.name


def test_sources_exist_and_leave_the_rest_out(patched: Path) -> None:
    """SOURCES are files of the tree, and nothing of what must not be compiled."""
    for name in fetch.SOURCES:
        assert (patched / "src" / name).is_file()
    banned = {"agent.c", "userauth.c", "sftp.c", "scp.c", "publickey.c", "knownhost.c"}
    banned |= {"keepalive.c", "pem.c", "chacha.c", "poly1305.c", "cipher-chachapoly.c"}
    assert not banned & set(fetch.SOURCES)


def test_source_folder_replaces_the_download(
    cache: Path, patched: Path, unpatched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder as Debian unpacks it is copied and patched; itself it stays as it was."""
    before = (unpatched / "src/transport.c").read_bytes()
    monkeypatch.setenv("HUSSH_LIBSSH2_SOURCE", str(unpatched))
    made = fetch.prepare()
    assert made.parent == cache
    names = [path.name for path in (patched / "src").iterdir()]
    assert filecmp.cmpfiles(patched / "src", made / "src", names, shallow=False)[0] == names
    assert fetch.describe(made)["patches"] == fetch.describe(patched)["patches"]
    assert (unpatched / "src/transport.c").read_bytes() == before
    assert _leftovers(cache) == [made.name]


def test_patched_source_folder_is_taken_as_it_is(
    cache: Path, patched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that fetch.py itself made needs no patch program."""
    monkeypatch.setenv("HUSSH_LIBSSH2_SOURCE", str(patched))
    monkeypatch.setenv("PATH", "/nonexistent")
    assert fetch.describe(fetch.prepare()) == fetch.describe(patched)


def test_second_call_is_a_cache_hit(
    cache: Path, unpatched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call returns the same folder and starts no program at all."""
    monkeypatch.setenv("HUSSH_LIBSSH2_SOURCE", str(unpatched))
    first = fetch.prepare()
    stamp = (first / fetch.OUR_RECORD).stat().st_mtime_ns
    monkeypatch.setattr(fetch, "_run", None)
    assert fetch.prepare() == first
    assert (first / fetch.OUR_RECORD).stat().st_mtime_ns == stamp


def test_two_builds_at_once(cache: Path, unpatched: Path) -> None:
    """Two processes that prepare the same source both succeed, with one result."""
    env = {**os.environ, "HUSSH_LIBSSH2_SOURCE": str(unpatched)}
    builds = [
        subprocess.Popen([sys.executable, str(FETCH)], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = {build.communicate(timeout=120)[0] for build in builds}
    assert [build.returncode for build in builds] == [0, 0]
    assert len(said) == 1
    assert _leftovers(cache) == [Path(said.pop().strip()).name]


def test_wrong_checksum_is_refused(cache: Path) -> None:
    """A tampered upstream tarball is named, with both checksums, and nothing is made of it."""
    pristine = cache / fetch._pristine_name(LOCK)
    pristine.mkdir(parents=True)
    (pristine / LOCK["upstream"]["file"]).write_bytes(b"not the tarball")
    said = _refusal()
    assert "wrong checksum" in said
    assert LOCK["upstream"]["sha256"] in said
    assert hashlib.sha256(b"not the tarball").hexdigest() in said
    assert _leftovers(cache) == [pristine.name]


def test_missing_apt_is_named(cache: Path, tmp_path: Path) -> None:
    """Without apt-get it says which package to install and what else would do."""
    said = _refusal(PATH=str(tmp_path))
    assert "apt-get is missing: install the package apt" in said
    assert "HUSSH_LIBSSH2_SOURCE" in said
    assert _leftovers(cache) == []


def test_missing_patch_is_named(cache: Path, unpatched: Path, tmp_path: Path) -> None:
    """Without the patch program it says which package to install."""
    said = _refusal(PATH=str(tmp_path), HUSSH_LIBSSH2_SOURCE=str(unpatched))
    assert "patch is missing: install the package patch" in said
    assert _leftovers(cache) == []


def test_missing_own_patch_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete copy of the repository is not built without its fixes."""
    monkeypatch.setattr(fetch, "PATCHES", cache)
    with pytest.raises(fetch.FetchError, match=f"lacks {LOCK['patches'][0]}"):
        fetch.prepare()


def test_patch_that_does_not_apply_is_named(cache: Path, unpatched: Path, tmp_path: Path) -> None:
    """A source that differs where a patch changes it is refused, naming the patch."""
    odd = tmp_path / "odd"
    shutil.copytree(unpatched, odd)
    source = odd / "src/transport.c"
    source.write_text(source.read_text().replace("packet_length", "length_of_packet"))
    said = _refusal(HUSSH_LIBSSH2_SOURCE=str(odd))
    assert ".patch does not apply" in said
    assert "vendor/libssh2.lock" in said
    assert _leftovers(cache) == []


def test_other_version_is_refused(cache: Path, unpatched: Path, tmp_path: Path) -> None:
    """Another libssh2 than the pinned one is refused, also as a given folder."""
    other = tmp_path / "other"
    shutil.copytree(unpatched, other)
    header = other / "include/libssh2.h"
    header.write_text(header.read_text().replace('"1.11.1"', '"1.12.0"'))
    said = _refusal(HUSSH_LIBSSH2_SOURCE=str(other))
    assert "is libssh2 1.12.0, hussh needs 1.11.1" in said


def test_folder_without_source_is_refused(cache: Path, tmp_path: Path) -> None:
    """A folder that holds no libssh2 is named together with the variable."""
    assert f"HUSSH_LIBSSH2_SOURCE={tmp_path}" in _refusal(HUSSH_LIBSSH2_SOURCE=str(tmp_path))


def test_cache_that_cannot_be_written(cache: Path, tmp_path: Path) -> None:
    """A cache folder that cannot be made is one line that names HUSSH_CACHE."""
    blocked = tmp_path / "file"
    blocked.touch()
    assert "point HUSSH_CACHE" in _refusal(HUSSH_CACHE=str(blocked / "cache"))


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["1.11.1-6"], "1.11.1-6"),
        (["1.11.1-6", "1.11.1-10", "1.11.1-7"], "1.11.1-10"),
        (["1.12.0-1", "1.11.1-6.1"], "1.11.1-6.1"),
    ],
)
def test_later_revision_is_accepted(offered: list[str], chosen: str) -> None:
    """The newest Debian revision of the pinned upstream version is taken."""
    assert fetch._choose(offered, LOCK) == chosen


@pytest.mark.parametrize("offered", [[], ["1.11.1-5"], ["1.12.0-1"], ["1.11.10-6"]])
def test_other_revision_is_refused(offered: list[str]) -> None:
    """Older revisions and other upstream versions are refused, saying what is wanted."""
    with pytest.raises(fetch.FetchError, match=r"not 1\.11\.1-6 or a later revision"):
        fetch._choose(offered, LOCK)


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        (
            "sources.list",
            (
                "deb cdrom:[Debian] trixie main\n# deb http://old.example/debian bookworm main\n"
                "deb http://security.debian.org/debian-security trixie-security main\n"
                "deb [arch=amd64 trusted=no] http://mirror.example/debian/ trixie main contrib\n"
            ),
            "http://mirror.example/debian/",
        ),
        (
            "sources.list.d/debian.sources",
            (
                "Types: deb\nURIs: https://apt.example/node\nSuites: x\nComponents: main\n\n"
                "Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: sid\n"
                "Components: main\n\n"
                "# a comment\nTypes: deb\nURIs:\n https://in.example/debian-remote\n"
                "Suites: trixie\nComponents: main contrib\n"
            ),
            "https://in.example/debian-remote",
        ),
        (
            "sources.list.d/cloud.sources",
            (
                "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian.list\nSuites: trixie\n"
                "Components: main\n"
            ),
            "mirror+file:///etc/apt/mirrors/debian.list",
        ),
        (
            "sources.list",
            "deb http://archive.ubuntu.com/ubuntu noble main\n",
            fetch.DEFAULT_MIRROR,
        ),
    ],
)
def test_machines_own_mirror_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, mirror: str
) -> None:
    """Both formats of apt's sources are understood; without Debian in them the public one."""
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / name).write_text(text)
    monkeypatch.setattr(fetch, "APT_ETC", tmp_path)
    assert fetch._mirror() == mirror


def test_apt_failure_is_one_line_without_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What apt complains about is passed on, but not the password in a mirror's address."""
    tool = tmp_path / "apt-get"
    tool.write_text(
        "#!/bin/sh\necho 'W: odd' >&2\n"
        "echo 'E: Failed to fetch http://me:secret@in.example/debian  Could not resolve' >&2\n"
        "exit 100\n"
    )
    tool.chmod(0o755)
    with pytest.raises(fetch.FetchError) as caught:
        fetch._apt([str(tool), "update"], tmp_path)
    said = str(caught.value)
    assert "Failed to fetch http://in.example/debian" in said
    assert "secret" not in said
    assert "\n" not in said


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _python_for_everybody() -> str:
    """An interpreter that other users may start: not one inside root's home folder."""
    for name in (sys.executable, "/usr/bin/python3"):
        given = Path(name)
        real = given.resolve()
        way = (real, *real.parents, *given.parents)
        if real.is_file() and all(path.stat().st_mode & 1 for path in way):
            return name
    pytest.skip("no Python that other users may start")


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests themselves run unprivileged")
def test_runs_unprivileged(open_folder: Path, unpatched: Path) -> None:
    """An ordinary user without a home folder can prepare the source."""
    shutil.copytree(VENDOR, open_folder / "vendor")
    shutil.copytree(unpatched, open_folder / "libssh2")
    (open_folder / "cache").mkdir()
    subprocess.run(
        ["chmod", "-R", "a+rX", open_folder / "vendor", open_folder / "libssh2"], check=True
    )
    os.chown(open_folder / "cache", 65534, 65534)
    done = subprocess.run(
        [_python_for_everybody(), "-B", "vendor/fetch.py"],
        cwd=open_folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "HUSSH_CACHE": str(open_folder / "cache"),
            "HUSSH_LIBSSH2_SOURCE": str(open_folder / "libssh2"),
        },
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert Path(done.stdout.strip()).stat().st_uid == 65534
