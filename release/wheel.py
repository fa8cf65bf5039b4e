"""Builds one wheel: setuptools with the cross compiler, then what setuptools cannot do.

That is: the platform tags, the licences of all that is inside, the bill of materials (PEP 770), and
the same bytes whenever and wherever the same sources are built. The wheel is built from an unpacked
source distribution, so that it has what others can build, too.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import sys
import sysconfig
import time
import zipfile
from pathlib import Path
from typing import Any

from release.quiet_run import run
from release.sbom import make_sbom
from release.static_libraries import read_lock, reasons
from release.targets import Target, write_toolchain

__all__ = ["SOURCE_DATE", "build_wheel", "write_archive"]

#: The time of all files in wheels, in seconds since 1970: that of the first release's year.
SOURCE_DATE = 1767225600
#: Links twice: the module with all its symbols, for debuggers and release/verify.py, and without.
#: HUSSH_LIBC is what `_make_libc` returns.
LINKER = """#!/bin/sh
hussh-cc -shared "$@" $HUSSH_LIBC -o "$HUSSH_WHOLE" && exec hussh-cc -shared -s "$@" $HUSSH_LIBC
"""
MODULE = "hussh/_native/_libssh2.abi3.so"


def build_wheel(
    source: Path, static: Path, target: Target, zig: Path, folder: Path, scratch: Path
) -> Path:
    """Build a wheel.

    Args:
        source: an unpacked source distribution; it gets files of the build.
        static: OpenSSL and zlib for this target (`release.static_libraries.build`).
        target: what to build for.
        zig: the program.
        folder: gets the wheel, and beside it the module with its symbols.
        scratch: an empty folder.

    Returns:
        The wheel.
    """
    linked = {
        name: {
            "version": entry["version"],
            "sha256": entry["sha256"],
            "cves": reasons(entry["cves"]),
        }
        for name, entry in read_lock().items()
    }
    prefix = scratch / "static"
    shutil.copytree(static, prefix)
    (prefix / "linked.json").write_text(json.dumps(linked))
    write_toolchain(target, zig, scratch / "tools")
    linker = scratch / "tools/hussh-link"
    linker.write_text(LINKER)
    linker.chmod(0o755)
    libc = _make_libc(target, zig, scratch) if target.libc else ""
    made = _run_setuptools(source, prefix, target, scratch, libc)
    content = _unpack(made)
    info = next(name.partition("/")[0] for name in content if ".dist-info/" in name)
    symbols = folder / f"{info.removesuffix('.dist-info')}-{target.name}.so"
    shutil.copyfile(scratch / "whole.so", symbols)
    _add_licences(content, info, static)
    _retag(content, info, target)
    content[f"{info}/sboms/hussh.cdx.json"] = make_sbom(content, info, source)
    tag = f"cp310-abi3-{'.'.join(sorted(target.tags))}"
    wheel = folder / f"{info.removesuffix('.dist-info')}-{tag}.whl"
    write_archive(wheel, content, info)
    return wheel


def _make_libc(target: Target, zig: Path, scratch: Path) -> str:
    """Return the arguments by which the linker records the C library under the name it has there.

    zig records musl as ``libc.so``, which is a linker script where there is glibc, and not what
    musllinux's policy names. So the linker gets a library first that has all symbols of musl, no
    code, and the right name. Then zig's own is not needed, but for the headers.
    """
    library = scratch / "tools" / target.libc
    definitions = ["-DPTR64", f"-DARCH_{target.machine}"]
    if target.machine == "x86_64":
        definitions.append("-DFAMILY_x86")
    source = zig.parent / "lib/libc/musl/libc.S"  # for assemblers: zig makes its own of this
    run(
        ["hussh-cc", "-shared", "-nostdlib", *definitions, f"-Wl,-soname,{target.libc}",
         str(source), "-o", str(library)],
        scratch,
        {"PATH": f"{scratch / 'tools'}:{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")},
    )  # fmt: skip
    return f"-Wl,--as-needed {library}"


def _run_setuptools(source: Path, static: Path, target: Target, scratch: Path, libc: str) -> Path:
    """Return the wheel of setuptools, for `target` but named after a plain Linux."""
    headers = _copy_headers(scratch / "python")
    flags = f"-O2 -g1 -fwrapv -fstack-protector-strong -D_FORTIFY_SOURCE=2 {_maps(source, scratch)}"
    variables = {
        "CC": "hussh-cc", "CFLAGS": flags, "CCSHARED": "-fPIC", "LDSHARED": "hussh-link",
        "AR": "hussh-ar", "ARFLAGS": "rcsD", "BLDSHARED": "hussh-link", "OPT": "",
        "LDFLAGS": "", "CPPFLAGS": "", "BASECFLAGS": "", "LIBS": "", "LIBDIR": "",
    }  # fmt: skip
    # All that this Python was built with is replaced: its flags are not those of others.
    everything = {**sysconfig.get_config_vars(), **variables, "CXX": "false", "LDCXXSHARED": ""}
    plain = {name: value for name, value in everything.items() if isinstance(value, str | int)}
    (scratch / "hussh_sysconfigdata.py").write_text(f"build_time_vars = {plain!r}\n")
    environment = {
        "PATH": f"{scratch / 'tools'}:{os.environ['PATH']}",
        "HOME": os.environ.get("HOME", str(scratch)),
        "HUSSH_CACHE": str(scratch / "cache"),
        "HUSSH_STATIC": str(static),
        "HUSSH_WHOLE": str(scratch / "whole.so"),
        "HUSSH_LIBC": libc,
        "CC": "hussh-cc",
        "CPPFLAGS": f"-I{headers} -I{static}/include",
        "PYTHONPATH": str(scratch),
        "PYTHONHASHSEED": "0",
        "SOURCE_DATE_EPOCH": str(SOURCE_DATE),
        "_PYTHON_SYSCONFIGDATA_NAME": "hussh_sysconfigdata",
        "_PYTHON_HOST_PLATFORM": f"linux-{target.machine}",
        "LC_ALL": "C.UTF-8",
    }
    command = [sys.executable, "setup.py", "-q", "build", "--build-base", str(scratch / "build"),
               "bdist_wheel", "--dist-dir", str(scratch / "dist")]  # fmt: skip
    run(command, source, environment)
    (wheel,) = (scratch / "dist").glob("*.whl")
    return wheel


def _maps(*folders: Path) -> str:
    # Where it was built shows in no file name of the debugging information.
    return " ".join(f"-ffile-prefix-map={folder}=." for folder in folders)


def _copy_headers(target: Path) -> Path:
    """Copy Python's headers, which Debian keeps in two folders, into one.

    Those of this machine serve all targets: they are 64-bit Linux, and the module keeps to the
    limited API.
    """
    include = Path(sysconfig.get_path("include"))
    shutil.copytree(include, target)
    config = Path(sysconfig.get_config_h_filename())
    name = f"{sysconfig.get_config_var('MULTIARCH') or ''}/{include.name}/pyconfig.h"
    for path in (config, include.parent / name):
        text = path.read_text() if path.is_file() else ""
        if "#define SIZEOF_LONG 8" in text:
            (target / "pyconfig.h").write_text(text)
            return target
    raise SystemExit(f"release: no pyconfig.h for a 64-bit Linux beside {config}")


def _unpack(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name[-1] != "/"}


def _add_licences(content: dict[str, bytes], info: str, static: Path) -> None:
    """Put the licences of what is linked in beside ours, and name them all (PEP 639)."""
    lock = read_lock()
    licences = {
        f"LICENSE.{name}": (static / f"licenses/{name}.txt").read_bytes() for name in sorted(lock)
    }
    licences["LICENSE.libssh2"] = content.pop("hussh/_native/LICENSE.libssh2")
    for name, text in licences.items():
        content[f"{info}/licenses/{name}"] = text
    names = " AND ".join(sorted({entry["license"] for entry in lock.values()}))
    metadata = content[f"{info}/METADATA"].decode()
    metadata = re.sub(r"^(License-Expression: .*)$", rf"\1 AND {names}", metadata, flags=re.M)
    listed = "".join(f"License-File: {name}\n" for name in sorted(licences))
    metadata, found = re.subn(r"^(License-File: LICENSE\n)", rf"\1{listed}", metadata, flags=re.M)
    if not found or names not in metadata:
        raise SystemExit("release: METADATA names no licence in the expected way")
    content[f"{info}/METADATA"] = metadata.encode()


def _retag(content: dict[str, bytes], info: str, target: Target) -> None:
    head = content[f"{info}/WHEEL"].decode()
    head = re.sub(r"^Tag: .*\n", "", head, flags=re.M).rstrip("\n") + "\n"
    tags = "".join(f"Tag: cp310-abi3-{tag}\n" for tag in sorted(target.tags))
    content[f"{info}/WHEEL"] = (head + tags).encode()


def write_archive(wheel: Path, content: dict[str, bytes], info: str) -> None:
    """Write a wheel whose bytes depend on nothing but its content; RECORD is made anew."""
    record = io.StringIO()
    writer = csv.writer(record, lineterminator="\n")
    content.pop(f"{info}/RECORD", None)
    for name in sorted(content):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content[name]).digest()).rstrip(b"=")
        writer.writerow([name, f"sha256={digest.decode()}", len(content[name])])
    writer.writerow([f"{info}/RECORD", "", ""])
    content[f"{info}/RECORD"] = record.getvalue().encode()
    when: Any = time.gmtime(SOURCE_DATE)[:6]
    # What installers look into comes last, so that it can be read without the rest.
    order = sorted(content, key=lambda name: (name.startswith(f"{info}/"), name))
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in order:
            entry = zipfile.ZipInfo(name, when)
            entry.create_system = 3
            entry.external_attr = (0o100755 if name.endswith(".so") else 0o100644) << 16
            archive.writestr(entry, content[name], zipfile.ZIP_DEFLATED, 9)
