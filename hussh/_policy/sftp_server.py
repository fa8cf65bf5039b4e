"""Keeps how many requests and open files one SFTP server allows: stated, learned, and asked for.

A connection has one `ServerLimits` for all of its SFTP sessions. The SFTP machine (`machine.py`)
asks it, and reports to it what the server refuses. Nothing here speaks to a server.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum

from .sftp import FX_FAILURE, FX_NO_SUCH_FILE

__all__ = ["UNBOUNDED", "OpenRefusal", "ServerLimits", "classify_open_refusal"]

#: Requests under way at a server that is not known to bear more; OpenSSH's client has as many.
DEFAULT_REQUESTS = 64
UNBOUNDED = 1 << 32

_TOO_MANY = (
    r"too many (open )?(files?|handles?|descriptors?)|too many open"
    r"|\b(one|single) (open )?(file|handle)|\b(file|handle)s? at a time"
    r"|\b(files?|handles?|descriptors?) limit|limit (of|on|for) (open|file|handle|concurrent)"
    r"|(maximum|max\.?) (number of )?(open|simultaneous|concurrent|file)"
    r"|\b(out of|no (more|free|available|spare)) (file )?(handles?|descriptors?)"
    r"|(another|other) file is (already |still )?open"
    r"|\bEMFILE\b|\bENFILE\b|file table overflow"
)


class OpenRefusal(Enum):
    """What the refusal of an OPEN or OPENDIR says about the files that are open already."""

    NOTHING = 0
    MAYBE_TOO_MANY = 1
    TOO_MANY = 2


def classify_open_refusal(status: int, text: str) -> OpenRefusal:
    """Tell whether a refusal may be about the number of open files.

    Args:
        status: the SSH_FX_* number. OpenSSH's server says FAILURE for EMFILE, as for much else;
            others say PERMISSION_DENIED.
        text: the server's text.
    """
    if status != FX_NO_SUCH_FILE and re.search(_TOO_MANY, text, re.IGNORECASE):
        return OpenRefusal.TOO_MANY
    return OpenRefusal.MAYBE_TOO_MANY if status == FX_FAILURE else OpenRefusal.NOTHING


class ServerLimits:
    """How many requests and open files one server allows.

    Args:
        requests: the user's ceiling for requests under way (`sftp_requests=`), or None.
        open_files: the user's ceiling for open files (`sftp_open_files=`), or None.

    Attributes:
        sshd_is_openssh: whether the SSH banner says OpenSSH; its SFTP server may be another.
        is_openssh: whether the SFTP server is OpenSSH's.
        learned: open files at which the server refused another one; None if it has not.
        gives_handles_twice: whether it gave one handle to two open files. From then on never
            more than one file may be open.
    """

    def __init__(
        self,
        requests: int | None = None,
        open_files: int | None = None,
    ) -> None:
        self.requests = requests
        self.open_files = open_files
        self.sshd_is_openssh = False
        self.is_openssh: bool = False
        self._tells_limits = False
        self.learned: int | None = None
        self.gives_handles_twice = False

    def note_greeting(self, extensions: Mapping[bytes, bytes]) -> None:
        """Learn what the server offers at the beginning of a session."""
        # It has offered this for longer than limits@openssh.com, and hardly anybody else does.
        self.is_openssh = self.sshd_is_openssh and b"fstatvfs@openssh.com" in extensions
        self._tells_limits = b"limits@openssh.com" in extensions

    @property
    def keeps_order(self) -> bool:
        """Whether requests for one file are sure to be executed in the order in which they came.

        draft-ietf-secsh-filexfer-13 section 4.1 demands it, but servers that work with threads or
        callbacks may close a file before they have written to it.
        """
        return self.is_openssh

    @property
    def most_requests(self) -> int:
        """Requests that may be under way at once.

        OpenSSH reads no more than it can work on and leaves the rest in the channel. So with
        OpenSSH only the bytes in flight of each transfer count.
        """
        if self.requests is not None:
            return self.requests
        return UNBOUNDED if self.is_openssh or self._tells_limits else DEFAULT_REQUESTS

    def get_most_open_files(self, stated_limit: int | None) -> int:
        """Return how many files may be open; `stated_limit` is that of limits@openssh.com."""
        if self.gives_handles_twice:
            return 1
        most = UNBOUNDED if stated_limit is None else stated_limit
        if self.open_files is not None and self.open_files < most:
            most = self.open_files
        return most if self.learned is None or most < self.learned else self.learned

    def note_refusal(self, open_files: int) -> None:
        """Learn that the server refused one more file when it had so many open."""
        most = max(1, open_files)
        self.learned = most if self.learned is None else min(self.learned, most)

    def explain_no_more(self, open_files: int) -> str | None:
        """Return why one more file must not even be asked for; None if the server may decide."""
        held = f"{open_files} {'is' if open_files == 1 else 'are'} open already"
        if self.gives_handles_twice:
            return f"{held}, and this server gives the handle of an open file to another one"
        if self.open_files is not None and open_files >= self.open_files:
            return f"{held}, and sftp_open_files={self.open_files} allows no more"
        return None
