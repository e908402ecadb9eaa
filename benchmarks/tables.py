"""Geometric means, and rows of figures as aligned text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean of positive numbers; NaN of none."""
    logs = [math.log(x) for x in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def show(value: object, digits: int = 4) -> str:
    """A figure with so many decimals; a dash for what there is none of."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts under a header: the first column to the left, others right."""
    width = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, ["-" * w for w in width], *rows):
        first, *others = zip(row, width, strict=True)
        cells = [first[0].ljust(first[1])] + [text.rjust(w) for text, w in others]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
