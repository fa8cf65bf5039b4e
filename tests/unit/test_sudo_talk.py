"""The talk with sudo, stepped by hand: cut anywhere, and whatever sudo or a program writes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from hussh import (
    SSHResult,
    SudoError,
    SudoNeedsTerminal,
    SudoNotPermitted,
    SudoPasswordError,
)
from hussh._protocol.sudo import Conversation, Sudo

SECRET = b"secret\n"


def talk(
    parts: Iterable[bytes], sudo: Sudo, stream: int = 1
) -> tuple[Conversation, bytes, list[bytes]]:
    """Let parts come; return the talk, what the command got of them, and the answers."""
    conversation, kept, answers = sudo.converse(), b"", []
    for part in parts:
        kept += conversation.take(stream, part)
        answers.append(conversation.take_answer())
    return conversation, kept, [answer for answer in answers if answer]


def mark(sudo: Sudo) -> bytes:
    """Return what shows that the command begins."""
    return f"[hussh {sudo.number} runs]".encode()


def each(text: bytes) -> list[bytes]:
    """Return the bytes of a text one by one."""
    return [text[at : at + 1] for at in range(len(text))]


@pytest.mark.parametrize("stream", [0, 1])
def test_cut_anywhere(stream: int) -> None:
    """Prompt and mark are found wherever they were cut, and the command gets what follows only."""
    sudo = Sudo("id", "root", SECRET, has_terminal=stream == 0)
    text = b"a lecture:\n" + sudo.prompt.encode() + b"\r\n" + mark(sudo) + b"the command's: "
    for parts in ([text], each(text), *([text[:at], text[at:]] for at in range(len(text)))):
        conversation, kept, answers = talk(parts, sudo, stream)
        assert (kept, answers) == (b"the command's: ", [SECRET])
        assert conversation.has_begun
        assert conversation.end(SSHResult(b"x", b"", 1)) == SSHResult(b"x", b"", 1)


def test_a_program_that_knows_the_prompt() -> None:
    """Behind the mark nothing is answered, also if the prompt came in the same part."""
    sudo = Sudo("id", "root", SECRET)
    shown = mark(sudo) + sudo.prompt.encode()
    for parts in ([shown], each(shown), [b"sudo: a warning\n" + shown]):
        _, kept, answers = talk(parts, sudo)
        assert (kept, answers) == (sudo.prompt.encode(), [])


def test_the_mark_is_not_in_the_command_line() -> None:
    """sudo may quote the command line in an error, which must not look like the mark."""
    sudo = Sudo("id", "root", SECRET)
    assert mark(sudo) not in sudo.make_line()
    assert SECRET.strip() not in sudo.make_line()
    assert "secret" not in repr(sudo)


def test_asked_twice() -> None:
    """A second prompt means that the password was wrong, and no other answer is sent."""
    sudo = Sudo("id", "root", SECRET)
    conversation, _, answers = talk([sudo.prompt.encode()], sudo)
    assert answers == [SECRET]
    with pytest.raises(SudoPasswordError, match="was tried once"):
        conversation.take(1, b"\nSorry, try again.\n" + sudo.prompt.encode())
    assert conversation.take_answer() == b""


@pytest.mark.parametrize(
    ("line", "is_asked"),
    [
        (b"LDAP Password: ", True),
        ("Passwort für alice: ".encode(), True),
        ("パスワード:".encode(), True),
        (b"[sudo] password for alice: ", True),
        (b"Verification code: ", False),
        (b"Enter your token> ", False),
    ],
)
def test_prompts_of_pam(line: bytes, is_asked: bool) -> None:
    """An unfinished line that asks for a password is answered once it is known to be whole."""
    conversation, _, answers = talk([b"hello\n", line[:5], line[5:]], Sudo("id", "root", SECRET))
    assert (answers, conversation.has_question) == ([], True)
    if is_asked:
        conversation.answer_question()
        assert conversation.take_answer() == SECRET
        conversation.take(1, line)
        with pytest.raises(SudoPasswordError):
            conversation.answer_question()
    else:
        with pytest.raises(SudoError, match="no question for a password"):
            conversation.answer_question()


def test_what_is_no_question() -> None:
    """A warning of sudo's own, whole lines, and a beginning are no questions."""
    for text in (b"sudo: unable to resolve host x: ", b"Password: \n", b"[hussh", b"Pass"):
        conversation, kept, _ = talk([text], Sudo("id", "root", SECRET))
        assert (conversation.has_question, kept) == (False, b"")


@pytest.mark.parametrize(
    ("said", "status", "error"),
    [
        (b"sudo: a password is required\n", 1, SudoPasswordError),
        (b"sudo: sorry, you must have a tty to run sudo\n", 1, SudoNeedsTerminal),
        (b"bob is not in the sudoers file.\n", 1, SudoNotPermitted),
        (b"Sorry, user a is not allowed to execute '/bin/sh' as root on h.\n", 1, SudoNotPermitted),
        (b"sudo: sorry, you are not allowed to set the following x: A\n", 1, SudoNotPermitted),
        (b"env: 'sudo': No such file or directory\n", 127, SudoError),
        (b"sudo: unknown user x\n", 1, SudoError),
        (b"", -1, SudoError),
    ],
)
def test_refusals(said: bytes, status: int, error: type[SudoError]) -> None:
    """What sudo says when it does not run the command becomes an error of its kind."""
    conversation, _, _ = talk([said], Sudo("id", "root", None))
    with pytest.raises(SudoError) as caught:
        conversation.end(SSHResult(b"", b"", status))
    assert type(caught.value) is error


def test_too_many_words() -> None:
    """A server that writes without an end before the command runs is given up."""
    with pytest.raises(SudoError, match="64 KiB"):
        talk([b"x" * 1000] * 100, Sudo("id", "root", SECRET))


def test_a_list() -> None:
    """Without a shell all that is no prompt goes to the command's stderr, at once, and no more."""
    sudo = Sudo(["id"], "root", SECRET)
    _, kept, answers = talk(each(b"line\n" + sudo.prompt.encode() + b"err"), sudo)
    assert (kept, answers) == (b"line\nerr", [SECRET])
    conversation, kept, _ = talk([b"one\nname: "], Sudo(["id"], "root", None))
    assert (kept, conversation.has_begun) == (b"one\n", True)
    conversation.answer_question()
    done = conversation.end(SSHResult(b"out", b"one\n", 1))
    assert (done.stderr, done.status) == ("one\nname: ", 1)
    conversation, _, _ = talk([b"sudo: a password is required\n"], Sudo(["id"], "root", None))
    with pytest.raises(SudoPasswordError):
        conversation.end(SSHResult(b"", b"", 1))
    for result in (SSHResult(b"", b"", 2), SSHResult(b"", b"", 0)):
        conversation, _, _ = talk([b"sudo: a password is required\n"], Sudo(["id"], "root", None))
        assert conversation.end(result) is result


def test_an_endless_line_is_no_question() -> None:
    """Without a shell a line without an end is handed on, however much it looks like a question."""
    conversation, kept, _ = talk([b":" * 4096] * 8, Sudo(["id"], "root", None))
    assert (len(kept), conversation.has_question) == (8 * 4096, False)


@pytest.mark.parametrize("command", ["id", ["id"]], ids=["shell", "list"])
def test_a_terminal_that_shows_the_password(command: str | list[str]) -> None:
    """A password that the terminal echoes is neither in an error nor in the result."""
    sudo = Sudo(command, "root", SECRET, has_terminal=True)
    refusal = b"\r\nsudo: bob is not in the sudoers file.\r\n"
    text = sudo.prompt.encode() + b"secret" + refusal
    for parts in ([text], each(text)):
        conversation, kept, answers = talk(parts, sudo, stream=0)
        assert answers == [SECRET]
        assert b"secret" not in kept
        with pytest.raises(SudoNotPermitted) as caught:
            conversation.end(SSHResult(kept, b"", 1))
        assert "secret" not in str(caught.value)
    conversation, kept, _ = talk(each(sudo.prompt.encode() + b"secret"), sudo, stream=0)
    assert (kept, conversation.has_question) == (b"", False)


def test_what_is_kept_for_errors_is_bounded() -> None:
    """Without a shell a command's output is not kept, however long sudo's lecture was."""
    sudo = Sudo(["id"], "root", SECRET)
    lecture = b"x" * (1 << 17) + sudo.prompt.encode()
    conversation, kept, _ = talk([lecture, *[b"y" * (1 << 18)] * 8], sudo)
    assert len(kept) == 8 << 18
    assert len(conversation._sudo_text) <= 1 << 17
