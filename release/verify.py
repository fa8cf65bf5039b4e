"""Looks into finished wheels and a source distribution, and says all that is wrong with them.

Usage: python -m release.verify FOLDER

It asks auditwheel, abi3audit, twine and check-wheel-contents, and checks itself what these do not:
licences, the bill of materials, what the module exports, and that no code with a published
vulnerability is linked in. Nothing is run that was built for another machine.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from release.elf import Symbol, read_symbols
from release.static_libraries import read_lock
from release.targets import TARGETS, Target

__all__ = ["check_wheel", "find_vulnerable", "main"]

MODULE = "hussh/_native/_libssh2.abi3.so"
INIT = "PyInit__libssh2"


def main(folder: Path) -> int:
    """Check what lies in a folder; print each fault; return the exit status."""
    wheels = sorted(folder.glob("*.whl"))
    faults = [] if wheels else [f"{folder} has no wheel"]
    for wheel in wheels:
        faults += [f"{wheel.name}: {fault}" for fault in check_wheel(wheel)]
    for path in sorted(folder.glob("*.tar.gz")):
        faults += [f"{path.name}: {fault}" for fault in _ask("twine", "check", "--strict", path)]
    for fault in faults:
        print(f"verify: {fault}", file=sys.stderr)
    if not faults:
        print(f"verify: {len(wheels)} wheels are as they should be")
    return 1 if faults else 0


def check_wheel(wheel: Path) -> Iterator[str]:
    """Yield all that is wrong with a wheel."""
    target = next((each for each in TARGETS.values() if each.tags[0] in wheel.name), None)
    if target is None:
        yield f"it is for none of {', '.join(TARGETS)}"
        return
    with zipfile.ZipFile(wheel) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    info = next(name.partition("/")[0] for name in content if ".dist-info/" in name)
    yield from _check_texts(content, info)
    shown = [symbol.name for symbol in read_symbols(content[MODULE], dynamic=True)]
    if shown != [INIT]:
        yield f"the module exports {', '.join(shown[:5]) or 'nothing'}, not only {INIT}"
    whole = wheel.parent / f"{info.removesuffix('.dist-info')}-{target.name}.so"
    if whole.is_file():
        symbols = list(read_symbols(whole.read_bytes()))
        yield from find_vulnerable(symbols)
    else:
        yield f"{whole.name} is not beside it, so nobody knows what is linked in"
    yield from _ask("twine", "check", "--strict", wheel)
    yield from _ask("check_wheel_contents", wheel)
    yield from _ask("abi3audit", "--strict", wheel)
    yield from _check_policy(wheel, target)


def _check_texts(content: dict[str, bytes], info: str) -> Iterator[str]:
    lock = read_lock()
    for name in ("", ".libssh2", *(f".{each}" for each in lock)):
        if f"{info}/licenses/LICENSE{name}" not in content:
            yield f"licenses/LICENSE{name} is missing"
    bill = json.loads(content.get(f"{info}/sboms/hussh.cdx.json", b'{"components": []}'))
    named = {each["name"]: each["version"] for each in bill["components"]}
    for name, entry in lock.items():
        if named.get(name) != entry["version"]:
            yield f"the bill of materials does not name {name} {entry['version']}"
    if re.search(rb"/(tmp|home|root)/", content[MODULE]):
        yield "the module has a path of the machine where it was built"


def find_vulnerable(symbols: list[Symbol]) -> Iterator[str]:
    """Yield each published vulnerability whose code is among the symbols of a module."""
    if not any(symbol.name == "EVP_CIPHER_fetch" for symbol in symbols):
        yield "its symbols do not show what is linked in"
    for library, entry in read_lock().items():
        for cve, known in entry["cves"].items():
            prefix = known.get("symbols")
            found = [each.name for each in symbols if prefix and each.name.startswith(prefix)]
            if found:
                yield f"{cve} of {library}: {found[0]} is linked in"


def is_for(said: str, target: Target) -> bool:
    """Tell whether auditwheel found that a wheel keeps to the policy of a target, and to no older.

    Of a wheel for glibc it names the versions of symbols that demand this policy; musl has none.
    """
    return f'the following platform tag: "{target.policy}"' in said


def _check_policy(wheel: Path, target: Target) -> Iterator[str]:
    done = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", wheel],
        capture_output=True, text=True,
    )  # fmt: skip
    said = " ".join(done.stdout.split())
    if done.returncode or not is_for(said, target):
        yield f"auditwheel: {said or done.stderr.strip()}"


def _ask(module: str, *arguments: str | Path) -> Iterator[str]:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True
    )
    if done.returncode:
        yield f"{module}: {' '.join((done.stdout + done.stderr).split())}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "dist")))
