"""Describes the one extension module: csrc/ and the libssh2 files that we use, for CFFI.

setuptools calls `ffibuilder()` (see setup.py); importing this file does nothing.
The module keeps to CPython's stable ABI, so one build serves 3.10 and later, and
exports nothing but its init function.

Environment: HUSSH_STATIC names a folder with include/ and lib/ of an OpenSSL and a zlib that are to
be linked in statically, and linked.json, which says what they are; release/wheel.py makes all that.
HUSSH_FREE_THREADED=1 builds for a CPython without the global interpreter lock, untried as that is.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from shlex import split
from types import ModuleType
from typing import Any

TOP = Path(__file__).resolve().parent
CSRC = TOP / "csrc"
MODULE = "hussh._native._libssh2"
CDEFS = ("libssh2.cdef", "link.cdef", "channel.cdef", "endpoint.cdef")
OURS = ("tree.c", "kex_work.c", "send.c", "channel.c", "channel_command.c",
        "channel_signal.c", "endpoint.c", "channel_recv.c", "message_hook.c",
        "link.c", "pump.c", "crypto/aesgcm.c", "crypto/chachapoly.c", "crypto/mlkem.c",
        "stubs.c")  # fmt: skip
DEFINES = ("HAVE_CONFIG_H", "NDEBUG", "LIBSSH2_NO_DEPRECATED", "_GNU_SOURCE")
COMPILE = ("-std=gnu11", "-fPIC", "-fvisibility=hidden", "-ffunction-sections",
           "-fdata-sections", "-g1")  # fmt: skip
#: Not every linker knows them: each is tried first.
LINK = ("-Wl,--gc-sections", "-Wl,-z,relro,-z,now", f"-Wl,--version-script={CSRC / 'module.map'}")

PRELUDE = """
#include <openssl/crypto.h>
#include "libssh2.h"
#include "link.h"
#include "aesgcm.h"

static const char *hussh_built_from(void) { return %s; }
static const char *hussh_openssl_version(void) { return OpenSSL_version(OPENSSL_VERSION); }
"""


def fetcher() -> ModuleType:
    """vendor/fetch.py, loaded by its path: vendor/ is no package."""
    spec = importlib.util.spec_from_file_location("hussh_vendor_fetch", TOP / "vendor/fetch.py")
    if spec is None or spec.loader is None:
        raise ImportError("vendor/fetch.py cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def flags(source: Path) -> dict[str, Any]:
    """Include folders, sources and compiler flags; paths of ours are relative to the top."""
    names = [str(source / "src" / name) for name in fetcher().SOURCES]
    return {
        "sources": [f"csrc/{name}" for name in OURS] + names,
        "include_dirs": ["csrc", "csrc/crypto", str(source / "include"), str(source / "src")],
        "extra_compile_args": [*COMPILE, *(f"-D{name}" for name in DEFINES)],
        "extra_link_args": list(link_flags()),
    }


def compiler(*variables: str) -> list[str]:
    """The words of the compile command, as setuptools takes them from these variables, too.

    A compiler may be behind ccache, headers in a place of their own.
    """
    named = [os.environ.get(name, "") for name in variables]
    return [word for words in (os.environ.get("CC") or "cc", *named) for word in split(words)]


@cache
def link_flags() -> tuple[str, ...]:
    """Those of LINK that this machine's linker knows; macOS has its own, which nobody has tried."""
    if sys.platform == "darwin":
        return ("-Wl,-dead_strip",)
    with tempfile.TemporaryDirectory(prefix="hussh-build-") as folder:
        source = Path(folder, "empty.c")
        source.write_text("int hussh_empty;\n")
        command = [*compiler("CFLAGS", "LDFLAGS"), "-shared", "-fPIC", "-o", f"{folder}/empty.so"]
        return tuple(flag for flag in LINK if _works([*command, flag, str(source)]))


def _works(command: list[str]) -> bool:
    # Some linkers only warn of what they do not know.
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    return done.returncode == 0 and not done.stderr


def openssl_version() -> str:
    """The version of the headers that we compile against."""
    asked = subprocess.run(  # noqa: S603
        [*compiler("CPPFLAGS", "CFLAGS"), "-x", "c", "-E", "-P", "-"],
        input="#include <openssl/opensslv.h>\nOPENSSL_VERSION_STR\n",
        capture_output=True,
        text=True,
    )
    found = re.search(r'"(\d[^"]*)"\s*$', asked.stdout)
    if asked.returncode or found is None:
        raise SystemExit(f"hussh: the compiler cannot read openssl/opensslv.h\n{asked.stderr}")
    return found[1]


def prerequisites() -> str:
    """Say what is missing to build with, and how to install it; empty if nothing is."""
    command = ["sh", str(TOP / "scripts/prerequisites"), "build", sys.executable]
    return subprocess.run(command, capture_output=True, text=True).stderr.strip()  # noqa: S603


def python_api() -> dict[str, Any]:
    """Return what of CPython's API the module may use: the limited one, where that exists.

    SystemExit: there is no such API without the global interpreter lock, and it was not asked for.
    """
    if not sysconfig.get_config_var("Py_GIL_DISABLED"):
        return {"py_limited_api": True, "define_macros": [("Py_LIMITED_API", "0x030a0000")]}
    if not os.environ.get("HUSSH_FREE_THREADED"):
        raise SystemExit(
            "hussh: this CPython is free-threaded, and nobody has tried hussh without the global"
            " interpreter lock: use the usual one, or set HUSSH_FREE_THREADED=1 to build it all"
            " the same"
        )
    return {"py_limited_api": False}


def ffibuilder() -> Any:
    """Fetch libssh2 (or take it from the cache) and describe the extension to CFFI.

    SystemExit: something is missing; the text names all of it.
    """
    from cffi import FFI

    api = python_api()
    vendor = fetcher()
    missing = prerequisites()
    try:
        source = vendor.prepare()
    except vendor.FetchError as error:
        missing = f"{missing}\nhussh: {error}".strip()
    if missing:
        raise SystemExit(missing)
    static = os.environ.get("HUSSH_STATIC")
    linked = json.loads(Path(static, "linked.json").read_text()) if static else {}
    record = {**vendor.describe(source), "openssl": openssl_version(), "static": linked}
    ffi = FFI()
    for name in CDEFS:
        ffi.cdef((CSRC / name).read_text())
    ffi.set_source(
        MODULE,
        PRELUDE % json.dumps(json.dumps(record)),
        libraries=["pthread"] if static else ["crypto", "z"],  # older C libraries have it apart
        extra_objects=[f"{static}/lib/lib{name}.a" for name in ("crypto", "z")] if static else [],
        **api,
        **flags(source),
    )
    return ffi
