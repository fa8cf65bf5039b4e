"""Whether a measure of a long run grows: what ``scripts/soak`` fails on, without any I/O.

Memory is never constant: caches fill, the allocator keeps what was freed, and one sample may be
high by chance. So a line is fitted that single samples cannot bend (Theil and Sen: the median of
the slopes between all pairs of samples), after the first quarter of the run is left out as
warm-up. Kendall's statistic tells how sure that slope is: the least slope is the one that the true
slope exceeds with a probability of 99.5 %. The measure grows if the least slope, over all rounds
that were looked at, makes more than the measure's allowance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

#: The share of samples that is left out at the beginning.
WARM_UP = 0.25
#: With fewer samples after the warm-up nothing is decided.
FEWEST = 8
#: Of the normal distribution: half a percent is below minus this.
_SURE = 2.576

Point = tuple[float, float]  # rounds so far, value


class Trend(NamedTuple):
    """A fitted line.

    Attributes:
        slope: the median slope, per round.
        least: the slope that the true one exceeds almost certainly, per round.
        rounds: how many rounds the samples span.
    """

    slope: float
    least: float
    rounds: float

    @property
    def growth(self) -> float:
        """How much the measure grew at the least, and 0 if it may not have grown."""
        return max(0.0, self.least * self.rounds)


def trend(points: Sequence[Point]) -> Trend | None:
    """Return the line through samples, or None if they are too few to tell."""
    kept = sorted(points[math.ceil(len(points) * WARM_UP) :])
    if len(kept) < FEWEST:
        return None
    slopes = sorted(
        (later - earlier) / (after - before)
        for (before, earlier), (after, later) in combinations(kept, 2)
        if after > before
    )
    if not slopes:
        return None
    count = len(kept)
    spread = _SURE * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    lowest = max(0, min(len(slopes) - 1, round((len(slopes) - spread) / 2)))
    return Trend(slopes[len(slopes) // 2], slopes[lowest], kept[-1][0] - kept[0][0])
