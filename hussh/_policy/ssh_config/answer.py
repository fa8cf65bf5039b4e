"""One answer of ``ssh -G``: its values, and what tokens, ``~`` and ``${ENV}`` in them stand for.

`settings.py` makes options of it. ``ssh -G`` leaves some values as they stand in the file, for
instance those of IdentityFile, and expands them later; so does this module. What the tokens stand
for, the answer tells itself, by a ControlPath that has them all. Nothing here starts a program or
reads a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ...errors import ConfigError

__all__ = ["USUAL", "Answer", "Lookup", "Question", "parse_answer"]

#: Tokens of ssh_config(5) that this ssh is asked for; `%%` stands for itself.
_LETTERS = "CdhikLlnpru"
#: No home folder or name contains it; "/hussh/" would be in the home of a user called hussh.
_SEPARATOR = "/:hussh:/"
CONTROL_PATH = _SEPARATOR.join(f"%{letter}" for letter in _LETTERS)
_PART = r"%(.?)|\$\{([^}]*)\}"


class Question(NamedTuple):
    """The host that ssh is asked about; a `username` or `port` is as on its command line."""

    host: str
    username: str | None = None
    port: int | None = None

    def list_arguments(self) -> list[str]:
        """Return what ssh is given besides -G and -F."""
        line = ["-o", f"ControlPath={CONTROL_PATH}"]
        if self.username is not None:
            line += ["-l", self.username]
        if self.port is not None:
            line += ["-p", str(self.port)]
        return [*line, "--", self.host]


#: Asks what ssh says without any configuration.
USUAL = Question("localhost")


class Lookup(NamedTuple):
    """What else is to be read for a hop: a file, or what a program prints.

    Attributes:
        what: the keyword of the configuration, and for which host.
        path: of a file; "" for a program.
        argv: of a program.
    """

    what: str
    path: str = ""
    argv: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What ssh says for one host.

    Attributes:
        question: what was asked.
        values: of each keyword, in lower case, the lines in their order.
        tokens: what the letter of a token stands for.
    """

    question: Question
    values: Mapping[str, tuple[str, ...]]
    tokens: Mapping[str, str] = field(default_factory=dict)

    def get_one(self, keyword: str) -> str:
        """Return the value of a keyword that has one; "" where it is not set."""
        lines = self.values.get(keyword, ())
        return lines[0] if lines else ""

    def get_many(self, keyword: str) -> tuple[str, ...]:
        return self.values.get(keyword, ())

    def split_names(self, keyword: str) -> tuple[str, ...]:
        """Return the items of a list with commas."""
        return tuple([name for name in self.get_one(keyword).split(",") if name])

    def is_yes(self, keyword: str) -> bool:
        return self.get_one(keyword).lower() in ("yes", "true")

    def is_no(self, keyword: str) -> bool:
        return self.get_one(keyword).lower() in ("no", "false")

    def differs(self, keyword: str, usual: Answer) -> bool:
        """Whether it is set to something else than without a configuration."""
        return self.get_many(keyword) != usual.get_many(keyword)

    def split_paths(self, keyword: str) -> tuple[str, ...]:
        """Return the paths of one line, from which ssh has dropped the quotes: see `_rejoin`."""
        return tuple(
            [
                self.expand_tilde(path)
                for path in _rejoin(self.get_one(keyword))
                if not is_none(path)
            ]
        )

    def expand_tilde(self, path: str) -> str:
        """Return the path with the home folder that ssh finds for ``~`` (not by $HOME)."""
        if path == "~" or path.startswith("~/"):
            return self.tokens.get("d", "~") + path[1:]
        return os.path.expanduser(path) if path.startswith("~") else path

    def expand(self, text: str, keyword: str, environ: Mapping[str, str]) -> str:
        """Return the text with ``~``, tokens and ``${ENV}`` replaced, in one pass as ssh does.

        Raises:
            ConfigError: an unknown token, or a variable that is not set.
        """

        def value_of(match: re.Match[str]) -> str:
            letter, variable = match[1], match[2]
            if variable is not None:
                value = environ.get(variable)
                if value is None:
                    raise ConfigError(
                        f"{keyword} for {self.question.host} names the environment variable "
                        f"{variable}, which is not set"
                    )
                return value
            if letter == "%":
                return "%"
            if letter not in self.tokens:
                raise ConfigError(
                    f"{keyword} for {self.question.host} has the token %{letter}, which cannot be "
                    "told before connecting"
                )
            return self.tokens[letter]

        return re.sub(_PART, value_of, self.expand_tilde(text), flags=re.DOTALL)


def is_none(value: str) -> bool:
    """Tell whether it is the word that empties a setting."""
    return value.lower() == "none"


def parse_answer(question: Question, text: str) -> Answer:
    """Parse what ``ssh -G`` has printed.

    Raises:
        ConfigError: it is no configuration. ssh prints no zero byte, which no path can have.
    """
    values: dict[str, list[str]] = {}
    for line in text.split("\n"):
        keyword, _, value = line.strip().partition(" ")
        if keyword:
            values.setdefault(keyword.lower(), []).append(value)
    token_values = values.pop("controlpath", [""])[0].split(_SEPARATOR)
    is_whole = len(token_values) == len(_LETTERS)
    tokens = dict(zip(_LETTERS, token_values, strict=True)) if is_whole else {}
    if not values.get("hostname") or not tokens or "\0" in text:
        raise ConfigError(
            f"ssh -G {question.host} did not print a configuration; config= needs the ssh of "
            "OpenSSH 8.4 or later"
        )
    return Answer(question, {key: tuple(lines) for key, lines in values.items()}, tokens)


def _rejoin(line: str) -> list[str]:
    """Split paths at blanks, but not before what cannot begin one.

    ssh prints a path with a blank in it without quotes.  Where all are absolute, what begins
    neither with a slash nor with a tilde continues the path before it.
    """
    words = line.split(" ")
    if not words[0].startswith(("/", "~")):
        return [word for word in words if word]
    paths: list[str] = []
    for word in words:
        if paths and not word.startswith(("/", "~")):
            paths[-1] += " " + word
        else:
            paths.append(word)
    return paths
