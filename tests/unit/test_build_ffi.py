"""build_ffi.py: which compiler it asks for the version of OpenSSL, and what it says without one."""

from __future__ import annotations

from pathlib import Path

import pytest

import build_ffi
import hussh


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name no compiler and no flags."""
    for name in ("CC", "CFLAGS", "CPPFLAGS"):
        monkeypatch.delenv(name, raising=False)


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


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that is not there is named, in one line."""
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(SystemExit, match=r"^hussh: no C compiler: no-such-compiler: No such file"):
        build_ffi.openssl_version()


def test_no_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without headers the error says what to install."""
    monkeypatch.setenv("CC", "cc -nostdinc")
    with pytest.raises(SystemExit, match=r"^hussh: the headers of OpenSSL 3 .* libssl-dev"):
        build_ffi.openssl_version()


def test_headers_of_openssl_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older headers, which have another macro, count as missing."""
    (tmp_path / "openssl").mkdir()
    (tmp_path / "openssl/opensslv.h").write_text('# define OPENSSL_VERSION_TEXT "OpenSSL 1.1.1"\n')
    monkeypatch.setenv("CFLAGS", f"-nostdinc '-I{tmp_path}'")
    with pytest.raises(SystemExit, match="OpenSSL 3"):
        build_ffi.openssl_version()
