"""`expect` of shells in every API: prompts, questions, pages, and output that is long or cut."""

from __future__ import annotations

import contextlib
import gc
import pickle
import re
from typing import Any

import pytest

from hussh import ChannelError, CommandTimeout, ConnectionLost, ExpectEOF, ExpectTimeout, SSHResult
from hussh._policy.merged_output import MergedOutput
from hussh._protocol.expect import OVERLAP, PORTION, _Search, check_patterns
from hussh._results.arrival import make_pair
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, THREE
from tests.conformance.memory import peak_kib, reset_peak
from tests.support.router import PASSWORD, router

MIB = 1 << 20
PROMPT = "ready> "
#: Asks as passwd does, without an echo, and then for a yes.
QUESTIONS = """
stty -echo
printf 'New password: '; read -r one; printf '\\nRetype new password: '; read -r two
stty echo
[ "$one" = "$two" ] || exit 1
printf '\\nAre you sure (yes/no)? '; read -r sure
[ "$sure" = yes ] && echo "changed to ${#one} characters"
exit 5
"""


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_prompts(client: Client) -> None:
    """A shell with a terminal is led by its prompt, one command after another."""
    async with client.awaited.shell(pty=True) as shell:
        await shell.send_line(f"stty -echo; PS1='{PROMPT.strip()}'' '; echo be''gin")
        await shell.expect("begin\r\n" + PROMPT, timeout=30)
        await shell.send_line("echo one; echo two 17")
        found = await shell.expect(rf"two (?P<number>\d+)\r\n{PROMPT}", timeout=30)
        assert found.before == "one\r\n"
        assert found.after == f"two 17\r\n{PROMPT}"
        assert (found.index, found["number"], found.group(1), found.truncated) == (0, "17", "17", 0)
        await shell.send_line("echo b; echo a")
        found = await shell.expect(["a\r\n", re.compile(rb"[b]\r"), "never"], timeout=30)
        assert (found.index, found.after_bytes, found.groups()) == (1, b"b\r", ())
        found = await shell.expect_exact(PROMPT, timeout=30)
        assert found.before_bytes == b"\na\r\n"
    assert shell.result is not None
    assert shell.result.status == 0


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_questions(client: Client) -> None:
    """A program that asks twice for a password and then for a yes gets its answers."""
    (client.account.files / "asks.sh").write_text(QUESTIONS)
    async with client.awaited.shell(pty=True) as shell:
        await shell.send_line(f"exec sh {client.account.path('asks.sh')}")
        await shell.expect("New password: ", timeout=30)
        await shell.send_line("grün")
        await shell.expect("Retype new password: ", timeout=30)
        await shell.send_line("grün")
        await shell.expect_exact("Are you sure (yes/no)? ", timeout=30)
        await shell.send_line("yes")
        found = await shell.expect(r"changed to (\d) characters", timeout=30)
        assert found[1] in ("4", "5")  # of a shell that counts characters, or bytes
        assert "grün" not in found.before
        with pytest.raises(ExpectEOF, match=r"'never' has not come, and the shell has ended"):
            await shell.expect("never", timeout=30)
    assert shell.result is not None
    assert shell.result.status == 5


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_device_without_exec(client: Client) -> None:
    """A router that has a shell only is asked page by page, with its own passwords."""
    with router() as port:
        session = await client.connect("127.0.0.1", port, username="alice", password=PASSWORD)
        conn = Awaited(session.real)
        with pytest.raises(ChannelError, match="refused to run a command"):
            await conn.execute("show all")
        async with conn.shell(pty=True) as shell:
            await shell.expect("router>", timeout=30)
            await shell.send_line("enable")
            await shell.expect_exact("Password: ", timeout=30)
            await shell.send_line(PASSWORD)
            await shell.expect("router#", timeout=30)
            await shell.send_line("show all")
            text = ""
            while True:
                found = await shell.expect(["--More-- ", "router#"], timeout=30)
                text += found.before
                if found.index == 1:
                    break
                await shell.send(" ", add_newline=False)
            assert re.findall(r"interface number (\d+)\r\n", text) == [str(n) for n in range(25)]
            await shell.send_line("exit")
            with pytest.raises(ExpectEOF) as caught:
                await shell.expect("router#", timeout=30)
            assert caught.value.before == "exit\r\nbye\r\n"
        assert shell.result is not None
        assert shell.result.stdout == "exit\r\nbye\r\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_time_and_end(client: Client) -> None:
    """A time-out and the end are errors that carry what came, which stays for the next call."""
    async with client.awaited.shell() as shell:
        await shell.send_line("echo out")
        await shell.expect("out\n", timeout=30)
        await shell.send_line("echo err >&2")
        with pytest.raises(
            ExpectTimeout, match=r"'never' .and 1 more. has not come within"
        ) as late:
            await shell.expect(["never", b"x"], timeout=1)
        assert isinstance(late.value, CommandTimeout)
        assert (late.value.phase, late.value.before) == ("shell", "err\n")
        assert late.value.result == SSHResult(b"", b"err\n")
        again = pickle.loads(pickle.dumps(late.value))
        assert (str(again), again.before) == (str(late.value), "err\n")
        assert (await shell.expect("r+")).before == "e"
        await shell.send_line("echo last; exit 4")
        with pytest.raises(ExpectEOF, match="the last that came is 'last'") as over:
            await shell.expect("never", timeout=30)
        assert isinstance(over.value, EOFError)
        assert over.value.before == "\nlast\n"
    assert shell.result == SSHResult(b"last\n", b"\n", 4)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_both_streams(client: Client) -> None:
    """Without a terminal both streams count, and what is left is told apart again."""
    async with client.awaited.shell() as shell:
        for word, to in (("one", ""), ("two", ">&2")):
            await shell.send_line(f"echo {word} {to}")
            assert (await shell.expect_exact([f"{word}\n"], timeout=30)).before == ""
        await shell.send_line("printf 'a b' >&2")
        await shell.expect(" ", timeout=30)
        await shell.send_line("echo c; exit 0")
    assert shell.result == SSHResult(b"c\n", b"b", 0)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_what_is_there(client: Client) -> None:
    """`read_available` waits for the first byte as long as it may, and else not at all."""
    async with client.awaited.shell() as shell:
        assert await shell.read_available() == SSHResult(b"", b"", -1)
        assert await shell.read_available(timeout=0.05) == SSHResult(b"", b"", -1)
        await shell.send_line("echo x")
        assert (await shell.read_available(timeout=30)).stdout == "x\n"
        await shell.send_line("echo a b")
        await shell.expect("a", timeout=30)
        assert (await shell.read_available(timeout=30)).stdout == " b\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_much_before(client: Client) -> None:
    """10 MB before the match are kept once, or as far as `max_before` says, in bounded memory."""
    async with client.awaited.shell() as shell:
        await shell.send_line("echo warm")
        await shell.expect("warm\n", timeout=30)
        gc.collect()
        reset_peak()
        base, _ = peak_kib()
        flood = "head -c 10000000 /dev/zero | tr '\\0' x; echo DO''NE"
        await shell.send_line(flood)
        found = await shell.expect(r"DONE\n", timeout=120)
        _, peak = peak_kib()
        assert (len(found.before_bytes), found.truncated) == (10_000_000, False)
        assert (peak - base) * 1024 < 4 * 10_000_000
        del found
        await shell.send_line(flood)
        found = await shell.expect(b"DONE\n", timeout=120, max_before=MIB)
        assert found.truncated
        assert set(found.before_bytes) == {ord("x")}
        assert len(found.before_bytes) <= MIB
        await shell.send_line("echo; echo some words; echo DO''NE")
        found = await shell.expect("DONE\n", timeout=30, max_before=6)
        assert (found.before_bytes, found.truncated) == (b"words\n", True)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_connection_that_ends(client: Client) -> None:
    """What came before a connection was lost is in the error, also of `communicate`."""
    errors: list[Any] = []
    with contextlib.suppress(ConnectionLost):  # the blocks end with it, too
        async with client.awaited.popen("cat") as process, client.awaited.shell() as shell:
            await process.stdin.write(b"one\ntwo\n")
            if client.api.name == "sync":
                process.real.stdin.flush()
            assert await process.stdout.readline() == b"one\n"
            await shell.send_line("echo one")
            await shell.expect("on", timeout=30)
            await shell.send_line("kill -9 $PPID")
            for wait in (shell.expect("never", timeout=30), process.communicate()):
                try:
                    await wait
                except ConnectionLost as error:
                    errors.append(error)
    assert [error.result.stdout for error in errors] == ["e\n", "two\n"]


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_patterns_that_are_none(client: Client) -> None:
    """What is no pattern is refused, and named."""
    async with client.awaited.shell() as shell:
        for wrong, error in (
            (1, TypeError),
            ([], ValueError),
            ("", ValueError),
            ([None], TypeError),
        ):
            with pytest.raises(error, match="pattern"):
                await shell.expect(wrong)
        with pytest.raises(TypeError, match="str or bytes"):
            await shell.expect_exact(re.compile("x"))
        with pytest.raises(ValueError, match="max_before"):
            await shell.expect("x", max_before=-1)


def found_in(parts: list[bytes], pattern: Any) -> tuple[bytes, bytes] | None:
    """Search output that arrives in parts; return what came before the match, and the match."""
    search, data = _Search(check_patterns(pattern)), bytearray()
    for part in parts:
        data += part
        while search.done < len(data):
            found = search.look(data, is_whole=False)
            if found is not None:
                return bytes(data[: found[0]]), bytes(data[found[0] : found[1]])
    return None


@pytest.mark.parametrize("pattern", ["✓ d(.)n€", "✓ d(.)n€".encode(), re.compile("✓ D.N€", re.I)])
def test_cut_anywhere(pattern: Any) -> None:
    """A pattern is found wherever arrivals, or characters of several bytes, were cut."""
    text = b"\xff a\xe2 \xf0\x9f " + "grün ✓ don€ rest".encode()
    for cut in range(len(text)):
        before, match = found_in([text[:cut], text[cut:]], pattern) or (b"", b"")
        assert match.decode() == "✓ don€"
        assert before + match == text[: len(before) + len(match)]
        single = found_in([text[at : at + 1] for at in range(len(text))], pattern)
        assert single == (before, match)


def test_borders_of_portions() -> None:
    """A match across the border of a portion is found, and ^ knows where lines begin."""
    for size in (PORTION - 2, PORTION - 1, PORTION, PORTION + 1, 2 * PORTION - 3):
        data = b"x" * size + b"needle"
        assert found_in([data], "needle") == (b"x" * size, b"needle")
        assert found_in([data, b"\nneedle"], re.compile("^needle", re.M)) == (
            data + b"\n",
            b"needle",
        )
        assert found_in([data], "^needle") is None
    long = b"<" + b"y" * (OVERLAP - 10) + b">"
    assert found_in([b"x" * (PORTION - 100) + long], b"<y+>") == (b"x" * (PORTION - 100), long)


def test_streams_apart_and_together() -> None:
    """What is left of two streams, after some was taken of both together, is told apart again."""
    merged = MergedOutput()
    merged.add(
        bytearray(b"abc"), bytearray(b"123"), make_pair(0, 1) + make_pair(1, 2) + make_pair(0, 2)
    )
    assert merged.take(2) == b"a1"
    assert merged.split_apart()[:2] == (b"bc", b"23")
    merged.add(bytearray(b"d"), bytearray(), make_pair(0, 1))
    assert merged.take(99) == b"2bc3d"
    assert merged.split_apart() == (b"", b"", b"")
