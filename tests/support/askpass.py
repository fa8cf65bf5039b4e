"""An SSH_ASKPASS program that answers from a list and notes what it was asked.

For ``tests/support`` and tests that run OpenSSH's own programs. Answers stand in a file readable
by its owner only, and only while the object is open.
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Takes the first line of `answers`; with none left it fails, as if the user had cancelled.
_SCRIPT = """#!/bin/sh
cd {directory} || exit 1
printf '%s\\0' "$1" >> prompts
IFS= read -r answer < answers || exit 1
sed 1d answers > rest && mv rest answers
printf '%s\\n' "$answer"
"""


class Askpass:
    """Use as a context manager; give ``environment`` to the program that asks."""

    def __init__(self, directory: Path, answers: Sequence[str]) -> None:
        """Answer the first question with ``answers[0]`` and so on."""
        self._directory = Path(tempfile.mkdtemp(prefix="askpass-", dir=directory))
        self._program = self._directory / "ask"
        self._program.write_text(_SCRIPT.format(directory=shlex.quote(str(self._directory))))
        self._program.chmod(0o700)
        self._prompts = self._directory / "prompts"
        self._prompts.touch()
        (self._directory / "answers").write_text("".join(f"{answer}\n" for answer in answers))

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make OpenSSH's programs ask this one, never the terminal."""
        return {"SSH_ASKPASS": str(self._program), "SSH_ASKPASS_REQUIRE": "force"}

    @property
    def prompts(self) -> list[str]:
        """The questions so far; one may have several lines."""
        return self._prompts.read_text().split("\0")[:-1]

    def __enter__(self) -> Askpass:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the program and its answers."""
        shutil.rmtree(self._directory)
