"""The client process of ``scripts/chaos``: does rounds as it is told, and judges its answers.

Reads one JSON line for each round on stdin, says ``{"begun": true}`` when the works begin, and
answers with one line of outcomes and findings. What Python or an event loop complains about (a
thread that died, an exception nobody saw) is a finding, too.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from tests.conformance.apis import APIS, Api, Session, SyncApi
from tests.conformance.awaited import Awaited
from tests.support.limits import spare_descriptors

from .census import Census
from .chaos_calls import LEFT_BEHIND, Calls, Control, Stop
from .chaos_storms import cancelled_storm, forks, interrupts, memory_limit, signals
from .chaos_works import FULL, WORKS, Work

Answer = dict[str, Any]
_APIS: dict[str, Api] = {api.name: api for api in APIS}


class Client:
    """One process's rounds."""

    def __init__(self, say: Callable[[Answer], None]) -> None:
        self._say = say
        self._census = Census(lambda: [])
        self._complaints: list[str] = []
        self._may_complain = False
        sys.unraisablehook = lambda seen: self._complain(f"{seen.exc_value!r} in {seen.object!r}")
        threading.excepthook = lambda seen: self._complain(f"{seen.exc_value!r} in {seen.thread!r}")
        handler = logging.Handler(logging.WARNING)
        handler.emit = self._logged  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)

    def round(self, orders: Answer) -> Answer:
        """Do one round; return its outcomes and findings."""
        plan = orders["plan"]
        kinds = {fault["kind"]: fault for fault in plan["faults"]}
        self._complaints.clear()
        # Where a descriptor or memory is missing, Python's own machinery complains as well.
        self._may_complain = bool({"descriptors", "memory", "interrupt"} & kinds.keys())
        allowed: tuple[type[BaseException], ...] = ()
        if "memory" in kinds:
            allowed = (MemoryError,)
        api = _APIS[plan["api"]]
        with Control() as control, tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            calls = Calls(plan["limit"], control, benign=plan["benign"], allowed=allowed)
            one = _Round(api, orders, calls, Path(folder), kinds)
            self._say({"begun": True})
            try:
                one.run()
            except BaseException as error:
                calls.findings.append(f"the round: {error!r}")
                calls.findings.append(_told(error))
            del one
        left = [f"{LEFT_BEHIND}{line}" for line in self._census.settle()]
        left += _stacks() if any("thread:" in line for line in left) else []
        return {
            "counts": calls.counts,
            "findings": [*calls.findings, *left, *self._complaints],
            "worst": calls.worst,
        }

    def _logged(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("hussh"):
            self._complain(f"{record.name} says {record.getMessage()[:2000]}")

    def _complain(self, text: str) -> None:
        if not self._may_complain:
            self._complaints.append(f"complaint: {text}")


class _Round:
    """One round in the making."""

    def __init__(
        self, api: Api, orders: Answer, calls: Calls, folder: Path, kinds: dict[str, Any]
    ) -> None:
        self.api, self.orders, self.calls, self.folder, self.kinds = (
            api, orders, calls, folder, kinds,
        )  # fmt: skip
        self.plan = orders["plan"]
        self.dice = random.Random(orders["dice"])
        self.open: Any = None  # the connection, for the child of a fork
        # Made before any limit holds.
        self.data = [
            random.Random(f"{orders['dice']}/{at}").randbytes(self.plan["size"])
            for at in range(len(self.plan["works"]))
        ]

    def run(self) -> None:
        """Do it, under what this process suffers from."""
        with ExitStack() as stack:
            if "signals" in self.kinds:
                stack.enter_context(signals(0.001 + self.kinds["signals"]["number"] % 5 / 1000))
            if "fork" in self.kinds:
                stack.enter_context(forks(self.calls, lambda: self.open, 5))
            if self._needs_main_thread():
                self._interrupted()
            elif isinstance(self.api, SyncApi):
                self.api.run(self._main)
            else:
                anyio.run(self._main, backend=self.api.name)

    def _needs_main_thread(self) -> bool:
        storm = {"cancel", "interrupt"} & self.kinds.keys()
        return bool(storm) and isinstance(self.api, SyncApi)

    def _interrupted(self) -> None:
        """Ctrl-C at many moments: each ends one call, and the next round of works is whole."""
        interrupts(self.calls, self.dice, lambda: self.api.run(self._main))

    async def _main(self) -> None:
        with ExitStack() as limits:
            if "descriptors" in self.kinds:
                limits.enter_context(spare_descriptors(self.kinds["descriptors"]["number"] % 14))
            if "memory" in self.kinds:
                limits.enter_context(memory_limit(1 + self.kinds["memory"]["number"] % 48))
            with suppress(Stop):
                await self._use()

    async def _use(self) -> None:
        async with AsyncExitStack() as stack:
            session = await self._connect(stack)
            self.open = session.real
            names = self.plan["works"]
            jobs = [WORKS[name] for name in names] if "disk" not in self.kinds else [FULL]
            works = [partial(self._work, job, session, at) for at, job in enumerate(jobs)]
            if "cancel" in self.kinds and not isinstance(self.api, SyncApi):
                await cancelled_storm(self.calls, self.dice, works)
            for _ in range(self.plan["repeat"]):
                for outcome in await self._together(works):
                    if isinstance(outcome, BaseException):
                        self.calls.findings.append(f"a work: {outcome!r}\n{_told(outcome)}")
            self.open = None

    async def _together(self, works: Sequence[Callable[[], Any]]) -> Sequence[object]:
        if "memory" not in self.kinds:
            return await self.api.together(*works)
        for work in works:  # one by one: there may be no memory for threads of ours
            with suppress(MemoryError):  # of the work's own
                await work()
        return []

    async def _connect(self, stack: AsyncExitStack) -> Session:
        places = [self.orders["places"][hop] for hop in self.orders["hops"]]
        user = self.orders["user"]
        options: dict[str, Any] = {}
        if self.plan["way"] == "proxy command":
            options["proxy_command"] = "nc %h %p"
        if self.plan["at_once"] and len(places) > 1:
            options["proxy_jump"] = ",".join(f"{user}@{h}:{p}" for h, p in places[:-1])
            places = places[-1:]
        session: Session | None = None
        for host, port in places:
            if session is not None:
                options = {"proxy_jump": session}
            session = await self.calls("connect", partial(self._login, host, port, options))
            stack.push_async_callback(partial(self._close, session))
        assert session is not None
        self.calls.expect("connect", True, None)
        return session

    async def _login(self, host: str, port: int, options: dict[str, Any]) -> Session:
        given = {**self._credentials(), **options}
        return await self.api.connect(host, port, timeout=self.plan["limit"], **given)

    def _credentials(self) -> dict[str, Any]:
        return {
            "username": self.orders["user"],
            "private_key": self.orders["key"],
            "known_hosts": self.orders["known_hosts"],
            "host_key_policy": "strict",
            "agent": False,
        }

    async def _close(self, session: Session) -> None:
        with suppress(Stop):
            await self.calls("close", session.close, 0.0)

    async def _work(self, job: Any, session: Session, at: int) -> None:
        host, port = self.orders["places"][self.orders["hops"][-1]]
        again = {**self._credentials(), "host": host, "port": port}
        work = Work(
            self.api, Awaited(session.real), self.calls, self.data[at], self.folder,
            tuple(self.orders["echo"]), again,
        )  # fmt: skip
        with suppress(Stop):
            await job(work)


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))[-3000:]


def _stacks() -> list[str]:
    """Return where each thread but this one is."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return [
        f"{names.get(number, number)} is in\n" + "".join(traceback.format_stack(frame))[-3000:]
        for number, frame in sys._current_frames().items()
        if number != threading.get_ident()
    ]


def main() -> None:
    """Do rounds until stdin ends."""
    warnings.simplefilter("error")
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe = os.dup(1)  # what anything prints does not come between
    os.dup2(2, 1)

    def say(answer: Answer) -> None:
        os.write(pipe, json.dumps(answer).encode() + b"\n")

    client = Client(say)
    for line in sys.stdin:
        say(client.round(json.loads(line)))


if __name__ == "__main__":
    main()
