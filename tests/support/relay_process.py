"""The relay's own process: forwards TCP connections and damages them on request.

Run by ``support/relay.py`` as a script, in isolated mode, with nothing but the standard library;
nobody imports it. One thread, one selector. Requests are JSON lines on stdin, each answered by
one line on stdout; end of input ends the process.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections import deque
from typing import Any

_HELD_LIMIT = 16 << 20  # bytes that one direction may hold back before it stops reading


class Lane:
    """One direction of one connection, from ``source`` to ``sink``."""

    def __init__(self, source: socket.socket, sink: socket.socket, plan: dict[str, Any]) -> None:
        """Apply ``plan``, the fields of ``relay.Faults``; ``seconds`` is the delay."""
        self.source, self.sink, self.plan = source, sink, plan
        self.waiting: deque[tuple[float, bytes]] = deque()  # (due, data)
        self.held = 0
        self.taken = 0  # bytes read from source
        self.given = 0  # bytes written to sink
        self.record = bytearray()
        self.source_ended = False
        self.sink_ended = False
        self.chunk = 0

    def feed(self, data: bytes, now: float) -> None:
        """Take data that came from the source."""
        flip = self.plan["flip"]
        if flip is not None and self.taken <= flip[0] < self.taken + len(data):
            damaged = bytearray(data)
            damaged[flip[0] - self.taken] ^= 1 << flip[1]
            data = bytes(damaged)
        taken = len(data)
        again = self.plan["duplicate"]
        if again is not None and self.taken <= again[0] < self.taken + taken:
            first = again[0] - self.taken
            twice = data[first : first + again[1]]
            data = data[: first + len(twice)] + twice + data[first + len(twice) :]
        self.taken += taken
        self.held += len(data)
        self.waiting.append((now + self.plan["seconds"], data))

    def room(self) -> int | None:
        """Return how many more bytes may pass; None for any number."""
        stops = [n for n in (self.plan["cut_after"], self.plan["freeze_after"]) if n is not None]
        return max(0, min(stops) - self.given) if stops else None

    def frozen(self) -> bool:
        """Whether nothing passes any more, for good or until thawed."""
        limit = self.plan["freeze_after"]
        return limit is not None and self.given >= limit

    def due(self) -> float | None:
        """Return when the next bytes may pass, or None if nothing waits."""
        if not self.waiting or self.room() == 0:
            return None
        return self.waiting[0][0]

    def drain(self, now: float) -> None:
        """Write what is due. Raises ``OSError`` if the sink is gone."""
        while self.waiting and self.waiting[0][0] <= now:
            due, data = self.waiting.popleft()
            part = data
            room = self.room()
            if room is not None:
                part = part[:room]
            sizes = self.plan["chunks"]
            if sizes:
                part = part[: sizes[self.chunk % len(sizes)]]
            sent = 0
            if part:
                with contextlib.suppress(BlockingIOError):
                    sent = self.sink.send(part)
            if sent:
                self.chunk += 1
                self.given += sent
                self.held -= sent
                if self.plan["record"]:
                    self.record += data[:sent]
            if sent < len(data):
                self.waiting.appendleft((due, data[sent:]))
            if not sent:
                return

    def blocked(self, now: float) -> bool:
        """Whether bytes are due that the sink would not take."""
        due = self.due()
        return due is not None and due <= now

    def must_cut(self) -> bool:
        """Whether the byte count to cut at is reached."""
        limit = self.plan["cut_after"]
        return limit is not None and self.given >= limit


class Pair:
    """One relayed connection: the accepted socket, the dialled one, two lanes."""

    def __init__(self, client: socket.socket, server: socket.socket, plans: dict[str, Any]) -> None:
        """Relay between the two, which become non-blocking."""
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.client, self.server = client, server
        self.lanes = {
            "to_server": Lane(client, server, plans["to_server"]),
            "to_client": Lane(server, client, plans["to_client"]),
        }
        self.open = True

    def close(self, reset: bool = False) -> None:
        """Close both ends, with RST if ``reset``."""
        self.open = False
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    # Bytes that nobody read would turn the FIN into an RST.
                    end.shutdown(socket.SHUT_WR)
                    while end.recv(1 << 16):
                        pass
            end.close()


class Relay:
    """The loop."""

    def __init__(self, spec: dict[str, Any]) -> None:
        """Listen as ``spec`` says."""
        self.target = (spec["host"], spec["port"])
        self.plans = spec["plans"]
        self.selector = selectors.DefaultSelector()
        family = socket.AF_INET6 if ":" in spec["address"] else socket.AF_INET
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.bind((spec["address"], 0))
        self.listener.listen(512)
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(0, selectors.EVENT_READ)
        self.pairs: list[Pair] = []
        self.refusing = False
        self.requests = b""
        self.pending: list[dict[str, Any]] = []  # requests that wait for bytes
        self.running = True
        self.served = 0.0  # when all pairs were last looked at

    def run(self) -> None:
        """Serve until stdin ends."""
        answer({"port": self.listener.getsockname()[1]})
        while self.running:
            ready = {key.fileobj for key, _ in self.selector.select(self._patience())}
            if 0 in ready:
                self._read_requests()
            if self.listener in ready:
                self._accept()
            now = self.served = time.monotonic()
            for pair in self.pairs:
                if pair.open:
                    self._serve(pair, ready, now)
            self.pending = [request for request in self.pending if not self._reached(request)]

    def _patience(self) -> float | None:
        now = time.monotonic()
        dues = [
            due
            for pair in self.pairs
            if pair.open
            for lane in pair.lanes.values()
            # What was due before waits for its sink, what has become due since for us.
            if (due := lane.due()) is not None and due > self.served
        ]
        return max(0.0, min(dues) - now) if dues else None

    def _accept(self) -> None:
        client = self.listener.accept()[0]
        if self.refusing:
            client.close()
            return
        try:
            server = socket.create_connection(self.target)
        except OSError:
            client.close()
            return
        pair = Pair(client, server, {name: dict(plan) for name, plan in self.plans.items()})
        self.pairs.append(pair)
        self._enlist(pair, time.monotonic())

    def _serve(self, pair: Pair, ready: set[Any], now: float) -> None:
        try:
            for lane in pair.lanes.values():
                if lane.source in ready and not lane.source_ended and self._reads(lane):
                    self._read(lane, now)
                lane.drain(now)
                if lane.must_cut():
                    self._drop(pair, reset=lane.plan["cut_with"] == "reset")
                    return
                if lane.source_ended and not lane.waiting and not lane.sink_ended:
                    lane.sink_ended = True
                    lane.sink.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(pair, reset=True)
            return
        if all(lane.sink_ended for lane in pair.lanes.values()):
            self._drop(pair)
        else:
            self._enlist(pair, now)

    @staticmethod
    def _read(lane: Lane, now: float) -> None:
        try:
            data = lane.source.recv(1 << 18)
        except BlockingIOError:
            return
        if data:
            lane.feed(data, now)
        else:
            lane.source_ended = True

    @staticmethod
    def _reads(lane: Lane) -> bool:
        return not lane.source_ended and lane.held < _HELD_LIMIT and not lane.frozen()

    def _enlist(self, pair: Pair, now: float) -> None:
        for end in (pair.client, pair.server):
            events = 0
            for lane in pair.lanes.values():
                if lane.source is end and self._reads(lane):
                    events |= selectors.EVENT_READ
                if lane.sink is end and lane.blocked(now):
                    events |= selectors.EVENT_WRITE
            known = end in self.selector.get_map()
            if events and known:
                self.selector.modify(end, events)
            elif events:
                self.selector.register(end, events)
            elif known:
                self.selector.unregister(end)

    def _drop(self, pair: Pair, reset: bool = False) -> None:
        for end in (pair.client, pair.server):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(end)
        pair.close(reset)

    # -- requests ------------------------------------------------------------------------------

    def _read_requests(self) -> None:
        data = os.read(0, 1 << 16)
        if not data:
            self.running = False
            return
        *lines, self.requests = (self.requests + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            getattr(self, f"_do_{request['do']}")(request)

    def _do_plan(self, request: dict[str, Any]) -> None:
        """Use these plans for new connections and, if asked, for those that exist."""
        self.plans = request["plans"]
        if request["existing"]:
            for pair in self.pairs:
                for name, lane in pair.lanes.items():
                    lane.plan = {**self.plans[name], "record": lane.plan["record"]}
                if pair.open:
                    self._serve(pair, set(), time.monotonic())
        answer({})

    def _do_refuse(self, request: dict[str, Any]) -> None:
        self.refusing = request["refuse"]
        answer({})

    def _do_drop(self, request: dict[str, Any]) -> None:
        for pair in self.pairs:
            if pair.open:
                self._drop(pair, reset=request["reset"])
        answer({})

    def _do_status(self, request: dict[str, Any]) -> None:
        answer(
            {
                "connections": [
                    {name: lane.given for name, lane in pair.lanes.items()} | {"open": pair.open}
                    for pair in self.pairs
                ]
            }
        )

    def _do_record(self, request: dict[str, Any]) -> None:
        lane = self.pairs[request["connection"]].lanes[request["lane"]]
        answer({"data": base64.b64encode(lane.record).decode()})

    def _do_wait(self, request: dict[str, Any]) -> None:
        self.pending.append(request)

    def _reached(self, request: dict[str, Any]) -> bool:
        number = request["connection"]
        if number >= len(self.pairs):
            return False
        pair = self.pairs[number]
        name = request["lane"]
        if name == "closed":
            reached = not pair.open
        else:
            reached = pair.lanes[name].taken >= request["count"]
        if reached:
            answer({})
        return reached


def answer(values: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    Relay(json.loads(sys.argv[1])).run()
