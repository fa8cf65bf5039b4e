"""Output and input of commands: every byte, in any amount, in bounded memory."""

from __future__ import annotations

import gc
import hashlib
import os
import random

import pytest

from hussh.errors import ChannelError, OutputLimitExceeded
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, THREE
from tests.conformance.memory import peak_kib, reset_peak

MIB = 1 << 20
LONG = os.environ.get("HUSSH_LONG") == "1"


def noise(size: int, seed: int) -> bytes:
    """Return bytes that look random and are the same in every run."""
    return random.Random(seed).randbytes(size)


@pytest.mark.parametrize("client", FOUR, indirect=True)
@pytest.mark.parametrize("stdin", [None, b"x" * 4096], ids=["no-stdin", "stdin"])
async def test_large_stdout_and_stderr_alternately(client: Client, stdin: bytes | None) -> None:
    """Many MiB on each stream in turns arrive exactly, in less than 2.5 times that memory."""
    count = 64 if LONG else 24 if stdin is None else 12
    out, err = noise(MIB, 1), noise(MIB, 2)
    (client.account.files / "out").write_bytes(out)
    (client.account.files / "err").write_bytes(err)
    one = f"cat {client.account.path('out')}; cat {client.account.path('err')} >&2"
    read = "cat >/dev/null; " if stdin else ""
    command = f"{read}i=0; while [ $i -lt {count} ]; do {one}; i=$((i+1)); done"
    await client.execute("true")
    gc.collect()
    reset_peak()
    before, _ = peak_kib()
    result = await client.execute(command, input=stdin)
    _, peak = peak_kib()
    assert result.status == 0
    assert len(result.stdout_bytes) == len(result.stderr_bytes) == count * MIB
    assert result.stdout_bytes == out * count
    assert result.stderr_bytes == err * count
    # Small amounts are dominated by buffers that do not grow with the output.
    assert (peak - before) * 1024 < 2.5 * 2 * count * MIB + 16 * MIB


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_random_bytes_round_trip(client: Client) -> None:
    """Binary input comes back from `cat` byte for byte."""
    data = os.urandom(3 * MIB + 17)
    assert (await client.execute("cat", input=data)).stdout_bytes == data


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_sizes_around_packets_and_windows(client: Client) -> None:
    """Input and output of sizes at the edges of packets and windows are whole."""
    for size in (0, 1, 32767, 32768, 32769, 65536, 2 * MIB, 2 * MIB + 1):
        data = noise(size, size)
        result = await client.execute("cat; echo end >&2", input=data)
        assert result.stdout_bytes == data
        assert result.stderr == "end\n"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_huge_input_is_read_in_full(client: Client) -> None:
    """64 MiB of input arrive exactly: the command's checksum of them is right."""
    data = noise(MIB, 3) * 64
    result = await client.execute("sha256sum", input=data)
    assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_huge_input_that_nobody_reads(client: Client) -> None:
    """A command that ends without reading its 64 MiB of input returns, with its status."""
    result = await client.execute("exit 3", input=bytes(64 * MIB), timeout=60)
    assert result.status == 3


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_input_that_is_read_in_part(client: Client) -> None:
    """A command may stop reading in the middle of its input and still be heard."""
    result = await client.execute("head -c 5; echo; echo done", input=b"hello" * MIB, timeout=60)
    assert result.stdout == "hello\ndone\n"


async def test_input_may_be_text(client: Client) -> None:
    """A str as input travels as UTF-8."""
    assert (await client.execute("cat", input="grün €\n")).stdout_bytes == "grün €\n".encode()


async def test_no_input_is_an_empty_stdin(client: Client) -> None:
    """Without input a command reads end-of-file at once instead of waiting."""
    assert (await client.execute("cat; echo done", timeout=60)).stdout == "done\n"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_characters_split_over_packets(client: Client) -> None:
    """A multibyte character whose bytes travel in different packets decodes as one."""
    text = "€" * 400_000  # 3 bytes each: packet and read sizes are no multiples of 3
    result = await client.execute("cat", input=text)
    assert result.stdout == text


async def test_a_character_written_in_pieces(client: Client) -> None:
    """A character whose bytes are written one at a time decodes as one."""
    result = await client.execute(
        r"printf '\342'; sleep 0.02; printf '\202'; sleep 0.02; printf '\254'"
    )
    assert result.stdout == "€"


async def test_invalid_utf8(client: Client) -> None:
    """What is not UTF-8 is replaced in the str and exact in the bytes."""
    result = await client.execute(r"printf 'a\377b'; printf '\303' >&2")
    assert (result.stdout, result.stdout_bytes) == ("a\ufffdb", b"a\xffb")
    assert (result.stderr, result.stderr_bytes) == ("\ufffd", b"\xc3")


async def test_output_up_to_the_limit_is_no_error(client: Client) -> None:
    """Exactly `max_output` bytes on both streams together are allowed."""
    result = await client.execute("printf 12345; printf 67890 >&2", max_output=10)
    assert result.stdout + result.stderr == "1234567890"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_impossible_limits(client: Client) -> None:
    """A `max_output` that is no number of bytes is refused, and named."""
    for wrong, kind in ((-1, ValueError), (2.5, TypeError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(kind, match="max_output"):
            await client.awaited.execute("echo ran", max_output=wrong)


async def test_too_much_output(client: Client) -> None:
    """One byte beyond `max_output` is an error with the output so far; the command is killed."""
    with pytest.raises(OutputLimitExceeded) as caught:
        await client.execute("echo begin; exec yes", max_output=100_000, timeout=60)
    result = caught.value.result
    assert len(result.stdout_bytes) + len(result.stderr_bytes) == 100_000
    assert result.stdout.startswith("begin\ny\n")
    assert (result.status, caught.value.phase) == (-1, "exec")
    assert caught.value.hop == f"{client.account.name}@{client.server.host}:{client.server.port}"
    assert (await client.execute("echo still here")).stdout == "still here\n"


async def test_a_long_command_line(client: Client) -> None:
    """A command of 32,000 bytes reaches the shell whole."""
    word = "x" * 32_000
    result = await client.execute(f"echo {word}; echo two >&2")
    assert result.stdout == word + "\n"
    assert result.stderr == "two\n"


async def test_a_command_line_longer_than_a_packet_of_data(client: Client) -> None:
    """A command of 130,000 bytes reaches the shell whole; Linux takes no longer argument."""
    word = "x" * 130_000
    assert (await client.execute(f"echo {word}")).stdout == word + "\n"


async def test_the_longest_command_line(client: Client) -> None:
    """A command that fills the longest packet is sent, and the server says what it thinks of it."""
    result = await client.execute("x" * 262_012)
    assert result.status != 0
    assert (await client.execute("echo still here")).stdout == "still here\n"


async def test_a_command_line_that_is_too_long(client: Client) -> None:
    """A command that no packet of OpenSSH's holds is refused by us, harming nothing."""
    with pytest.raises(ChannelError, match=r"packet of 256 KiB holds 262,016.*input="):
        await client.execute("echo " + "x" * 262_010)
    assert (await client.execute("cat | wc -c", input="x" * 100_000)).stdout.strip() == "100000"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_output_of_many_commands_at_once(client: Client) -> None:
    """Commands that run at the same time on one connection get their own output each."""
    count = 16 if LONG else 8

    async def one(number: int) -> bool:
        data = noise(200_000 + number, number)
        result = await client.execute(f"cat; exit {number}", input=data)
        return result.status == number and result.stdout_bytes == data

    jobs = [lambda number=number: one(number) for number in range(count)]
    assert await client.together(*jobs) == [True] * count


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_failure_is_freed_at_once(client: Client) -> None:
    """What a failed operation had so far is not left to the garbage collector."""

    async def fail() -> None:
        with pytest.raises(OutputLimitExceeded):
            await client.execute("head -c 100000 /dev/zero", max_output=1000)
        with pytest.raises(TimeoutError):
            await client.execute("echo; sleep 10", timeout=0.02)
        with pytest.raises(FileNotFoundError):
            await client.awaited.sftp_read("there-is-none")

    await fail()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            await fail()
        assert gc.collect() < 5
    finally:
        gc.enable()
