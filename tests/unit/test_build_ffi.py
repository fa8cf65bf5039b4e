"""build_ffi.py: what it asks compiler and linker, and what it says when something is missing.

scripts/prerequisites, which it asks first, has tests of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import build_ffi
import hussh

TOP = Path(build_ffi.__file__).parent


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Name no compiler and no flags, and forget which ones the linker knew."""
    for name in ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS"):
        monkeypatch.delenv(name, raising=False)
    build_ffi.link_flags.cache_clear()
    yield
    build_ffi.link_flags.cache_clear()


def test_compiler_of_several_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """CC may be a command with arguments, as with ccache; the headers are those of the build."""
    monkeypatch.setenv("CC", "env cc")
    assert build_ffi.openssl_version() == hussh.build_info()["openssl"]


@pytest.mark.parametrize("variable", ["CPPFLAGS", "CFLAGS"])
def test_headers_elsewhere(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers are looked for where the flags of the environment say."""
    (tmp_path / "openssl").mkdir()
    (tmp_path / "openssl/opensslv.h").write_text('# define OPENSSL_VERSION_STR "3.77.1"\n')
    monkeypatch.setenv(variable, f"-nostdinc '-I{tmp_path}'")
    assert build_ffi.openssl_version() == "3.77.1"


def test_free_threaded_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the global interpreter lock it builds only for who asks, not for the limited API."""
    assert build_ffi.python_api()["py_limited_api"] is True
    monkeypatch.setattr(sysconfig, "get_config_var", {"Py_GIL_DISABLED": 1}.get)
    monkeypatch.delenv("HUSSH_FREE_THREADED", raising=False)
    with pytest.raises(SystemExit, match=r"free-threaded.*HUSSH_FREE_THREADED=1"):
        build_ffi.ffibuilder()
    monkeypatch.setenv("HUSSH_FREE_THREADED", "1")
    assert build_ffi.python_api() == {"py_limited_api": False}


def test_all_that_is_missing_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tools, headers and the source are named in one error, before anything is compiled."""
    monkeypatch.setenv("CC", "cc -nostdinc")
    monkeypatch.setenv("HUSSH_LIBSSH2_SOURCE", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        build_ffi.ffibuilder()
    lines = str(caught.value).splitlines()
    assert len(lines) == 3
    assert "Python.h" in lines[0]
    assert "openssl/opensslv.h" in lines[0]
    assert "zlib.h" in lines[0]
    assert lines[1].startswith(("hussh: as root: ", "hussh: install that"))
    assert f"HUSSH_LIBSSH2_SOURCE={tmp_path} has no src/transport.c" in lines[2]


def test_nothing_is_missing_here() -> None:
    """Where the library was built there is nothing to complain about."""
    assert build_ffi.prerequisites() == ""


def test_flags_that_the_linker_knows() -> None:
    """Every linker of Linux that matters knows how to leave out what is not used."""
    assert "-Wl,--gc-sections" in build_ffi.link_flags()


@pytest.mark.parametrize(
    "answer",
    ["echo unknown option >&2; exit 1", "echo ignored >&2; exit 0"],
    ids=["fails", "warns"],
)
def test_flags_that_the_linker_does_not_know(
    answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flag that only GNU's linker knows is left out where another one is in use."""
    other = tmp_path / "other-cc"
    other.write_text(f'#!/bin/sh\ncase $* in *version-script*) {answer} ;; esac\nexec cc "$@"\n')
    other.chmod(0o755)
    monkeypatch.setenv("CC", str(other))
    known = build_ffi.link_flags()
    assert known == tuple(flag for flag in build_ffi.LINK if "version-script" not in flag)


def test_flags_of_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    """There no flag of an ELF linker is even tried."""
    monkeypatch.setattr(sys, "platform", "darwin")
    assert build_ffi.link_flags() == ("-Wl,-dead_strip",)


@pytest.mark.skipif(
    not os.environ.get("HUSSH_LONG"), reason="compiles it all; HUSSH_LONG=1 runs it"
)
@pytest.mark.skipif(shutil.which("musl-gcc") is None, reason="no musl-gcc (Debian: musl-tools)")
def test_compiles_with_musl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All C code compiles against musl without a warning in ours, and makes a library."""
    monkeypatch.setenv("CC", "musl-gcc")
    # musl-gcc looks into its own folder only: OpenSSL's and zlib's headers are lent to it.
    lent = tmp_path / "include"
    for folder in (Path("/usr/include"), *Path("/usr/include").glob("*-linux-gnu")):
        if (folder / "openssl").is_dir():
            shutil.copytree(folder / "openssl", lent / "openssl", dirs_exist_ok=True)
    for name in ("zlib.h", "zconf.h"):
        shutil.copy(Path("/usr/include", name), lent)
    flags = build_ffi.flags(build_ffi.fetcher().prepare())
    includes = [f"-I{folder}" for folder in (*flags["include_dirs"], lent)]
    objects = []
    for source in flags["sources"]:
        warnings = ["-w"] if os.path.isabs(source) else ["-Wall", "-Wextra", "-Werror"]
        objects.append(str(tmp_path / f"{Path(source).stem}.o"))
        subprocess.run(
            ["musl-gcc", *flags["extra_compile_args"], "-O2", *warnings, *includes,
             "-c", source, "-o", objects[-1]],
            cwd=TOP,
            check=True,
        )  # fmt: skip
    made = tmp_path / "all.so"
    subprocess.run(
        ["musl-gcc", "-shared", "-o", made, *objects, *flags["extra_link_args"]], check=True
    )
    assert b"libc.so.6" not in made.read_bytes()  # glibc's
