"""What a source distribution has, and that a build of it needs no source from elsewhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from build_ffi import fetcher
from release import source
from tests.support.processes import clean_environment

TOP = Path(__file__).resolve().parents[2]
fetch = fetcher()
LOCK = json.loads(fetch.LOCK.read_text())


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a machine that can get the source of libssh2 from nowhere."""
    folder = tmp_path_factory.mktemp("nowhere")
    (folder / "apt.conf").write_text('Acquire::http::Proxy "http://127.0.0.1:9";\n')
    environment = clean_environment()
    environment.pop("HUSSH_LIBSSH2_SOURCE", None)
    return {**environment, "HOME": str(folder), "HUSSH_CACHE": str(folder / "cache"),
            "APT_CONFIG": str(folder / "apt.conf")}  # fmt: skip


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source distribution of this tree."""
    folder = tmp_path_factory.mktemp("sdist")
    # setuptools writes into the folder that it packs.
    copy = folder / "copy"
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*_cache", ".hypothesis")
    for name in ("csrc", "hussh", "release", "scripts", "vendor"):
        shutil.copytree(TOP / name, copy / name, ignore=ignored)
    for name in ("build_ffi.py", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md",
                 "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"):  # fmt: skip
        shutil.copy(TOP / name, copy)
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(folder)]
    built = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    (made,) = folder.glob("*.tar.gz")
    return made


@pytest.fixture(scope="module")
def unpacked(sdist: Path) -> Path:
    """Return the folder that the source distribution unpacks to."""
    subprocess.run(["tar", "-xf", sdist], cwd=sdist.parent, check=True)
    return sdist.parent / sdist.name.removesuffix(".tar.gz")


def test_patched_source_is_inside(unpacked: Path) -> None:
    """It has each file that is compiled, as the release and our patches give it."""
    bundled, prepared = unpacked / "vendor/libssh2", fetch.prepare()
    for name in LOCK["upstream"]["files"]:
        assert (bundled / name).read_bytes() == (prepared / name).read_bytes()
    assert "Daniel Stenberg" in (bundled / "COPYING").read_text()


def test_source_is_found_inside(unpacked: Path, environment: dict[str, str]) -> None:
    """A build takes the source from there, in place, and asks nobody for another one."""
    found = subprocess.run(
        [sys.executable, "vendor/fetch.py"],
        cwd=unpacked, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert (found.stdout, found.stderr) == (f"{unpacked}/vendor/libssh2\n", "")
    assert not Path(environment["HUSSH_CACHE"]).exists()


def test_edited_source_is_told(unpacked: Path, tmp_path: Path) -> None:
    """A file that somebody changed there is named by build_info, and goes into no other sdist."""
    copy = Path(shutil.copytree(unpacked / "vendor", tmp_path / "vendor"))
    edited = copy / "libssh2/src/kex.c"
    edited.write_text(edited.read_text() + "/* of a distribution */\n")
    assert fetch.describe(copy / "libssh2")["changed_files"] == ["src/kex.c"]
    program = "import sys, fetch, pathlib; fetch.bundle(pathlib.Path(sys.argv[1]))"
    refused = subprocess.run(
        [sys.executable, "-B", "-c", program, tmp_path / "bundle"],
        cwd=copy, env=clean_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert "FetchError: unlike the release, src/kex.c changed" in refused.stderr
    assert not (tmp_path / "bundle").exists()


def test_packed_again(
    sdist: Path, unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without git, `release` makes one of an unpacked one, and the bytes are the same."""
    monkeypatch.setattr(source, "TOP", unpacked)
    assert not source.is_clone()
    (tmp_path / "out").mkdir()
    again = source.make_sdist(tmp_path / "scratch", tmp_path / "out")
    assert again.read_bytes() == source.pack(sdist.read_bytes())


def test_other_patches_are_told(unpacked: Path, tmp_path: Path) -> None:
    """A patch that was added beside the patched source is not left out in silence."""
    copy = Path(shutil.copytree(unpacked / "vendor", tmp_path / "vendor"))
    lock = json.loads((copy / "libssh2.lock").read_text())
    (copy / "libssh2.lock").write_text(
        json.dumps({**lock, "patches": [*lock["patches"], "0999-new.patch"]})
    )
    (copy / "patches/0999-new.patch").write_text("a reason\n")
    refused = subprocess.run(
        [sys.executable, "-B", copy / "fetch.py"],
        env=clean_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert refused.returncode == 1
    assert f"{copy}/libssh2 was not made with the patches of {copy}/patches" in refused.stderr


@pytest.mark.skipif(
    not os.environ.get("HUSSH_LONG"), reason="compiles it all; HUSSH_LONG=1 runs it"
)
def test_installs_from_the_file(sdist: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """pip installs it where no source of libssh2 can be had, and the library says what it is."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    # setuptools, cffi and the dependencies are those of the tests; no registry is asked.
    theirs = sysconfig.get_path("purelib")
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (site / "theirs.pth").write_text(f"{theirs}\n")
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation",
         sdist],
        cwd=tmp_path, env=environment, check=True,
    )  # fmt: skip
    program = "import hussh, json; print(hussh.__file__); print(json.dumps(hussh.build_info()))"
    shown = subprocess.run(
        [python, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    file, info = shown.stdout.splitlines()
    assert Path(file).is_relative_to(site)
    assert (site / "hussh/_native/LICENSE.libssh2").is_file()
    facts = json.loads(info)
    assert facts["changed_files"] == []
    assert list(facts["patches"]) == LOCK["patches"]
