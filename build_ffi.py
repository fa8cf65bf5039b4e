"""Describes the one extension module: csrc/ and the libssh2 files that we use, for CFFI.

setuptools calls `ffibuilder()` (see setup.py); importing this file does nothing.
The module keeps to CPython's stable ABI, so one build serves 3.10 and later, and
exports nothing but its init function.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from shlex import split
from types import ModuleType
from typing import Any

TOP = Path(__file__).resolve().parent
CSRC = TOP / "csrc"
MODULE = "hussh._native._libssh2"
CDEFS = ("libssh2.cdef", "link.cdef", "channels.cdef")
OURS = ("link.c", "pump.c", "messages.c", "arrivals.c", "channels.c", "aesgcm.c", "chachapoly.c",
        "stubs.c")  # fmt: skip
DEFINES = ("HAVE_CONFIG_H", "NDEBUG", "LIBSSH2_NO_DEPRECATED", "_GNU_SOURCE")
COMPILE = ("-std=gnu11", "-fPIC", "-fvisibility=hidden", "-ffunction-sections",
           "-fdata-sections", "-g1")  # fmt: skip
LINK = ("-Wl,--gc-sections", "-Wl,-z,relro,-z,now", "-Wl,--exclude-libs,ALL")

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
        "include_dirs": ["csrc", str(source / "include"), str(source / "src")],
        "extra_compile_args": [*COMPILE, *(f"-D{name}" for name in DEFINES)],
        "extra_link_args": list(LINK),
    }


def openssl_version() -> str:
    """The version of the headers that we compile against.  SystemExit: there are none to use."""
    # As setuptools takes them: a compiler may be behind ccache, headers in a place of their own.
    named = [os.environ.get(name, "") for name in ("CPPFLAGS", "CFLAGS")]
    command = [word for words in (os.environ.get("CC") or "cc", *named) for word in split(words)]
    try:
        asked = subprocess.run(  # noqa: S603
            [*command, "-E", "-P", "-"],
            input="#include <openssl/opensslv.h>\nOPENSSL_VERSION_STR\n",
            capture_output=True,
            text=True,
        )
    except OSError as error:
        raise SystemExit(f"hussh: no C compiler: {command[0]}: {error.strerror}") from None
    found = re.search(r'"(\d[^"]*)"\s*$', asked.stdout)
    if asked.returncode or found is None:
        raise SystemExit(
            "hussh: the headers of OpenSSL 3 are missing: on Debian and Ubuntu install libssl-dev"
            f" and zlib1g-dev, elsewhere what has openssl/opensslv.h and zlib.h\n{asked.stderr}"
        )
    return found[1]


def ffibuilder() -> Any:
    """Fetch libssh2 (or take it from the cache) and describe the extension to CFFI."""
    from cffi import FFI

    vendor = fetcher()
    try:
        source = vendor.prepare()
    except vendor.FetchError as error:
        raise SystemExit(f"hussh: {error}") from None
    record = {**vendor.describe(source), "openssl": openssl_version()}
    ffi = FFI()
    for name in CDEFS:
        ffi.cdef((CSRC / name).read_text())
    ffi.set_source(
        MODULE,
        PRELUDE % json.dumps(json.dumps(record)),
        libraries=["crypto", "z"],
        py_limited_api=True,
        define_macros=[("Py_LIMITED_API", "0x030a0000")],
        **flags(source),
    )
    return ffi
