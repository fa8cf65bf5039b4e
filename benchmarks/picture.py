"""Draws docs/overview.svg, the picture at the top of README: how a jump works, and what it costs.

Usage: python -m benchmarks.picture; `scripts/bench` draws it anew with its figures.

The bars are a row of docs/benchmarks.md. The picture has a ground of its own, so it can be read on
any page, and it has dark colours where the reader's screen has them.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import escape

__all__ = ["PICTURE", "draw", "read_row"]

TOP = Path(__file__).resolve().parent.parent
FIGURES = TOP / "docs/benchmarks.md"
PICTURE = TOP / "docs/overview.svg"
ROW = "bastion + target + exec, cold"
WIDTH, HEIGHT = 640, 416
#: Where bars begin, and the length of the longest, in units of the picture.
_BAR, _LONGEST = 150, 380

_STYLE = """
    text { font: 17px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
           fill: #1f2328; }
    .title { font-weight: 600; }
    .small { font-size: 15px; fill: #59636e; }
    .ground { fill: #f6f8fa; stroke: #d1d9e0; }
    .box { fill: #ffffff; stroke: #818b98; stroke-width: 1.5; }
    .outer { fill: #c8e1ff; stroke: #0969da; stroke-width: 1.5; }
    .inner { fill: #1a7f37; }
    .bar { fill: #afb8c1; }
    .ours { fill: #1a7f37; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .small { fill: #9198a1; }
      .ground { fill: #151b23; stroke: #3d444d; }
      .box { fill: #0d1117; stroke: #9198a1; }
      .outer { fill: #12335c; stroke: #4493f8; }
      .inner { fill: #3fb950; }
      .bar { fill: #656c76; }
      .ours { fill: #3fb950; }
    }
"""


def read_row(page: str, name: str = ROW) -> dict[str, float]:
    """Return the first row of that name: client to milliseconds, without those that have none."""
    heads: list[str] = []
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| median, ms |"):
            heads = cells
        if cells[0] == name:
            found = [re.match(r"[\d.]+", cell.strip("*")) for cell in cells]
            return {
                head: float(value[0]) for head, value in zip(heads, found, strict=True) if value
            }
    raise ValueError(f"there is no row {name!r}")


def draw(figures: dict[str, float]) -> str:
    """Return the picture, as SVG, with these milliseconds of each client."""
    parts = [
        f'<rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
        _text(24, 36, "A session inside a session", "title"),
        *_sessions(),
        _text(24, 248, "Log in on both, run a command", "title"),
        _text(616, 248, "milliseconds", "small", "end"),
    ]
    longest = max(figures.values())
    for number, (name, value) in enumerate(sorted(figures.items(), key=lambda item: item[1])):
        y = 266 + 34 * number
        length = round(_LONGEST * value / longest)
        kind = "ours" if name == "hussh" else "bar"
        parts += [
            _text(24, y + 18, name, "title" if name == "hussh" else ""),
            f'<rect class="{kind}" x="{_BAR}" y="{y}" width="{length}" height="24" rx="3"/>',
            _text(_BAR + length + 10, y + 18, f"{value:.0f}"),
        ]
    body = "\n  ".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">\n'
        f"  <title>{escape(_title(figures))}</title>\n"
        f"  <style>{_STYLE}  </style>\n  {body}\n</svg>\n"
    )


def _sessions() -> list[str]:
    """Return the drawing: your program, a bastion, a target, and what runs between them."""
    boxes = [(24, "your program"), (256, "bastion"), (488, "target")]
    return [
        '<rect class="outer" x="150" y="82" width="112" height="56" rx="6"/>',
        '<rect class="inner" x="150" y="104" width="344" height="12"/>',
        *(
            f'<rect class="box" x="{x}" y="66" width="128" height="88" rx="8"/>'
            for x, name in boxes
            if name != "bastion"
        ),
        '<rect class="box" x="256" y="66" width="128" height="88" rx="8" fill-opacity="0.6"/>',
        '<rect class="inner" x="256" y="104" width="128" height="12"/>',
        *(_text(x + 64, 94 if name == "bastion" else 116, name, "", "middle") for x, name in boxes),
        _text(
            24, 184, "The bastion carries the target's session (green) in its own (blue):", "small"
        ),
        _text(
            24,
            204,
            "no ssh program, no listening port, one login for any number of targets.",
            "small",
        ),
    ]


def _title(figures: dict[str, float]) -> str:
    """Return in words what the bars show."""
    return "Both logins and a command, milliseconds: " + ", ".join(
        f"{name} {value:.0f}" for name, value in figures.items()
    )


def _text(x: int, y: int, text: str, kind: str = "", anchor: str = "start") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(read_row(FIGURES.read_text())))
