"""How the rows of `scripts/bench --scale` come from what its processes measured."""

from __future__ import annotations

from typing import Any

from benchmarks.scale_report import flatness, row_of


def process(*connects: tuple[int, float]) -> dict[str, Any]:
    """What a process says that used so much CPU for so many connections in each round."""
    size = {"as_is": 1.0, "trimmed": 1.0}
    rounds = [
        {
            phase: {"items": items, "cpu": cpu, "gc": 0.0, "wall": float(items)}
            for phase in ("connect", "exec", "close")
        }
        for items, cpu in connects
    ]
    return {"rounds": rounds, "idle": size, "after_exec": size,
            "peak_per_target": 1.0, "fds_before": 4, "fds": 8}  # fmt: skip


def test_row_is_the_median_of_its_processes() -> None:
    """A process counts once, whatever its rounds, and the dearest does not move the median."""
    plan = {"api": "connections", "kind": "light", "bastions": 1, "targets": 10}
    row = row_of(plan, [process((10, 20.0), (30, 20.0)), process((10, 90.0)), process((10, 20.0))])
    assert (row["connect"]["cpu_least"], row["connect"]["cpu"]) == (1.0, 2.0)
    assert row["connect"]["cpu_most"] == 9.0
    assert row["connect"]["wall"] == 10.0  # for all targets once, not for a round's 30


def test_flatness_is_the_dearest_over_the_cheapest() -> None:
    """Any two rows may be these, but for those with few targets; one row alone says nothing."""
    costs = {10: 9.0, 100: 2.0, 1000: 3.0, 3000: 1.0}
    rows = [{"targets": count, "exec": {"cpu": cost}} for count, cost in costs.items()]
    assert flatness(rows, "exec") == (3.0, [2.0, 3.0, 1.0])
    assert flatness(rows[:2], "exec") is None
