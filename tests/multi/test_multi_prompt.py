"""A prompt= callback that ends the program while many hosts are worked on."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest

from hussh import PromptRequest
from hussh.aio import AsyncConnection
from hussh.multi_conn import AsyncMultiConnection
from tests.multi.conftest import HOSTS, MINE, Multi, runs
from tests.support.sshd import Sshd

#: One host finishes while another one's command runs, and the third asks.
COMMANDS = {HOSTS[0]: "true", HOSTS[1]: runs(f"sleep 66.{MINE}"), HOSTS[2]: f"exec sleep 66.{MINE}"}
KINDS = pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
GONE = f"while pgrep -f '^sleep 66.{MINE}' >/dev/null; do sleep 0.02; done; echo gone"


class Asked:
    """Answers with the password, but first, when the other hosts are busy, raises."""

    def __init__(self, kind: type[BaseException], password: str) -> None:
        self.busy = threading.Event()
        self._errors = [kind("from the prompt")]
        self._password = password

    def note(self, host: str, result: object) -> None:
        self.busy.set()

    def hosts(self, prompt: Any) -> list[Any]:
        asking = {"host": HOSTS[0], "key_path": None, "agent": False, "prompt": prompt}
        return [asking, *HOSTS[1:3]]

    def in_a_thread(self, request: PromptRequest) -> list[str]:
        assert self.busy.wait(20)
        return self._answer()

    async def in_the_loop(self, request: PromptRequest) -> list[str]:
        with anyio.fail_after(20):
            while not self.busy.is_set():
                await anyio.sleep(0.005)
        return self._answer()

    def _answer(self) -> list[str]:
        if self._errors:
            raise self._errors.pop()
        return [self._password]


@KINDS
@pytest.mark.parametrize("where", ["in_a_thread", "in_the_loop"])
def test_the_caller_sees_it(
    multi: Multi, many: Sshd, kind: type[BaseException], where: str
) -> None:
    """What it raises comes out of the call, other hosts' commands stop, and all stays usable."""
    asked = Asked(kind, many.alice.password)
    connection = multi(asked.hosts(getattr(asked, where)))
    with pytest.raises(kind, match="from the prompt"):
        connection.execute_map(COMMANDS, on_result=asked.note)
    assert connection.execute(GONE, timeout=20)[HOSTS[1]].stdout == "gone\n"
    result = connection.execute("echo a")
    connection.close()
    assert [one.stdout for one in result.values()] == ["a\n"] * 3


@KINDS
async def test_the_task_sees_it(
    loop: str, multi: Multi, many: Sshd, kind: type[BaseException]
) -> None:
    """The same for the async twin: it comes out of the await, and not into the user's loop."""
    asked = Asked(kind, many.alice.password)
    twin = AsyncMultiConnection(multi(asked.hosts(asked.in_a_thread))._group, False)
    with pytest.raises(kind, match="from the prompt"):
        await twin.execute_map(COMMANDS, on_result=asked.note)
    assert (await twin.execute(GONE, timeout=20))[HOSTS[1]].stdout == "gone\n"
    result = await twin.execute("echo a")
    await twin.close()
    assert [one.stdout for one in result.values()] == ["a\n"] * 3


def test_of_a_shared_bastion(multi: Multi, bastion: Sshd) -> None:
    """It is asked once for all that wait for the bastion, whose next login asks again."""
    asked = Asked(SystemExit, bastion.alice.password)
    asked.busy.set()
    count = 0

    def prompt(request: PromptRequest) -> list[str]:
        nonlocal count
        count += 1
        return asked.in_a_thread(request)

    jump = AsyncConnection(
        bastion.host, bastion.alice.name, port=bastion.port, prompt=prompt, agent=False
    )
    connection = multi(3, proxy_jump=jump)
    with pytest.raises(SystemExit, match="from the prompt"):
        connection.connect()
    assert count == 1
    result = connection.execute("echo a")
    connection.close()
    assert [one.stdout for one in result.values()] == ["a\n"] * 3
    assert count == 2
