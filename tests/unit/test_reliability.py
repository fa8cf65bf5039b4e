"""What `scripts/soak` decides by, and what `scripts/chaos` draws, without any server."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from tests.reliability import chaos
from tests.reliability.chaos_plan import draw
from tests.reliability.trend import FEWEST, Point, trend

SEED = 7


def samples(slope: float, noise: float) -> list[Point]:
    """Return a hundred samples of a measure that grows by so much a round."""
    dice = random.Random(SEED)
    return [(at, 1000 + slope * at + dice.uniform(-noise, noise)) for at in range(100)]


def test_noise_does_not_grow() -> None:
    """A measure that goes up and down does not grow, nor does one that filled at first."""
    flat = trend(samples(0, 50))
    assert flat is not None
    assert flat.growth == 0
    filled = trend([(at, min(at, 20) * 100.0) for at in range(100)])
    assert filled is not None
    assert filled.growth == 0


def test_a_slope_is_seen_in_noise() -> None:
    """What a round leaves behind shows though single samples differ; one outlier does not."""
    grows = trend(samples(1, 50))
    assert grows is not None
    assert 0.5 < grows.least <= grows.slope < 1.5
    assert grows.growth > 35
    steady = samples(0, 1)
    steady[60] = (60, 1e9)
    single = trend(steady)
    assert single is not None
    assert single.growth == 0


def test_few_samples_decide_nothing() -> None:
    """A run that was too short says so instead of passing."""
    assert trend([(at, 1.0) for at in range(FEWEST)]) is None
    assert trend([(1.0, float(at)) for at in range(100)]) is None


def test_a_seed_draws_the_same_rounds() -> None:
    """A round can be drawn again by its seed and number, and each kind of fault comes soon."""
    plans = [draw(SEED, number) for number in range(200)]
    assert plans == [draw(SEED, number) for number in range(200)]
    assert plans != [draw(SEED + 1, number) for number in range(200)]
    kinds = {fault.kind for plan in plans for fault in plan.faults}
    assert {"stop", "kill", "reset", "corrupt", "cancel", "fork", "memory", "disk"} <= kinds


def test_what_is_left_behind_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a client keeps is reported for the round that left it, and not for all after it."""
    made: list[Client] = []

    class Client:
        left = False

        def __init__(self, folder: Path) -> None:
            made.append(self)

        def close(self) -> None:
            pass

    def ask(self: Any, arena: Any, client: Client, plan: Any) -> dict[str, Any]:
        client.left = client.left or plan.number == 1
        findings = ["left behind: a link"] if client.left else []
        return {"counts": {"right": 2}, "findings": findings, "worst": 0.0}

    class Arena(contextlib.nullcontext[Any]):
        def __enter__(self) -> Any:
            return self

        def heal(self) -> None:
            pass

    monkeypatch.setattr(chaos, "ClientProcess", Client)
    monkeypatch.setattr(chaos, "Arena", Arena)
    monkeypatch.setattr(chaos.Chaos, "_ask", ask)
    run = chaos.Chaos(SEED)
    run.run(60.0, tmp_path, first=0, lanes=1, most=5)
    assert run.rounds == 5
    assert [text.split(":")[0] for text in run.findings] == ["round 1"]
    assert len(made) == 2
