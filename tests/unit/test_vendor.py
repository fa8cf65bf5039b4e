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
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import preload

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
def patched() -> Path:
    """The source as a build gets it: from the cache, or downloaded once for all tests here."""
    return Path(fetch.prepare())


@pytest.fixture(scope="module")
def release(patched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release as it comes: the file that `patched` was made from."""
    given = Path(os.environ.get("HUSSH_LIBSSH2_SOURCE", ""))
    if given.is_file():
        return given
    kept = Path(fetch.cache_folder(), LOCK["upstream"]["file"])
    if not kept.is_file():  # given unpacked, so that it must be packed again
        kept = tmp_path_factory.mktemp("packed") / "libssh2.tar.gz"
        with tarfile.open(kept, "w:gz") as tar:
            tar.add(given, "libssh2")
    return kept


@pytest.fixture(scope="module")
def unpacked(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release unpacked, as plain as upstream has it."""
    folder = tmp_path_factory.mktemp("release")
    subprocess.run(["tar", "-xf", release, "--strip-components=1"], cwd=folder, check=True)
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


def _same(one: Path, other: Path) -> bool:
    """Whether all that is compiled is the same in two sources."""
    names = list(LOCK["upstream"]["files"])
    return filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


def _leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_describes_the_real_source(patched: Path) -> None:
    """The facts for build_info come from the tree: version, changed files, patches."""
    facts = fetch.describe(patched)
    assert facts["libssh2"] == LOCK["upstream"]["version"]
    assert facts["changed_files"] == []
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
    cache: Path, patched: Path, unpacked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release unpacked is copied and patched; itself it stays as it was."""
    before = (unpacked / "src/transport.c").read_bytes()
    monkeypatch.setenv("HUSSH_LIBSSH2_SOURCE", str(unpacked))
    made = fetch.prepare()
    assert made.parent == cache
    assert _same(made, patched)
    assert fetch.describe(made)["patches"] == fetch.describe(patched)["patches"]
    assert (unpacked / "src/transport.c").read_bytes() == before
    assert _leftovers(cache) == [made.name]


def test_patched_source_folder_is_taken_as_it_is(
    cache: Path, patched: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that fetch.py itself made has all patches already."""
    monkeypatch.setenv("HUSSH_LIBSSH2_SOURCE", str(patched))
    assert fetch.describe(fetch.prepare()) == fetch.describe(patched)


def test_second_call_is_a_cache_hit(
    cache: Path, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call returns the same folder and does nothing again."""
    monkeypatch.setenv("HUSSH_LIBSSH2_SOURCE", str(unpacked))
    first = fetch.prepare()
    stamp = (first / fetch.RECORD).stat().st_mtime_ns
    monkeypatch.setattr(fetch, "_finish", None)
    assert fetch.prepare() == first
    assert (first / fetch.RECORD).stat().st_mtime_ns == stamp


def test_two_builds_at_once(cache: Path, unpacked: Path) -> None:
    """Two processes that prepare the same source both succeed, with one result."""
    env = {**os.environ, "HUSSH_LIBSSH2_SOURCE": str(unpacked)}
    builds = [
        subprocess.Popen([sys.executable, str(FETCH)], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = {build.communicate(timeout=120)[0] for build in builds}
    assert [build.returncode for build in builds] == [0, 0]
    assert len(printed) == 1
    assert _leftovers(cache) == [Path(printed.pop().strip()).name]


def test_missing_own_patch_is_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete copy of the repository is not built without its fixes."""
    monkeypatch.setattr(fetch, "PATCHES", cache)
    with pytest.raises(fetch.FetchError, match=f"lacks {LOCK['patches'][0]}"):
        fetch.prepare()


def test_other_version_is_refused(cache: Path, unpacked: Path, tmp_path: Path) -> None:
    """Another libssh2 than the pinned one is refused, also as a given folder."""
    other = tmp_path / "other"
    shutil.copytree(unpacked, other)
    header = other / "include/libssh2.h"
    header.write_text(header.read_text().replace('"1.11.1"', '"1.12.0"'))
    refusal = _refusal(HUSSH_LIBSSH2_SOURCE=str(other))
    assert "is libssh2 1.12.0; hussh needs upstream's release libssh2-1.11.1.tar.gz" in refusal


def test_folder_without_source_is_refused(cache: Path, tmp_path: Path) -> None:
    """A folder that holds no libssh2 is named together with the variable."""
    assert f"HUSSH_LIBSSH2_SOURCE={tmp_path}" in _refusal(HUSSH_LIBSSH2_SOURCE=str(tmp_path))


@pytest.mark.parametrize("kind", ["gz", "xz"])
def test_release_itself_replaces_the_download(
    kind: str, cache: Path, release: Path, unpacked: Path, patched: Path, tmp_path: Path
) -> None:
    """The release may be given packed, also packed anew under another name."""
    if kind == "xz":
        given = tmp_path / "another-name"
        with tarfile.open(given, "w:xz", preset=0) as tar:
            for name in ("COPYING", "include", "src"):
                tar.add(unpacked / name, f"another-folder/{name}")
    else:
        given = release
    done = _run(HUSSH_LIBSSH2_SOURCE=str(given))
    assert done.stderr == ""
    made = Path(done.stdout.strip())
    assert _same(made, patched)
    assert _leftovers(cache) == [made.name]


def test_file_that_is_no_archive_is_refused(cache: Path, tmp_path: Path) -> None:
    """A file that nothing can be unpacked from is named."""
    given = tmp_path / "libssh2.tar.gz"
    given.write_bytes(b"<html>not found</html>")
    assert f"cannot unpack {given}" in _refusal(HUSSH_LIBSSH2_SOURCE=str(given))
    assert _leftovers(cache) == []


def test_incomplete_source_is_refused(cache: Path, unpacked: Path, tmp_path: Path) -> None:
    """What a source lacks is named, the licence that a wheel must have, too."""
    part = tmp_path / "part"
    shutil.copytree(unpacked, part)
    (part / "COPYING").unlink()
    (part / "src/mac.h").unlink()
    refusal = _refusal(HUSSH_LIBSSH2_SOURCE=str(part))
    assert f"{part} lacks COPYING, src/mac.h; hussh needs upstream's release" in refusal
    assert _leftovers(cache) == []


def test_changed_source_is_told(cache: Path, unpacked: Path, tmp_path: Path) -> None:
    """A source with changes that bother no patch is built from, and it is never a secret."""
    odd = tmp_path / "odd"
    shutil.copytree(unpacked, odd)
    with (odd / "src/version.c").open("a") as source:
        source.write("/* ours */\n")
    done = _run(HUSSH_LIBSSH2_SOURCE=str(odd))
    assert done.returncode == 0
    assert "unlike the release, src/version.c changed" in done.stderr
    assert fetch.describe(Path(done.stdout.strip()))["changed_files"] == ["src/version.c"]


def test_patch_that_does_not_apply_is_named(cache: Path, unpacked: Path, tmp_path: Path) -> None:
    """A source that somebody else has patched where we do is refused, saying what is wrong."""
    odd = tmp_path / "odd"
    shutil.copytree(unpacked, odd)
    source = odd / "src/packet.c"
    text = source.read_text()
    source.write_text(text.replace("                    _libssh2_get_string(", " (void) ("))
    assert source.read_text() != text
    refusal = _refusal(HUSSH_LIBSSH2_SOURCE=str(odd))
    assert "patch 0030-ext-info-ends.patch does not apply to src/packet.c, line " in refusal
    assert f" of {odd}: unlike the release, src/packet.c changed there" in refusal
    assert "without the patches of a distribution" in refusal
    assert _leftovers(cache) == []


def test_source_of_another_hussh_is_refused(cache: Path, patched: Path, tmp_path: Path) -> None:
    """A folder that fetch.py of another version made is told from one that somebody changed."""
    old = tmp_path / "old"
    shutil.copytree(patched, old)
    record = json.loads((old / fetch.RECORD).read_text())
    record["patches"][PATCHES[0].name] = "another"
    (old / fetch.RECORD).write_text(json.dumps(record))
    refusal = _refusal(HUSSH_LIBSSH2_SOURCE=str(old))
    assert f"patch {PATCHES[0].name} does not apply" in refusal
    assert "it was patched for another version of hussh" in refusal


def _apply(tmp_path: Path, text: str, patch: str) -> str:
    """Apply a patch to the file `some.c` with that text; return what it becomes."""
    (tmp_path / "some.c").write_text(text)
    (tmp_path / "some.patch").write_text(f"Why.\n\n--- a/some.c\n+++ b/some.c\n{patch}")
    fetch._apply(tmp_path, tmp_path / "some.patch")
    return (tmp_path / "some.c").read_text()


def test_moved_lines_are_found(tmp_path: Path) -> None:
    """Lines that moved are found, and of two equal places the one nearer to the stated line."""
    patch = "@@ -2,2 +2,2 @@ f()\n-old\n+new\n x\n@@ -6 +6,2 @@\n same\n+more\n"
    text = "a\nb\nc\nold\nx\nsame\nd\nsame\n"
    assert _apply(tmp_path, text, patch) == "a\nb\nc\nnew\nx\nsame\nd\nsame\nmore\n"


@pytest.mark.parametrize("text", ["old\ny\n", "old \nx\n", "x\nold\n", ""])
def test_lines_that_differ_are_not(text: str, tmp_path: Path) -> None:
    """Nothing but the very lines of the patch is changed."""
    with pytest.raises(fetch._Mismatch, match=r"some\.c, line 1"):
        _apply(tmp_path, text, "@@ -1,2 +1,2 @@\n-old\n+new\n x\n")


def test_patches_apply_as_gnu_patch_does(unpacked: Path, patched: Path, tmp_path: Path) -> None:
    """GNU patch makes the same of the release, and finds each hunk where the patch says."""
    tree = tmp_path / "tree"
    shutil.copytree(unpacked, tree)
    for path in PATCHES:
        command = ["patch", "-p1", "--fuzz=0", "--force", f"--input={path}"]
        done = subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True)
        assert "offset" not in done.stdout, path.name
    assert _same(tree, patched)


def test_every_vulnerability_is_accounted_for(patched: Path) -> None:
    """One in a file that we compile names its patch, which says so; others are not compiled."""
    record = fetch.describe(patched)["cves"]
    assert list(record) == list(LOCK["cves"])
    for cve, known in LOCK["cves"].items():
        if fetch.is_compiled(known["file"]):
            assert record[cve] == f"patched by {known['patch']}"
            text = (VENDOR / "patches" / known["patch"]).read_text()
            assert text.startswith(f"{cve}: ")
            assert f"+++ b/src/{known['file']}\n" in text
        else:
            assert record[cve] == f"not compiled in: {known['file']}"
            assert "patch" not in known


def test_missing_patch_is_not_called_patched(patched: Path, tmp_path: Path) -> None:
    """What is said of a vulnerability depends on the patches that the source really has."""
    shutil.copytree(patched, tmp_path, dirs_exist_ok=True)
    record = json.loads((tmp_path / fetch.RECORD).read_text())
    del record["patches"]["0032-whole-blocks.patch"]
    (tmp_path / fetch.RECORD).write_text(json.dumps(record))
    assert fetch.describe(tmp_path)["cves"]["CVE-2026-66035"] == "not patched"


def test_cache_that_cannot_be_written(cache: Path, tmp_path: Path) -> None:
    """A cache folder that cannot be made is one line that names HUSSH_CACHE."""
    blocked = tmp_path / "file"
    blocked.touch()
    assert "point HUSSH_CACHE" in _refusal(HUSSH_CACHE=str(blocked / "cache"))


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory(dir=preload.open_folder()) as name:
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
def test_runs_unprivileged(open_folder: Path, unpacked: Path) -> None:
    """An ordinary user without a home folder can prepare the source."""
    shutil.copytree(VENDOR, open_folder / "vendor")
    shutil.copytree(unpacked, open_folder / "libssh2")
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
