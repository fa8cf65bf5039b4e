"""Tries a wheel in some interpreter, which may be of another C library or processor.

Usage: python -m release.trial FOLDER PYTHON [ARGUMENT ...]

FOLDER has wheels: one of hussh, and what it depends on, for that interpreter. PYTHON and its
arguments start it, such as ``qemu-aarch64 -L ROOT ROOT/usr/bin/python3.11``. A bastion and a server
behind it run on this machine (`hussh.testing`), so this needs a hussh that works here, pytest and
OpenSSH's server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

__all__ = ["main"]

#: What the interpreter runs; its arguments are the options of the two servers, as JSON.
PROGRAM = """
import hashlib, importlib, json, os, platform, sys, tempfile, time
from pathlib import Path
import hussh
from hussh._native import _libssh2

bastion, target = json.loads(sys.argv[1])
target["proxy_jump"] = [tuple(each) for each in target["proxy_jump"]]
info = hussh.build_info()
print(platform.python_version(), platform.machine(), *platform.libc_ver())
print(_libssh2.__file__)
print("static:", {name: each["version"] for name, each in info["static"].items()})
data = os.urandom(1 << 20) * 8
for name, options in (("bastion", bastion), ("target", target)):
    with hussh.Connection(**options, timeout=120_000) as connection:
        assert connection.execute("printf hello").stdout == "hello"
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "a").write_bytes(data)
            start = time.perf_counter()
            connection.sftp_write(f"{folder}/a", "there")
            middle = time.perf_counter()
            connection.sftp_read("there", f"{folder}/b")
            end = time.perf_counter()
            assert Path(folder, "b").read_bytes() == data
        digest = connection.execute("sha256sum <there").stdout.split()[0]
        assert digest == hashlib.sha256(data).hexdigest()
    print(f"{name}: 8 MiB up in {middle - start:.2f} s, down in {end - middle:.2f} s")
for more in ({"compression": True}, {"ciphers": ["chacha20-poly1305@openssh.com"]}):
    with hussh.Connection(**bastion, **more) as connection:
        connection.sftp_write_data(data[: 1 << 20], "more")
        assert connection.sftp_read("more", encoding=None) == data[: 1 << 20]
print("compression, ChaCha20: as they should be")

async def in_loop():
    from hussh.aio import AsyncConnection
    async with AsyncConnection(**target, timeout=120) as connection:
        assert (await connection.execute("printf hello")).stdout == "hello"

for kind in ("asyncio", "trio"):
    try:
        loop = importlib.import_module(kind)
        import hussh.aio
    except ImportError as error:
        print(f"{kind} was not tried: {error}")  # a small interpreter may lack ssl or ctypes
    else:
        loop.run(in_loop() if kind == "asyncio" else in_loop)
        print(f"{kind}: as it should be")
"""


def main(folder: Path, python: list[str]) -> int:
    """Start the servers, run the program, return its exit status."""
    from hussh.testing import Bastion

    with tempfile.TemporaryDirectory(prefix="hussh-trial-") as name:
        scratch = Path(name)
        for wheel in folder.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(scratch / "packages")
        with Bastion(scratch / "servers") as bastion:
            options = json.dumps([bastion.options(), bastion.target.options()])
            environment = {**os.environ, "PYTHONPATH": str(scratch / "packages")}
            command = [*python, "-B", "-W", "error", "-c", PROGRAM, options]
            return subprocess.run(command, cwd=scratch, env=environment).returncode


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
