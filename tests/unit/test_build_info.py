"""What the extension was really built from, and what it shows to the world.

Compares the compiled module with ``vendor/``; needs no server. Runs under every Python that
scripts/check-pythons finds.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest

import hussh
from hussh._native import _libssh2

TOP = Path(__file__).resolve().parents[2]
EXTENSION = Path(_libssh2.__file__)


@pytest.fixture(scope="module")
def lock() -> dict[str, Any]:
    """Return what we promise to build from."""
    found: dict[str, Any] = json.loads((TOP / "vendor/libssh2.lock").read_text())
    return found


def natural(version: str) -> list[int]:
    """Return a version as numbers, for comparison; only digits matter to ours."""
    return [int(part) for part in re.findall(r"\d+", version)]


def test_upstreams_release(lock: dict[str, Any]) -> None:
    """The libssh2 inside is the pinned release of upstream."""
    info = hussh.build_info()
    assert info["libssh2"] == lock["upstream"]["version"]
    assert info["changed_files"] == []


def test_vulnerabilities(lock: dict[str, Any]) -> None:
    """Each vulnerability that the lock names is patched, or its file is not compiled in."""
    info = hussh.build_info()
    assert list(info["cves"]) == list(lock["cves"])
    for cve, status in info["cves"].items():
        file = lock["cves"][cve]["file"]
        patch = lock["cves"][cve].get("patch")
        assert status == (f"patched by {patch}" if patch else f"not compiled in: {file}")
        assert patch is None or patch in info["patches"]


def test_our_patches() -> None:
    """It was built with exactly the patches of this tree, byte for byte."""
    patches = sorted((TOP / "vendor/patches").glob("*.patch"))
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in patches}
    assert patches
    assert hussh.build_info()["patches"] == digests


def test_openssl_is_the_one_compiled_for() -> None:
    """The OpenSSL in use has the major version that was compiled against, 3 or later."""
    info = hussh.build_info()
    assert natural(info["openssl"])[0] >= 3
    assert natural(info["openssl_running"])[0] == natural(info["openssl"])[0]


def test_result_is_the_callers_own() -> None:
    """What one caller does to the result does not show in the next one's."""
    hussh.build_info()["patches"].clear()
    assert hussh.build_info()["patches"]


def test_only_the_init_function_is_exported() -> None:
    """No symbol of libssh2 or of ours can clash with those of another library in the process."""
    assert exported(EXTENSION.read_bytes()) == ["PyInit__libssh2"]


def test_one_file_for_all_pythons() -> None:
    """The extension is tagged for the stable ABI, and needs no libssh2 of the system."""
    assert EXTENSION.name == "_libssh2.abi3.so"
    assert not re.search(rb"libssh2\.so|libpython", EXTENSION.read_bytes())


def exported(image: bytes) -> list[str]:
    """Return the dynamic symbols that a shared object defines (ELF-64, System V gABI chapter 4).

    By hand, because binutils is no requirement of ours.
    """
    assert image[:5] == b"\x7fELF\x02", "not ELF-64"
    order = "<" if image[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}Q", image, 40)
    size, count = struct.unpack_from(f"{order}HH", image, 58)
    # name, type, flags, address, offset, size, link, info, alignment, entry size
    sections = [
        struct.unpack_from(f"{order}IIQQQQIIQQ", image, table + number * size)
        for number in range(count)
    ]
    dynamic = next(section for section in sections if section[1] == 11)  # SHT_DYNSYM
    strings = sections[dynamic[6]][4]
    found = []
    for start in range(dynamic[4], dynamic[4] + dynamic[5], dynamic[9]):
        name, info, _, section = struct.unpack_from(f"{order}IBBH", image, start)
        if info >> 4 != 0 and section != 0:  # neither local nor undefined
            end = image.index(b"\0", strings + name)
            found.append(image[strings + name : end].decode())
    return sorted(found)
