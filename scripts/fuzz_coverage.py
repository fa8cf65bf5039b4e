"""Measures what the inputs of the fuzzers reach: lines of csrc/, functions of libssh2.

Of libssh2 only those functions count that the linker leaves in the module that users get.
scripts/fuzz-c calls this; it needs llvm-profdata and llvm-cov of clang's version.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from c_builder import TOP, Builder, Failed, fetcher, run

MODE = ("-O0", "-g", "-fsanitize=fuzzer-no-link", "-fprofile-instr-generate", "-fcoverage-mapping")
LINKING = ("-fsanitize=fuzzer", "-fprofile-instr-generate", "-fcoverage-mapping")


def tool(name: str) -> str:
    """Return the path of a tool of LLVM that belongs to this clang."""
    return run("clang", f"-print-prog-name={name}").strip()


def linked_functions() -> set[str]:
    """Return the names of all functions in the built module.  Raises Failed."""
    modules = sorted((TOP / "hussh/_native").glob("_libssh2*.so"))
    if not modules:
        raise Failed("there is no module to compare with: run scripts/build")
    symbols = run("nm", str(modules[0]))
    # GCC names the parts of a function that it has split, or a copy for one caller.
    return {line.split()[2].partition(".")[0] for line in symbols.splitlines()
            if re.match(r"[0-9a-f]+ [tT] ", line)}  # fmt: skip


def export(harness: Path, inputs: list[Path], builder: Builder, folder: Path) -> dict[str, Any]:
    """Run one harness over its inputs; return what llvm-cov says of files and functions."""
    program = builder.program(harness, MODE, LINKING)
    raw, merged = folder / f"{harness.stem}.profraw", folder / f"{harness.stem}.profdata"
    there = [str(path) for path in inputs if path.is_dir()]
    run(str(program), "-runs=0", "-timeout=60", *there, LLVM_PROFILE_FILE=str(raw))
    run(tool("llvm-profdata"), "merge", "-sparse", str(raw), "-o", str(merged))
    command = [tool("llvm-cov"), "export", str(program), f"-instr-profile={merged}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(done.stderr)
    exported: dict[str, Any] = json.loads(done.stdout)["data"][0]
    return exported


def lines_of(segments: list[list[Any]]) -> dict[int, bool]:
    """Return for each line with code whether it was run, from llvm-cov's segments of a file."""
    lines: dict[int, bool] = {}
    for here, after in itertools.pairwise(segments):
        line, _, count, has_count = here[:4]
        if not has_count or here[5]:
            continue
        last = after[0] if after[1] > 1 else after[0] - 1
        for number in range(line, max(line, last) + 1):
            lines[number] = lines.get(number, False) or count > 0
    return lines


def report(inputs: dict[Path, list[Path]], folder: Path) -> str:
    """Return the table of docs/fuzzing.md.

    Args:
        inputs: the folders with inputs, by harness.
        folder: where programs and profiles are put.

    Raises Failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    libssh2 = fetcher().prepare()
    builder = Builder(folder, libssh2, "clang")
    linked = linked_functions()
    lines: dict[str, dict[int, bool]] = {}
    functions: dict[str, dict[str, bool]] = {}
    for harness, folders in inputs.items():
        data = export(harness, folders, builder, folder)
        for file in data["files"]:
            known = lines.setdefault(file["filename"], {})
            for line, hit in lines_of(file["segments"]).items():
                known[line] = known.get(line, False) or hit
        for function in data["functions"]:
            name = function["name"].rpartition(":")[2]
            of = functions.setdefault(function["filenames"][0], {})
            of[name] = of.get(name, False) or function["count"] > 0
    return "\n".join(rows(lines, functions, linked, libssh2))


def rows(
    lines: dict[str, dict[int, bool]],
    functions: dict[str, dict[str, bool]],
    linked: set[str],
    libssh2: Path,
) -> list[str]:
    """Return the rows: our files by lines, those of libssh2 by functions."""
    ours = {
        Path(name).name: list(known.values())
        for name, known in lines.items()
        if Path(name).is_relative_to(TOP / "csrc")
        and Path(name).parent.name not in ("fuzz", "tests")
    }
    theirs = {
        Path(name).name: [hit for key, hit in known.items() if key in linked]
        for name, known in functions.items()
        if Path(name).is_relative_to(libssh2)
    }
    made = ["| file | reached |", "|---|---|"]
    for title, unit, tables in (("csrc", "lines", ours), ("libssh2", "functions", theirs)):
        for name, hits in sorted(tables.items()):
            if hits:
                made.append(f"| {title}: {name} | {share(hits, unit)} |")
        every = [hit for hits in tables.values() for hit in hits]
        made.append(f"| **{title}, all** | **{share(every, unit)}** |")
    return made


def share(hits: list[bool], unit: str) -> str:
    """Return how many were reached, in words."""
    count = sum(hits)
    return f"{count} of {len(hits)} {unit}, {100 * count / max(1, len(hits)):.1f} %"
