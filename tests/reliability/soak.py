"""Does nothing grow? Thousands of rounds of each job; run by ``scripts/soak``.

One process is the client. It does slices of rounds, always of the pair of job and API that had the
fewest so far, so that all get the same number. Between slices, when nothing runs, it counts what it
holds and what its servers hold for it (``census.py``). What must be as at the beginning is compared
each time; whether memory grows is decided at the end (``trend.py``).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import anyio

from tests.conformance.apis import APIS, Api, SyncApi
from tests.support.dropbear import Dropbear
from tests.support.keys import Keys
from tests.support.processes import Process
from tests.support.server_program import find_program, let_alice_in
from tests.support.sshd import Sshd

from .census import ALLOWANCES, EXACT, Census, Held
from .echo import Echo
from .soak_jobs import JOBS, Job, Site
from .trend import Point, trend

__all__ = ["Soak", "growing", "main", "servers"]

GOAL = 10_000
#: Rounds of a slice at most, and its seconds; a slice of OpenSSH follows so many of dropbear.
MOST, SLICE, CHEAP = 48, 0.5, 3
#: Rounds at the same time. dropbear admits five logins at once from one address.
AT_ONCE = 4
EVERY = 10.0  # seconds between samples


class Soak:
    """One run.

    Attributes:
        rounds: how many rounds of each job on each API there were.
        samples: how many rounds there had been in all, and what was held then.
        left: what stayed though nothing ran, one line each.
    """

    def __init__(
        self, sites: Sequence[Site], census: Census, jobs: Mapping[str, Job] = JOBS
    ) -> None:
        """Prepare; slices take turns on the sites."""
        self._sites = sites
        self._census = census
        self._jobs = jobs
        self._slices = 0
        self.rounds: Counter[tuple[str, str]] = Counter()
        self.samples: list[tuple[int, Held]] = []
        self.left: list[str] = []

    def run(self, seconds: float, goal: int = GOAL, *, every: float = EVERY) -> None:
        """Do ``goal`` rounds of each job, all APIs together, or stop after ``seconds``."""
        pairs = [(job, api) for job in self._jobs for api in APIS]
        end = time.monotonic() + seconds
        for job, api in pairs:  # what is loaded or made once is made now
            self._slice(job, api, seconds=0.0)
        self._sample()
        sampled = time.monotonic()
        while time.monotonic() < end and not self.left:
            open_pairs = [pair for pair in pairs if self.total(pair[0]) < goal]
            if not open_pairs:
                break
            job, api = min(open_pairs, key=lambda pair: self.rounds[pair[0], pair[1].name])
            self._slice(job, api, min(SLICE, end - time.monotonic()))
            if time.monotonic() > sampled + every:
                self._sample()
                sampled = time.monotonic()
        self._sample()

    def total(self, job: str) -> int:
        """Return how many rounds of a job there were on all APIs."""
        return sum(count for (name, _), count in self.rounds.items() if name == job)

    def _slice(self, name: str, api: Api, seconds: float) -> None:
        site = self._sites[self._slices % len(self._sites)]
        self._slices += 1
        at_once = 1 if name == "multi" else AT_ONCE
        key = (name, api.name)

        async def work() -> None:
            end = time.monotonic() + seconds
            first = self.rounds[key]
            async with self._jobs[name](api, site) as one:
                while True:
                    done = self.rounds[key]
                    numbers = range(done, done + at_once)
                    for outcome in await api.together(*(partial(one, n) for n in numbers)):
                        if isinstance(outcome, BaseException):
                            raise outcome
                    self.rounds[key] += at_once
                    if time.monotonic() >= end or self.rounds[key] - first >= MOST:
                        return

        try:
            if isinstance(api, SyncApi):
                api.run(work)
            else:
                anyio.run(work, backend=api.name)
        except BaseException as error:
            print(f"in {name} on {api.name}: {error!r}", file=sys.stderr)
            raise

    def _sample(self) -> None:
        self.left += self._census.settle()
        self.samples.append((self.rounds.total(), self._census.take()))


def growing(samples: Sequence[tuple[int, Held]]) -> list[str]:
    """Return a line for each measure that grew over a run."""
    found = []
    first = samples[0][1]
    for name in EXACT:
        before, most = getattr(first, name), max(getattr(held, name) for _, held in samples)
        if most > before:
            found.append(f"{name}: {before} at the beginning, {most} later")
    for name, allowance in ALLOWANCES.items():
        points: list[Point] = [(rounds, getattr(held, name)) for rounds, held in samples]
        line = trend(points)
        if line is not None and line.growth > allowance:
            found.append(
                f"{name}: grew by at least {line.growth:.0f} in {line.rounds:.0f} rounds, "
                f"{line.slope:.2f} a round"
            )
    return found


@contextmanager
def servers(folder: Path) -> Iterator[tuple[list[Site], Census]]:
    """Start the servers; yield the sites, those of the cheaper server more often, and a census."""
    (folder / "keys").mkdir()
    keys = Keys(folder / "keys")
    with ExitStack() as stack:
        sshd = stack.enter_context(Sshd(folder / "sshd", keys, options={"LogLevel": "INFO"}))
        echo = stack.enter_context(Echo())
        second: Dropbear | Sshd
        if find_program("dropbear") and find_program("dropbearkey"):
            let_alice_in(sshd)
            second = Dropbear(sshd, folder / "dropbear.log")
        else:
            second = Sshd(folder / "second", keys, options={"LogLevel": "INFO"})
        stack.enter_context(second)
        known = folder / "known_hosts"
        known.write_text(sshd.known_hosts_line() + second.known_hosts_line())
        options = {
            "username": sshd.alice.name,
            "private_key": str(sshd.alice.key.path),
            "known_hosts": str(known),
            "host_key_policy": "strict",
            "agent": False,
        }
        places = (sshd.host, sshd.port), (second.host, second.port)
        dear = Site(places[1], places[0], echo.address, options)
        cheap = Site(places[0], places[1], echo.address, options)

        def sessions() -> Iterator[Process]:
            yield from sshd.processes()
            yield from second.processes()

        sites = [dear, *[cheap] * CHEAP]
        yield sites, Census(sessions)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as long as the arguments say; print what was done; return 1 if anything grew."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=60.0)
    parser.add_argument("--goal", type=int, default=GOAL, help="rounds of each job")
    parser.add_argument("--only", default=",".join(JOBS), help="jobs, with commas between them")
    given = parser.parse_args(arguments)
    jobs = {name: JOBS[name] for name in given.only.split(",")}
    with tempfile.TemporaryDirectory(prefix="hussh-soak-") as name, _no_home(Path(name)):
        folder = Path(name)
        folder.chmod(0o755)
        with servers(folder) as (sites, census):
            soak = Soak(sites, census, jobs)
            begin = time.monotonic()
            load = os.getloadavg()[0]
            soak.run(given.minutes * 60, given.goal)
            _report(soak, time.monotonic() - begin, (load, os.getloadavg()[2]))
    found = [*soak.left, *growing(soak.samples)]
    for line in found:
        print(f"GROWS: {line}")
    print("nothing grew" if not found else f"{len(found)} measures grew")
    return bool(found)


def _report(soak: Soak, seconds: float, load: tuple[float, float]) -> None:
    print(f"{seconds / 60:.1f} minutes, load {load[0]:.1f} at the beginning, {load[1]:.1f} then")
    print(f"{'rounds':10}" + "".join(f"{api.name:>10}" for api in APIS) + f"{'all':>10}")
    for job in soak._jobs:
        counts = [soak.rounds[job, api.name] for api in APIS]
        print(f"{job:10}" + "".join(f"{count:10}" for count in [*counts, sum(counts)]))
    sums = [sum(soak.rounds[job, api.name] for job in soak._jobs) for api in APIS]
    print(f"{'all':10}" + "".join(f"{count:10}" for count in [*sums, sum(sums)]))
    quarter = soak.samples[len(soak.samples) // 4]
    print(f"{len(soak.samples)} samples; the slope is that after the first quarter")
    print(f"{'measure':10}{'begin':>12}{'quarter':>12}{'end':>12}{'a round':>12}{'at least':>12}")
    for name in Held._fields:
        values = [getattr(held, name) for held in (soak.samples[0][1], quarter[1])]
        values.append(getattr(soak.samples[-1][1], name))
        line = trend([(rounds, getattr(held, name)) for rounds, held in soak.samples])
        slope = f"{line.slope:12.3f}{line.growth:12.0f}" if line else f"{'?':>12}{'?':>12}"
        print(f"{name:10}" + "".join(f"{value:12}" for value in values) + slope)


@contextmanager
def _no_home(folder: Path) -> Iterator[None]:
    """Give this process an empty home, and no agent."""
    (folder / "home").mkdir(mode=0o700)
    os.environ["HOME"] = str(folder / "home")
    for name in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY"):
        os.environ.pop(name, None)
    yield


if __name__ == "__main__":
    sys.exit(main())
