"""Talks with sudo until the command runs: answers its prompt, and tells why it refuses.

`_api` and the batches make a `Sudo` for each command, whose `Conversation` `execute` leads.

Theory of operation. sudo gets a random prompt (``-p``). A shell runs the command and first writes a
random mark. What comes before the mark is sudo's, and what comes after it the command's. So hussh
never answers a program, and the command gets its input only when sudo has read its own. A list of
arguments is run without a shell, and so without a mark.

The password is sent at most once: a second prompt means that it was wrong. A PAM module may put its
own prompt in place of that. An unfinished line is taken for one if it asks for a password
and the server, asked twice, has nothing to add. Any other question is an error. A terminal may show
the password where PAM asks for it; that is taken out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from shlex import quote

from .._results.arrival import make_pair
from .._results.ssh_result import SSHResult
from ..errors import (
    HusshError,
    SudoError,
    SudoNeedsTerminal,
    SudoNotPermitted,
    SudoPasswordError,
    printable,
)

__all__ = ["Conversation", "Sudo"]

#: Most bytes that sudo may write before the command runs: lectures are shorter.
TALK_MOST = 1 << 16
#: Most bytes of a line that may be a question.
QUESTION_MOST = 1 << 10
#: Runs in the place of the command: it writes the mark, and becomes the user's command.
SCRIPT = 'printf \'[hussh %s runs]\' "$0" >&2; unset LANGUAGE; exec /bin/sh -c "$1"'
#: An unfinished line that asks for a password, as PAM modules word it.
ASKS = (
    r"(?i)(passw|passphrase|passcode|kennwort|mot de passe|contrase|senha|wachtwoord|lösenord|"
    r"hasło|"
    r"парол|パスワード|密码|密碼|口令|암호|\bpin\b)[^\n]*[:\uff1a?>]\s*\Z"
)
UNFINISHED = r"[^\n]*[:\uff1a?>]\s*\Z"
#: What sudo writes in front of its own messages, which are no questions.
OWN = "sudo:"
#: What is a warning only.
NO_HOST = "unable to resolve host"
WRONG = r"(?i)incorrect password attempt|try again|Authentication fail"
WANTED = r"(?i)a password is required|no password was provided|a terminal is required to read"
FORBIDDEN = (
    r"(?i)is not in the sudoers file|is not allowed to (?:execute|run)|may not run sudo"
    r"|not allowed to set the following|not allowed to preserve"
)
#: How a refusal of sudo's own begins.
SUDOS = r"(?i)(?:sudo|Sorry)\b"
TERMINAL = r"(?i)must have a tty|no tty present"


@dataclass(frozen=True)
class Sudo:
    """How a command is run by sudo.

    Attributes:
        command: for a shell, or the arguments of a program that is run without one.
        user: who runs it.
        password: sudo's answer, with its newline; None means that sudo must not ask.
        variables: names of variables that sudo shall leave to the command.
        has_terminal: whether sudo asks on a terminal.
        may_ask: whether sudo may try PAM without a password, as for a module that asks an agent.
    """

    command: str | Sequence[str]
    user: str
    password: bytes | None = field(repr=False)
    variables: tuple[str, ...] = ()
    has_terminal: bool = False
    may_ask: bool = False
    prompt: str = field(default_factory=lambda: f"[hussh {os.urandom(16).hex()}] ")
    number: str = field(default_factory=lambda: os.urandom(16).hex())

    def make_line(self) -> bytes:
        """Return the command line for the login shell."""
        words = ["env", "LANGUAGE=C", "sudo"]  # so that its messages are those that we know
        if self.password is None and not self.may_ask:
            words.append("-n")
        elif not self.has_terminal:
            words.append("-S")
        words += ["-p", self.prompt, "-u", self.user]
        if self.variables:
            words.append(f"--preserve-env={','.join(self.variables)}")
        words.append("--")
        if isinstance(self.command, str):
            words += ["/bin/sh", "-c", SCRIPT, self.number, self.command]
        else:
            words += self.command
        return " ".join(quote(word) for word in words).encode("utf-8", "surrogateescape")

    def converse(self) -> Conversation:
        """Return the talk of one attempt."""
        return Conversation(self)


class Conversation:
    """The talk with one sudo; a `Dialogue` of `execute`.

    Attributes:
        has_begun: whether the command may get its input.
        has_question: whether an unfinished line may be a question.
    """

    def __init__(self, sudo: Sudo) -> None:
        self.has_mark = isinstance(sudo.command, str)
        self.has_begun = sudo.password is None and not self.has_mark
        self.has_question = False
        self._password = sudo.password
        self._prompt = sudo.prompt.encode()
        self._mark = f"[hussh {sudo.number} runs]".encode()  # nowhere in the command line
        self._stream = 0 if sudo.has_terminal else 1
        self._is_over = False  # nothing more is sudo's
        self._held = b""  # what has come and is not judged yet
        self._sudo_text = b""  # by sudo, for errors
        self._asked = False
        self._answer = b""
        self._echo = b""  # what a terminal may show of the answer, next

    def take(self, stream: int, part: bytes) -> bytes:
        """Take what has come; return the part of it that belongs to the command."""
        if self._is_over:
            return part
        if stream != self._stream:
            return part
        self._held += part
        self.has_question = False
        if self._prompt in self._held:
            sudo_text, _, self._held = self._held.partition(self._prompt)
            if not (self.has_mark and self._mark in sudo_text):
                self._sudo_text += sudo_text
                self._give_password("")
            else:  # a program has got to know the prompt, and gets no answer
                self._held = sudo_text + self._prompt + self._held
        if self._echo and self._held and not self._drop_echo():
            return b""
        if self.has_mark and self._mark in self._held:
            sudo_text, _, rest = self._held.partition(self._mark)
            self._sudo_text += sudo_text
            self._held = b""
            self._is_over = self.has_begun = True
            return rest
        if len(self._held) + len(self._sudo_text) > TALK_MOST and self.has_mark:
            raise SudoError("sudo has written more than 64 KiB, and the command has not begun")
        last = self._get_last_line()
        may_ask = len(last) <= QUESTION_MOST and not last.startswith(OWN)
        self.has_question = may_ask and bool(re.match(UNFINISHED, last))
        if self.has_mark:
            return b""
        return self._judge()

    def _drop_echo(self) -> bool:
        """Drop the answer if the terminal shows it; return False if more must come to tell."""
        if len(self._held) < len(self._echo) and self._echo.startswith(self._held):
            return False
        self._held = self._held.removeprefix(self._echo)
        self._echo = b""
        return True

    def _judge(self) -> bytes:
        """Return what need not be held, if there is no mark: all that may be no prompt."""
        lines, newline, last = self._held.rpartition(b"\n")
        if self.has_question or (last and self._prompt.startswith(last)):
            done, self._held = lines + newline, last
        else:
            done, self._held = self._held, b""
        self._sudo_text += done[: max(0, TALK_MOST - len(self._sudo_text))]
        return done.lstrip(b"\r\n") if self._asked and not self._sudo_text.strip() else done

    def _get_last_line(self) -> str:
        return self._held.decode("utf-8", "replace").rpartition("\n")[2]

    def answer_question(self) -> None:
        """Take what came last for a question of a PAM module."""
        self.has_question = False
        last = self._get_last_line()
        if re.search(ASKS, last):
            self._sudo_text += self._held
            self._held = b""
            self._give_password(last)
        elif self.has_mark:  # else it may be the command's
            raise SudoError(
                f"sudo asks {printable(last)!r}, which is no question for a password: "
                "run it in a shell(), whose expect() can answer it"
            )

    def get_hint(self) -> str:
        """Return what to say of a time-out now."""
        if self.has_begun:
            return ""
        if self.has_mark:
            return "; sudo had not run it"
        return (
            "; sudo had not asked for the password, and until then the input of a program that runs"
            " without a shell does not end: leave password= out, or give the command as one string"
        )

    def _give_password(self, question: str) -> None:
        if self._password is None:
            asks = f" ({printable(question)!r})" if question else ""
            raise SudoPasswordError(f"sudo asks for a password{asks}: give it as password=")
        if self._asked:
            raise self._make_password_error()
        self._asked = True
        self._answer = self._password
        self._echo = self._password.rstrip(b"\n") if self._stream == 0 else b""
        self.has_begun = self.has_begun or not self.has_mark

    @staticmethod
    def _make_password_error() -> HusshError:
        return SudoPasswordError(
            "sudo does not accept the password, which was tried once; or it asks for more than that"
        )

    def take_answer(self) -> bytes:
        """Return what is to be sent now, once; mostly nothing."""
        answer, self._answer = self._answer, b""
        return answer

    def end(self, result: SSHResult) -> SSHResult:
        """Return the result of the command; raise if sudo ended without running it."""
        held, self._held = self._held, b""
        self._sudo_text += held
        sudo_text = self._sudo_text.decode("utf-8", "replace").replace("\r\n", "\n").strip()
        if not self._is_over and (failure := self._explain(sudo_text, result)) is not None:
            raise failure
        if not held:
            return result
        both = [result.stdout_bytes, result.stderr_bytes]
        both[self._stream] += held
        more = result._order + make_pair(self._stream, len(held))
        out, err = both
        return SSHResult(out, err, result.status, result.signal, result.truncated, more)

    def _explain(self, sudo_text: str, result: SSHResult) -> HusshError | None:
        if not self.has_mark and (result.status != 1 or not re.match(SUDOS, sudo_text)):
            return None
        text = printable(sudo_text.replace("\n", " "), 300)
        if re.search(TERMINAL, sudo_text):
            return SudoNeedsTerminal(f"sudo wants a terminal: give pty=True ({text})")
        if re.search(FORBIDDEN, sudo_text):
            return SudoNotPermitted(f"sudo does not permit it: {text}")
        if self._asked and (re.search(WRONG, sudo_text) or re.search(WANTED, sudo_text)):
            return self._make_password_error()
        if re.search(WANTED, sudo_text):
            return SudoPasswordError(f"sudo wants a password: give it as password= ({text})")
        if result.status == 127:
            return SudoError(f"the server has no sudo ({text})")
        last = sudo_text.rpartition("\n")[2]
        if not self.has_mark and (NO_HOST in last or not last.startswith(OWN)):
            return None
        return SudoError(f"sudo did not run the command: {text or f'status {result.status}'}")
