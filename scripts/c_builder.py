"""Compiles the C code and the programs that try it; for scripts/check-c and scripts/fuzz-c.

A program's head comment says what it is linked with, in lines such as::

    build: link.c crypto/aesgcm.c   files of csrc/
    build: libssh2:misc.c           one of libssh2's source files
    build: libssh2                  all those that the library is built from
    build: libssh2:a.c -Dx=y        files with flags of their own: those of the same line;
                                    they take the place of files without

Lines indented by four more blanks continue a line.
Everything is compiled with the library's own flags, except that assertions are on.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from build_ffi import fetcher, flags  # noqa: E402 - needs the path

__all__ = ["TOP", "Builder", "Failed", "Unit", "fetcher", "run"]

WARNINGS = ("-Wall", "-Wextra", "-Werror")
LIBRARIES = ("-lcrypto", "-lz")
TEST_SECONDS = 300.0


class Unit(NamedTuple):
    """One compilation: a source file and the flags that only it gets."""

    source: Path
    extra: tuple[str, ...] = ()


class Failed(Exception):
    """A command failed; the text is what it printed."""


def run(*command: str, **environment: str) -> str:
    """Run a command and return its output, both streams as one."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=TEST_SECONDS,
            env={**os.environ, **environment},
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{command[0]} took longer than {TEST_SECONDS:.0f} s") from error
    if done.returncode:
        raise Failed(f"{' '.join(command)}\n{done.stdout}exit status {done.returncode}")
    return done.stdout


class Builder:
    """Compiles into one folder what is not there yet, known by its content and its flags."""

    def __init__(self, folder: Path, libssh2: Path, compiler: str) -> None:
        """Use ``folder`` for objects and programs."""
        self._compiler = compiler
        settings = flags(libssh2)
        self.libssh2 = libssh2
        self._folder = folder
        self._flags = [flag for flag in settings["extra_compile_args"] if flag != "-DNDEBUG"]
        self._ours = [f"-I{TOP / 'csrc'}", f"-I{TOP / 'csrc/crypto'}"]
        # As system headers: warnings in them are not ours to repair.
        self._theirs = [f"-isystem{libssh2 / 'include'}", f"-isystem{libssh2 / 'src'}"]
        # The version script hides also what a sanitizer puts in the place of the C library's.
        self._linking = [
            flag for flag in settings["extra_link_args"] if "version-script" not in flag
        ]
        self._library = [libssh2 / "src" / name for name in fetcher().SOURCES]
        headers = (TOP / "csrc").rglob("*.h")
        self._headers = b"".join(path.read_bytes() for path in sorted(headers))

    def compile(self, units: list[Unit], mode: tuple[str, ...]) -> list[Path]:
        """Compile what is not yet, at most one compiler per processor; return the objects."""
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(lambda unit: self._compile(unit, mode), units))

    def _compile(self, unit: Unit, mode: tuple[str, ...]) -> Path:
        warnings = WARNINGS if unit.source.is_relative_to(TOP) else ("-w",)
        command = (self._compiler, *self._flags, *mode, *warnings, *self._ours, *self._theirs,
                   *unit.extra, "-c", str(unit.source))  # fmt: skip
        digest = hashlib.sha256(repr(command).encode() + unit.source.read_bytes() + self._headers)
        made = self._folder / f"{unit.source.stem}-{digest.hexdigest()[:20]}.o"
        if not made.exists():
            new = f"{made}.{os.getpid()}"
            run(*command, "-o", new)
            os.replace(new, made)
        return made

    def program(self, test: Path, mode: tuple[str, ...], linking: tuple[str, ...] = ()) -> Path:
        """Build one program; ``mode`` is for the compiler and, without ``linking``, for the linker.

        Raises Failed.
        """
        objects = self.compile(self._units(test), mode)
        made = self._folder / test.stem
        run(self._compiler, *(linking or mode), *self._linking, "-o", str(made),
            *map(str, objects), *LIBRARIES)  # fmt: skip
        return made

    def programs(
        self, tests: list[Path], mode: tuple[str, ...], linking: tuple[str, ...] = ()
    ) -> list[Path]:
        """Build several programs as `program` does, in less time: no processor waits."""
        units = dict.fromkeys(unit for test in tests for unit in self._units(test))
        self.compile(list(units), mode)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            return list(pool.map(lambda test: self.program(test, mode, linking), tests))

    def _units(self, test: Path) -> list[Unit]:
        head = test.read_text().partition("*/")[0]
        units = [Unit(test)]
        for line in re.findall(r"build:(.*(?:\n \*    .*)*)", head):
            words = line.replace("\n *", " ").split()
            extra = tuple(word for word in words if word.startswith("-"))
            for word in words:
                if word == "libssh2":
                    units += [Unit(source, extra) for source in self._library]
                elif word.startswith("libssh2:"):
                    units.append(Unit(self.libssh2 / "src" / word[8:], extra))
                elif not word.startswith("-"):
                    units.append(Unit(TOP / "csrc" / word, extra))
        special = {unit.source for unit in units if unit.extra}
        plain = [unit for unit in units if not unit.extra and unit.source not in special]
        return list(dict.fromkeys([*plain, *(unit for unit in units if unit.extra)]))
