"""What `benchmarks.live` measured, as figures, as text, and as a picture. Pure."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.tables import aligned, geometric_mean, show

RATIOS = {
    "dask/handout": "more is better",
    "annotated/handout": "more is better",
    "dask-elements/handout": "more is better",
    "dask/learned": "more is better",
    "learned/handout": "less is better",
    "undeclared/handout": "less is better",
    "actual/planned": "less is better",
    "actual/bound": "less is better",
}
COLORS = {"dask": "C7", "annotated": "C1", "handout": "C0", "learned": "C2"}


def figures(cell: Mapping[str, Any]) -> dict[str, float]:
    """The ratios of a trace, each of medians over its rounds."""
    middle = {way: statistics.median(walls) for way, walls in cell["wall"].items()}
    out = {}
    for name in RATIOS:
        over, under = name.split("/")
        if over in middle and under in middle:
            out[name] = middle[over] / middle[under]
    pairs = zip(cell["makespan"], cell["planned"], strict=True)
    actual = [makespan / planned for makespan, planned in pairs]
    if actual:
        out["actual/planned"] = statistics.median(actual)
    pairs = zip(cell["makespan"], cell["bound"], strict=len(cell["bound"]) > 0)
    over_bound = [makespan / bound for makespan, bound in pairs]
    if over_bound:
        out["actual/bound"] = statistics.median(over_bound)
    return out


def summarize(cells: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each ratio the geometric mean over traces, and the worst with its trace."""
    out = {}
    for name, aim in RATIOS.items():
        known = [(c["ratio"][name], c["trace"]) for c in cells if name in c["ratio"]]
        if known:
            worst = min(known) if aim == "more is better" else max(known)
            out[name] = {
                "mean": geometric_mean(value for value, _ in known),
                "worst": worst[0],
                "worst_trace": worst[1],
                "aim": aim,
            }
    return out


def report(out: Mapping[str, Any]) -> str:
    """The figures as text."""
    cells = [cell for cell in out["cells"] if cell["wall"]]
    ways = list(dict.fromkeys(way for cell in cells for way in cell["wall"]))
    ratios = list(out["summary"])
    header = ["seconds, medians", "functions", "planned", *ways, *ratios]
    rows = []
    for cell in cells:
        walls = (cell["wall"].get(way) for way in ways)
        rows.append(
            [
                cell["trace"],
                show(cell["functions"]),
                show(cell["target"], 2),
                *(show(statistics.median(w) if w else None, 2) for w in walls),
                *(show(cell["ratio"].get(name), 3) for name in ratios),
            ]
        )
    for what in ("mean", "worst"):
        values = (show(out["summary"][name][what], 3) for name in ratios)
        name = "geometric mean" if what == "mean" else what
        rows.append([name, "", "", *("" for _ in ways), *values])
    text = [
        f"{out['date']}, {out['where']}, speeds {out['speeds']}, "
        f"rounds {out['rounds']}, noise {out['noise']:g}, "
        f"event {out['event'] or 'none'}",
        aligned(header, rows),
    ]
    for name, row in out["summary"].items():
        text.append(
            f"{name}: geometric mean {row['mean']:.3f}, worst {row['worst']:.3f} "
            f"on {row['worst_trace']} ({row['aim']})"
        )
    text += [f"left out: {trace}: {why}" for trace, why in out["left_out"].items()]
    text += [
        f"FAILED: {cell['trace']}: {error}"
        for cell in out["cells"]
        for error in cell["errors"]
    ]
    return "\n".join(text)


def draw(out: Mapping[str, Any], path: str) -> None:
    """For each trace what each way took over the plan: rounds as points, medians."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)
        return
    cells = [cell for cell in out["cells"] if cell["wall"]]
    ways = list(dict.fromkeys(way for cell in cells for way in cell["wall"]))
    figure = Figure(figsize=(4 + 0.9 * len(cells), 5), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / max(1, len(ways))
    for k, way in enumerate(ways):
        color = COLORS.get(way, f"C{k + 3}")
        for x, cell in enumerate(cells):
            over = [wall / cell["target"] for wall in cell["wall"].get(way, ())]
            if not over:
                continue
            at = x - 0.4 + (k + 0.5) * width
            middle = statistics.median(over)
            label = way if x == 0 else None
            axes.bar(at, middle, width, color=color, alpha=0.6, label=label)
            axes.plot([at] * len(over), over, ".", color="black", ms=3)
    axes.axhline(1.0, color="black", lw=0.8)
    names = [cell["trace"].split("-")[0] for cell in cells]
    axes.set_xticks(range(len(cells)), names, rotation=45, ha="right")
    axes.set_ylabel("seconds over the planned makespan")
    event = f", {out['event']}" if out["event"] else ""
    axes.set_title(f"{out['where']}, speeds {out['speeds']}{event}", fontsize=9)
    axes.legend()
    axes.grid(axis="y", alpha=0.3)
    figure.savefig(path, dpi=110)
