"""The kinds of Linux for which wheels are made, and the cross compiler for each.

The compiler is zig's clang from PyPI, which carries the C libraries of all of them.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import NamedTuple

__all__ = ["TARGETS", "Target", "write_toolchain"]


# OpenSSL's perlasm leaves out code for AVX-512 unless this question has such an answer; zig's
# assembler, which is LLVM's, knows more than it asks for. -fno-sanitize: zig cc traps at what
# UBSan finds, which others' C code does on purpose.
_CC = """#!/bin/sh
case "$*" in *-Wa,-v*) echo "GNU assembler version 2.40"; exit 0 ;; esac
exec '{zig}' cc -target {target} -fno-sanitize=undefined "$@"
"""


class Target(NamedTuple):
    """One kind of Linux."""

    name: str
    machine: str
    zig: str
    #: The platform tags of its wheels (PEP 600, PEP 656), and the policy that auditwheel checks.
    tags: tuple[str, ...]
    policy: str
    #: What the C library is called there, where zig's linker calls it something else.
    libc: str = ""

    @property
    def openssl(self) -> str:
        """The name that OpenSSL's Configure has for it."""
        return f"linux-{self.machine}"

    @property
    def wrapper(self) -> str:
        """The text of the program hussh-cc, but for the place of zig."""
        return _CC.replace("{target}", self.zig)


TARGETS = {
    target.name: target
    for machine in ("x86_64", "aarch64")
    for target in (
        Target(
            f"manylinux2014_{machine}",
            machine,
            f"{machine}-linux-gnu.2.17",
            (f"manylinux2014_{machine}", f"manylinux_2_17_{machine}"),
            f"manylinux_2_17_{machine}",
        ),
        Target(
            f"musllinux_1_2_{machine}",
            machine,
            f"{machine}-linux-musl",
            (f"musllinux_1_2_{machine}",),
            f"musllinux_1_2_{machine}",
            f"libc.musl-{machine}.so.1",
        ),
    )
}

_TOOL = "#!/bin/sh\nexec '{zig}' {tool} \"$@\"\n"


def write_toolchain(target: Target, zig: Path, folder: Path) -> None:
    """Write the programs hussh-cc, hussh-ar and hussh-ranlib into a folder for PATH.

    Their names are the same everywhere, because OpenSSL records its compiler in its code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for tool in ("cc", "ar", "ranlib"):
        path = folder / f"hussh-{tool}"
        text = target.wrapper if tool == "cc" else _TOOL
        path.write_text(text.replace("{zig}", str(zig)).replace("{tool}", tool))
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
