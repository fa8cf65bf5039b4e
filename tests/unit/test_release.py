"""The parts of release/ that need no cross compiler: what they write, and what they find wrong."""

from __future__ import annotations

import datetime
import io
import json
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from hussh._native import _libssh2
from release import publish, sbom, static_libraries, verify, wheel
from release.elf import Symbol, read_symbols
from release.source import pack
from release.targets import TARGETS, write_toolchain

TOP = Path(__file__).resolve().parents[2]
INFO = "x-1.0.dist-info"


def content_of_a_wheel() -> dict[str, bytes]:
    """Return what setuptools puts into a wheel, as far as it is changed."""
    metadata = (
        "Metadata-Version: 2.4\nName: x\nVersion: 1.0\nLicense-Expression: MIT AND BSD-3-Clause\n"
        "License-File: LICENSE\n"
    )
    return {
        "hussh/_native/LICENSE.libssh2": b"theirs",
        f"{INFO}/METADATA": metadata.encode(),
        f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nTag: cp310-abi3-linux_x86_64\n\n",
        f"{INFO}/licenses/LICENSE": b"ours",
    }


def test_wheel_depends_on_its_content_only(tmp_path: Path) -> None:
    """The same files give the same bytes, whatever their order, and RECORD lists each."""
    content = {**content_of_a_wheel(), "hussh/a.so": b"code"}
    wheel.write_archive(tmp_path / "one.whl", dict(content), INFO)
    wheel.write_archive(tmp_path / "two.whl", dict(reversed(content.items())), INFO)
    assert (tmp_path / "one.whl").read_bytes() == (tmp_path / "two.whl").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.whl") as archive:
        record = archive.read(f"{INFO}/RECORD").decode().splitlines()
        assert sorted(line.split(",")[0] for line in record) == sorted(archive.namelist())
        assert archive.getinfo("hussh/a.so").external_attr >> 16 == 0o100755


def test_source_distribution_depends_on_its_content_only() -> None:
    """Owners, times and the order of files are gone; modes stay as far as they matter."""
    packed = []
    for order, time in ((("a", "b"), 1), (("b", "a"), 2)):
        given = io.BytesIO()
        with tarfile.open(fileobj=given, mode="w:gz") as tar:
            for name in order:
                member = tarfile.TarInfo(f"x-1.0/{name}")
                member.mtime, member.uid, member.mode = time, time, 0o775 if name == "a" else 0o600
                member.size = 1
                tar.addfile(member, io.BytesIO(name.encode()))
        packed.append(pack(given.getvalue()))
    assert packed[0] == packed[1]
    with tarfile.open(fileobj=io.BytesIO(packed[0])) as tar:
        assert [(each.name, each.mode) for each in tar] == [("x-1.0/a", 0o755), ("x-1.0/b", 0o644)]


def test_licences_of_all_that_is_inside(tmp_path: Path) -> None:
    """OpenSSL's, zlib's and libssh2's licences are in the metadata, by text and by name."""
    (tmp_path / "licenses").mkdir()
    for name in ("openssl", "zlib"):
        (tmp_path / f"licenses/{name}.txt").write_text(name)
    content = content_of_a_wheel()
    wheel._add_licences(content, INFO, tmp_path)
    metadata = content[f"{INFO}/METADATA"].decode()
    assert "License-Expression: MIT AND BSD-3-Clause AND Apache-2.0 AND Zlib\n" in metadata
    for name in ("openssl", "zlib", "libssh2"):
        assert f"License-File: LICENSE.{name}\n" in metadata
        assert content[f"{INFO}/licenses/LICENSE.{name}"]
    assert "hussh/_native/LICENSE.libssh2" not in content


@pytest.mark.parametrize("target", TARGETS.values(), ids=str)
def test_tags(target: object) -> None:
    """A wheel has the tags of its target and no other."""
    content = content_of_a_wheel()
    wheel._retag(content, INFO, target)  # type: ignore[arg-type]
    lines = content[f"{INFO}/WHEEL"].decode().splitlines()
    tags = [f"Tag: cp310-abi3-{tag}" for tag in sorted(target.tags)]  # type: ignore[attr-defined]
    assert lines == ["Wheel-Version: 1.0", *tags]


def test_options_of_openssl_are_whole_words() -> None:
    """No name was cut in two at its hyphen when the list was wrapped, and none is there twice."""
    names = static_libraries.LEFT_OUT.split()
    assert len(set(names)) == len(names)
    assert not [name for name in names if name.startswith("-") or name.endswith("-")]
    assert {"autoload-config", "default-thread-pool", "integrity-only-ciphers"} <= set(names)


def test_bill_of_materials() -> None:
    """It names each library with its version, and says of each vulnerability why it is none."""
    bill = json.loads(sbom.make_sbom(content_of_a_wheel(), INFO, TOP))
    libssh2 = json.loads((TOP / "vendor/libssh2.lock").read_text())
    lock = static_libraries.read_lock()
    versions = {name: entry["version"] for name, entry in lock.items()}
    versions["libssh2"] = libssh2["upstream"]["version"]
    assert {each["name"]: each["version"] for each in bill["components"]} == versions
    known = [*libssh2["cves"], *(cve for entry in lock.values() for cve in entry["cves"])]
    assert [each["id"] for each in bill["vulnerabilities"]] == known
    assert all(each["analysis"]["detail"] for each in bill["vulnerabilities"])
    references = {each["bom-ref"] for each in bill["components"]}
    assert {ref["ref"] for each in bill["vulnerabilities"] for ref in each["affects"]} <= references


def test_lock_says_why_of_each_vulnerability() -> None:
    """Each has the symbols that would show its code, or the reason why nothing calls that."""
    for entry in static_libraries.read_lock().values():
        for known in entry["cves"].values():
            assert known["file"]
            assert ("symbols" in known) != ("unused" in known)


def test_cipher_with_a_vulnerability_is_never_fetched() -> None:
    """What the lock says of CVE-2026-75803 is so: no source asks for that cipher."""
    assert "ChaCha20" in static_libraries.read_lock()["openssl"]["cves"]["CVE-2026-75803"]["unused"]
    sources = [
        *(TOP / "csrc").rglob("*.[ch]"),
        *(static_libraries.vendor.prepare() / "src").iterdir(),
    ]
    texts = [path.read_text(errors="replace") for path in sources if "test" not in path.name]
    assert not [text for text in texts if "EVP_chacha20_poly1305" in text]
    assert not [text for text in texts if '"ChaCha20-Poly1305"' in text]


def test_nothing_signs_with_openssl() -> None:
    """What the lock says of CVE-2026-54872 is so: no source that is compiled calls a signer."""
    assert "signv" in static_libraries.read_lock()["openssl"]["cves"]["CVE-2026-54872"]["unused"]
    calls = re.compile(r"(->|\.)signv\b|\bEVP_DigestSign|\bEVP_PKEY_sign")
    vendor = static_libraries.vendor
    source = vendor.prepare() / "src"
    # openssl.c has the signers themselves.
    names = {name for name in vendor.SOURCES if name != "openssl.c"}
    ours = [*(TOP / "csrc").glob("*.c"), *(TOP / "csrc/crypto").glob("*.c")]
    texts = [path.read_text() for path in [*ours, *(source / name for name in names)]]
    assert len(texts) > 15
    assert not [text for text in texts if calls.search(text)]
    assert calls.search((source / "userauth.c").read_text())  # it is not compiled


def test_vulnerable_code_is_found() -> None:
    """A module with a symbol of code that has a vulnerability is refused, one without is not."""
    good = [Symbol("EVP_CIPHER_fetch", True), Symbol("CMS", True)]
    assert list(verify.find_vulnerable(good)) == []
    found = list(verify.find_vulnerable([*good, Symbol("CMS_decrypt", True)]))
    assert found == ["CVE-2026-63072 of openssl: CMS_decrypt is linked in"]
    assert list(verify.find_vulnerable([])) == ["its symbols do not show what is linked in"]


def test_symbols_of_a_real_module() -> None:
    """The reader of symbols finds what this build's module shows, and that it defines more."""
    image = Path(_libssh2.__file__).read_bytes()
    assert [each.name for each in read_symbols(image, dynamic=True)] == [verify.INIT]
    names = {each.name for each in read_symbols(image)}
    assert "hussh_pump" in names or not names  # a stripped one has none


def test_answer_for_perlasm(tmp_path: Path) -> None:
    """The wrapper says that the assembler knows AVX-512, and hands on everything else."""
    zig = tmp_path / "zig"
    zig.write_text('#!/bin/sh\necho "$@"\n')
    zig.chmod(0o755)
    write_toolchain(TARGETS["musllinux_1_2_aarch64"], zig, tmp_path)
    said = [
        subprocess.run(
            [tmp_path / "hussh-cc", *arguments], capture_output=True, text=True, check=True
        ).stdout
        for arguments in (["-Wa,-v", "-c", "-x", "assembler", "/dev/null"], ["-c", "a b.c"])
    ]
    assert said == [
        "GNU assembler version 2.40\n",
        "cc -target aarch64-linux-musl -fno-sanitize=undefined -c a b.c\n",
    ]


def test_changelog_of_a_release() -> None:
    """What is unreleased gets the heading of the version, and stays above older releases."""
    text = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- x\n\n## [0.3.0] - 2020-01-01\n\n- y\n"
    day = datetime.date(2026, 1, 2)
    dated = publish.date_changelog(text, "0.4.0", day)
    assert dated == text.replace("[Unreleased]\n", "[Unreleased]\n\n## [0.4.0] - 2026-01-02\n")
    with pytest.raises(ValueError, match=r"nothing under \[Unreleased\]"):
        publish.date_changelog(dated, "0.4.1", day)
    with pytest.raises(ValueError, match=r"0\.3\.0 already"):
        publish.date_changelog(text, "0.3.0", day)


def test_version_of_a_release() -> None:
    """The module of the version gets another one, if that is in its normal form."""
    text = (TOP / "hussh/_version.py").read_text()
    assert '__version__ = "1.2.3rc1"\n' in publish.set_version(text, "1.2.3rc1")
    for wrong in ("1.2", "v1.2.3", "1.2.3-rc1", ""):
        with pytest.raises(ValueError, match="is no version"):
            publish.set_version(text, wrong)


def test_policy_that_auditwheel_names() -> None:
    """A wheel is for the policy that auditwheel finds, with versioned symbols and without."""
    musl = (
        'x.whl is consistent with the following platform tag: "musllinux_1_2_x86_64". The wheel'
        " references no external versioned symbols from system-provided shared libraries."
    )
    glibc = (
        'x.whl is consistent with the following platform tag: "manylinux_2_28_x86_64". The wheel'
        " references external versioned symbols in these system-provided shared libraries:"
        " libc.so.6 with versions {'GLIBC_2.28'} This constrains the platform tag to"
        ' "manylinux_2_28_x86_64".'
    )
    assert verify.is_for(musl, TARGETS["musllinux_1_2_x86_64"])
    assert not verify.is_for(musl, TARGETS["musllinux_1_2_aarch64"])
    assert not verify.is_for(glibc, TARGETS["manylinux2014_x86_64"])
    assert verify.is_for(glibc.replace("2_28", "2_17"), TARGETS["manylinux2014_x86_64"])


def test_name_of_the_c_library(tmp_path: Path) -> None:
    """The linker is given one for musl that has the name of Alpine's, of zig's list of symbols."""
    zig = tmp_path / "zig"
    zig.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/said\n')
    zig.chmod(0o755)
    target = TARGETS["musllinux_1_2_aarch64"]
    write_toolchain(target, zig, tmp_path / "tools")
    arguments = wheel._make_libc(target, zig, tmp_path)
    assert arguments == f"-Wl,--as-needed {tmp_path}/tools/libc.musl-aarch64.so.1"
    said = (tmp_path / "said").read_text()
    assert "-Wl,-soname,libc.musl-aarch64.so.1" in said
    assert f"{tmp_path}/lib/libc/musl/libc.S" in said
    assert TARGETS["manylinux2014_aarch64"].libc == ""


def test_wheel_for_no_target_is_refused(tmp_path: Path) -> None:
    """A wheel that only this machine could use is not verified."""
    (fault,) = verify.check_wheel(tmp_path / "x-1.0-cp310-abi3-linux_x86_64.whl")
    assert fault.startswith("it is for none of manylinux2014_x86_64")
