"""docs/servers.md: the matrix of servers and checks, and the reasons behind its cells.

`zoo.__main__` fills in the cells; this module only writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WORKS, NONE, FAULT, FAILED, ABSENT = "works", "none", "fault", "FAILED", "not here"

_HEAD = """# hussh and other SSH servers

`scripts/zoo` writes this page. It starts each server on loopback, with separate keys and accounts,
and tries every row on it. OpenSSH, dropbear, tinyssh, lshd and ProFTPD run as their packages have
them. The others are libraries with a small program around them (`zoo/programs`).

**works** means that it works as with OpenSSH. **none** means that the server does not offer it.
**fault** means that the server does something that no client can correct; the reason and evidence
are below the table.
"""


@dataclass(frozen=True)
class Cell:
    """What one check found at one server: one of the words above, and why where it is not WORKS."""

    word: str
    why: str = ""


def page(
    versions: Mapping[str, str], rows: Sequence[str], cells: Mapping[tuple[str, str], Cell]
) -> str:
    """Return the page.

    Args:
        versions: server's name -> what it calls itself, in the order of the columns.
        rows: the checks in their order.
        cells: (server, check) -> what was found; a missing one is ABSENT.
    """
    lines = [_HEAD, "| | " + " | ".join(versions) + " |", "|---" * (len(versions) + 1) + "|"]
    for row in rows:
        words = [cells.get((server, row), Cell(ABSENT)).word for server in versions]
        lines.append(f"| {row} | " + " | ".join(words) + " |")
    lines += ["", "## The servers", ""]
    lines += [f"- {server}: {version}" for server, version in versions.items()]
    for word, title in (
        (FAULT, "Faults of servers"),
        (NONE, "What servers do not offer"),
        (FAILED, "Failures of hussh"),
    ):
        reasons: dict[tuple[str, str], list[str]] = {}
        for server in versions:
            for row in rows:
                cell = cells.get((server, row), Cell(ABSENT))
                if cell.word == word:
                    reasons.setdefault((server, cell.why), []).append(row)
        if reasons:
            lines += ["", f"## {title}", ""]
            lines += [
                f"- {server}, {', '.join(found)}: {why}" for (server, why), found in reasons.items()
            ]
    return "\n".join(lines) + "\n"
