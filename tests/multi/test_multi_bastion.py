"""One bastion under several MultiConnections: which loop, which failures, what is left of them."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh._multi import loop_placement
from hussh._multi.batch import Batch, drain
from hussh._runtime.background_loops import Loops, LoopThread
from hussh.aio import AsyncConnection
from hussh.errors import ConnectError, ConnectionClosed
from hussh.multi_conn import MultiConnection
from tests.multi.conftest import HOSTS, Multi
from tests.sharing.helpers import descriptors
from tests.support.listeners import MuteListener
from tests.support.relay import Relay
from tests.support.sshd import Sshd


def way_over(server: Sshd | Relay, alice: Any, **options: Any) -> AsyncConnection:
    """Return a bastion that nobody has connected."""
    options.setdefault("timeout", 60)
    return AsyncConnection(
        server.host, alice.name, key_path=alice.key.path, port=server.port, **options
    )


def test_two_threads_choose_one_loop(multi: Multi, bastion: Sshd) -> None:
    """Batches that begin at the same time share the bastion, and do not get in each other's way."""
    for _ in range(3):
        way = way_over(bastion, bastion.alice)
        both = [multi(2, proxy_jump=way) for _ in range(2)]
        ready = threading.Barrier(2)
        failed: list[object] = []

        def connect(one: MultiConnection) -> None:
            ready.wait()  # noqa: B023  (joined within the round)
            failed.append(one.connect().failed)  # noqa: B023

        threads = [threading.Thread(target=connect, args=(one,)) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for one in both:
            one.close()
        assert failed == [None, None]


def test_failures_end_with_their_batch(multi: Multi, bastion: Sshd, many: Sshd) -> None:
    """A bastion that is there again is dialled again: by its own user, and by any batch."""
    way = way_over(bastion, bastion.alice)
    right = way._shared._hops
    wrong = AsyncConnection(bastion.host, "alice", "wrong", port=bastion.port, agent=False)
    way._shared._hops = wrong._shared._hops
    alone = AsyncConnection(
        HOSTS[0], "alice", key_path=many.alice.key.path, port=many.port, proxy_jump=way, timeout=60
    )
    one, other = MultiConnection([alone]), multi(1, proxy_jump=way)
    assert one.connect().failed is not None
    assert other.connect().failed is not None
    way._shared._hops = right
    assert one.execute("true").failed is not None, "remembered until connect()"
    assert one.connect().failed is None
    assert other.connect().failed is None
    other.close()
    one.close()

    async def by_itself() -> None:
        async with alone:
            assert (await alone.execute("echo a")).stdout == "a\n"

    asyncio.run(by_itself())


def test_either_reconnects_a_lost_bastion(multi: Multi, bastion: Sshd) -> None:
    """After the bastion's end `connect` of one batch makes a new login, which the other uses."""
    way = way_over(bastion, bastion.alice)
    with multi(2, proxy_jump=way) as one, multi(2, proxy_jump=way) as other:
        bastion.kill_sessions()
        assert other.execute("true").succeeded is None
        assert one.execute("true").succeeded is None
        assert one.connect().failed is None
        assert one.execute("true").failed is None
        assert other.connect().failed is None
        assert other.execute("true").failed is None


def test_close_while_connecting(multi: Multi, bastion: Sshd, mute_listener: MuteListener) -> None:
    """What another thread connects ends with `close`, though the loop is another batch's."""
    way = way_over(bastion, bastion.alice)
    silent = AsyncConnection(
        mute_listener.host, "alice", "secret", port=mute_listener.port, proxy_jump=way
    )
    results: list[Any] = []
    with multi(1, proxy_jump=way) as holder:
        closed = MultiConnection([silent])
        thread = threading.Thread(target=lambda: results.append(closed.execute("true")))
        thread.start()
        with mute_listener.accept():
            closed.close()
            thread.join()
        assert isinstance(results[0].values()[0].error, ConnectionClosed)
        assert not silent._shared.is_open
        assert holder.execute("true").failed is None
    assert not way._shared.is_open


def test_a_dead_bastion_costs_nothing(
    multi: Multi, bastion: Sshd, relay_factory: Callable[..., Relay]
) -> None:
    """A connection that keepalives found dead is not polled any more, whatever arrives there."""

    async def main() -> None:
        relay = relay_factory(bastion)
        way = way_over(relay, bastion.alice, keepalive_interval=0.1)
        async with way:
            await way.execute("true")
            relay.freeze()
            session: Any = way._shared.session
            with anyio.fail_after(30):
                while not session.link.dead:
                    await anyio.sleep(0.01)
                relay.drop()
                while session.driver._polls:
                    await anyio.sleep(0.01)

    asyncio.run(main())


def test_one_that_begins_while_another_ends(
    multi: Multi, bastion: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that wants a bastion whose loop another one is just ending gets its own in time."""
    way = way_over(bastion, bastion.alice)
    ending, waiting = threading.Event(), threading.Event()
    close, wait = Loops.close, loop_placement._Ending.wait

    def slow_close(loops: Loops, seconds: float | None = None) -> None:
        loops.stop()
        ending.set()
        waiting.wait(20)
        close(loops, seconds)

    def noted_wait(one: loop_placement._Ending) -> None:
        waiting.set()
        wait(one)

    first, second = multi(1, proxy_jump=way), multi(1, proxy_jump=way)
    assert first.connect().failed is None
    with monkeypatch.context() as patched:
        patched.setattr(Loops, "close", slow_close)
        closer = threading.Thread(target=first.close)
        closer.start()
        assert ending.wait(20)
        patched.setattr(Loops, "close", close)
        patched.setattr(loop_placement._Ending, "wait", noted_wait)
        assert second.connect().failed is None
        closer.join()
    assert waiting.is_set()
    assert second.execute("true").failed is None
    second.close()


def test_cleaning_up_is_not_cancelled(many: Sshd) -> None:
    """A worker that is stopped is cancelled once: its shielded clean-up gets through."""
    for way in ("loops", "batch"):
        done: list[str] = []
        begun = threading.Event()
        loops = Loops(1)

        async def do(_: int, done: list[str] = done, begun: threading.Event = begun) -> None:
            try:
                begun.set()
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    for _ in range(10):
                        await anyio.sleep(0)
                    done.append("cleaned")

        over = threading.Event()
        batch = Batch(do, [(loops.threads[0], 1)], 1, over.set)
        batch.start()
        begun.wait()
        (loops if way == "loops" else batch).stop()
        while not batch.over:
            over.wait()
        loops.close()
        assert done == ["cleaned"]


def test_a_finalizer_in_the_loop_stops_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dropped generator may be collected where its own batch delivers, and blocks nobody."""
    loops = Loops(1)
    deliver = Batch.deliver
    dropped: list[Any] = []

    async def do(item: int) -> int:
        await anyio.sleep(0)
        return item

    def collecting(batch: Batch[Any, Any], *arguments: Any) -> None:
        deliver(batch, *arguments)
        with batch._lock:
            dropped.clear()

    items = [(loops.threads[0], number) for number in range(50)]
    results = drain(do, items, 5)
    next(results)
    monkeypatch.setattr(Batch, "deliver", collecting)
    dropped.append(results)
    del results
    loops.stop()
    loops.close()
    assert not loops.threads[0]._thread.is_alive()


def test_loops_are_forgotten(multi: Multi) -> None:
    """Of a batch that has ended neither thread nor loop stays in memory."""

    def threads() -> int:
        gc.collect()
        return sum(isinstance(one, LoopThread) for one in gc.get_objects())

    before, others = threads(), set(threading.enumerate())
    for _ in range(3):
        with multi(1) as connected:
            connected.execute("true")
    del connected
    new = set(threading.enumerate()) - others
    while new:
        new.pop().join()  # one that read a file for a loop knows it until its last instruction
    assert threads() == before


@pytest.mark.filterwarnings("ignore:unclosed AsyncConnection:ResourceWarning")
def test_dropped_before_its_loop_is_closed(many: Sshd) -> None:
    """A connection that is dropped while its loop rests leaves no descriptor."""
    before = descriptors()
    loop = asyncio.new_event_loop()
    connection = way_over(many, many.alice)
    loop.run_until_complete(connection.connect())
    loop.run_until_complete(connection.execute("true"))
    del connection
    loop.close()
    gc.collect()
    assert descriptors() == before


def test_one_connection_twice(many: Sshd, tmp_path: Path) -> None:
    """Each of its results has an error of its own, and only one writes to a path."""
    connection = way_over(many, many.alice)
    place = tmp_path / "copy"
    with MultiConnection([connection, connection]) as both:
        failed = both.sftp_read("/nonexistent", place).values()
        assert not [one for one in failed if "KeyError" in one.stderr]
        both.sftp_write_data("text", "note")
        statuses = sorted(one.status for one in both.sftp_read("note", place).values())
    assert statuses == [-1, 0]
    assert place.read_text() == "text"


def test_open_elsewhere_is_an_error_of_ours(multi: Multi, bastion: Sshd) -> None:
    """A bastion that is open in a task's loop: a ConnectError, which says what to do."""

    async def main() -> None:
        async with way_over(bastion, bastion.alice) as way:
            with pytest.raises(ConnectError, match="another event loop"):
                multi(1, proxy_jump=way).connect()

    asyncio.run(main())
