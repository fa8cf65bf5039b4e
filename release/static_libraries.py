"""Builds the OpenSSL and the zlib that are linked into wheels, once for each target.

vendor/static.lock pins both; vendor/mirrors.py gets them. The result lies in the cache of
vendor/fetch.py, under a name that is made of all that it depends on.

Environment: HUSSH_OPENSSL_SOURCE and HUSSH_ZLIB_SOURCE name a packed release, and replace the
download. Only the pinned ones are accepted.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from build_ffi import fetcher
from release.quiet_run import run
from release.targets import Target, write_toolchain

__all__ = ["LOCK", "build", "read_lock", "reasons"]

TOP = Path(__file__).resolve().parents[1]
LOCK = TOP / "vendor/static.lock"
vendor = fetcher()

FLAGS = ("-fPIC", "-g0", "-fvisibility=hidden", "-ffunction-sections", "-fdata-sections")
#: Nothing here reads a file, a setting or a module of the machine, or listens, or knows a protocol:
#: what remains is what csrc/ and our part of libssh2 ask for.
LEFT_OUT = """
    shared module dso engine autoload-config apps tests docs ssl tls dtls quic sock http
    cms cmp ct ocsp ts rfc3779 srp psk comp legacy async atexit ui-console thread-pool
    default-thread-pool egd afalgeng padlockeng srtp nextprotoneg ssl-trace multiblock
    integrity-only-ciphers aria bf blake2 camellia cast cmac dsa ec2m gost idea md4 mdc2
    ml-dsa ocb rc2 rc4 rmd160 scrypt seed siphash siv slh-dsa sm2 sm3 sm4 whirlpool
"""
OPENSSL_OPTIONS = tuple(f"no-{name}" for name in LEFT_OUT.split())
ZLIB_FILES = ("adler32", "crc32", "deflate", "inffast", "inflate", "inftrees", "trees", "zutil")


def read_lock() -> dict[str, Any]:
    """Return the content of vendor/static.lock, without its comment."""
    lock: dict[str, Any] = json.loads(LOCK.read_text())
    del lock["comment"]
    return lock


def reasons(cves: dict[str, Any]) -> dict[str, str]:
    """Return for each vulnerability why wheels do not have it."""
    return {
        cve: f"not linked in: {known['file']}" if "symbols" in known else known["unused"]
        for cve, known in cves.items()
    }


def build(target: Target, zig: Path, compiler: str) -> Path:
    """Return a folder with include/, lib/ and licenses/; quick when cached.

    Args:
        target: what to build for.
        zig: the program.
        compiler: its name and version, which are part of the cache's key.

    Raises FetchError, subprocess.CalledProcessError.
    """
    lock = read_lock()
    inputs = [lock[name]["sha256"] for name in ("openssl", "zlib")]
    inputs += [*FLAGS, *OPENSSL_OPTIONS, *ZLIB_FILES, compiler, target.wrapper]
    key = hashlib.sha256("\n".join([*inputs, target.machine]).encode()).hexdigest()
    cache = vendor.cache_folder()
    done: Path = cache / f"static-{target.name}-{key[:20]}"
    if done.is_dir():
        return done
    staging = Path(tempfile.mkdtemp(prefix="tmp-", dir=cache))
    try:
        tools = staging / "tools"
        write_toolchain(target, zig, tools)
        environment = {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "HOME": os.environ.get("HOME", str(staging)),
            "LC_ALL": "C",
            "SOURCE_DATE_EPOCH": "0",
        }
        made = staging / "made"
        for name in ("include", "lib", "licenses"):
            (made / name).mkdir(parents=True)
        for name, steps in (("zlib", _build_zlib), ("openssl", _build_openssl)):
            source = _unpack(name, lock[name], cache, staging)
            shutil.copyfile(source / lock[name]["license_file"], made / f"licenses/{name}.txt")
            steps(source, made, target, environment)
        made.rename(done)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return done


def _unpack(name: str, pinned: dict[str, Any], cache: Path, staging: Path) -> Path:
    variable = f"HUSSH_{name.upper()}_SOURCE"
    archive = vendor.mirrors.Archive(
        name, pinned["file"], pinned["pool"], pinned["sha256"], pinned["site"], variable,
        "vendor/static.lock",
    )  # fmt: skip
    packed = Path(os.environ.get(variable) or cache / archive.file)
    if not packed.is_file():
        vendor.mirrors.download(archive, staging / archive.file)
        (staging / archive.file).replace(packed)
    vendor.mirrors.verify(packed, archive)
    with tarfile.open(packed) as tar:
        tar.extractall(staging / name)
    (source,) = (staging / name).iterdir()
    return source


def _build_zlib(source: Path, made: Path, target: Target, environment: dict[str, str]) -> None:
    # What hussh calls is inflate and deflate; gz* would read files.
    for name in ZLIB_FILES:
        run(["hussh-cc", "-O3", *FLAGS, "-c", f"{name}.c", "-o", f"{name}.o"], source, environment)
    objects = [f"{name}.o" for name in ZLIB_FILES]
    run(["hussh-ar", "rcsD", str(made / "lib/libz.a"), *objects], source, environment)
    for name in ("zlib.h", "zconf.h"):
        shutil.copy(source / name, made / "include")


def _build_openssl(source: Path, made: Path, target: Target, environment: dict[str, str]) -> None:
    tools = [f"{name.upper()}=hussh-{name}" for name in ("cc", "ar", "ranlib")]
    folders = ["--prefix=/usr", "--openssldir=/usr/lib/ssl"]  # recorded, and never looked into
    configure = ["perl", "Configure", target.openssl, *tools, *folders, *FLAGS, *OPENSSL_OPTIONS]
    run(configure, source, environment)
    jobs = f"-j{len(os.sched_getaffinity(0))}"
    run(["nice", "-n", "10", "make", "-s", jobs, "build_generated", "libcrypto.a"],
         source, environment)  # fmt: skip
    shutil.copy(source / "libcrypto.a", made / "lib")
    shutil.copytree(source / "include/openssl", made / "include/openssl")
