"""What `scripts/soak` decides by, and what `scripts/chaos` draws, without any server."""

from __future__ import annotations

import random

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
