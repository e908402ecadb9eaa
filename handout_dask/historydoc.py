"""History as a document: JSON in bytes, and back. Knows no files. Pure.

The document of version 1 is an object with

* ``format``: "handout history"; ``version``: 1;
* ``saves``: how often each of the latest writers has saved, by a name of its own;
* ``names``: of each name ``seconds``, ``factor`` and ``size`` as [weight, mean of
  logarithms, their variance, observations] of seconds at speed 1, of seconds per
  declared second, and of bytes; ``excess`` as [largest of late, observations, whether
  they are exact] of memory per declared memory; and ``kinds``: of each kind of node
  ``seconds`` and ``factor``, and ``memory`` [MB] as ``excess``;
* ``labels``: for each function, the latest last, [the number of its name among the
  names, its label, weight, mean, observations, bytes or null, memory as ``excess`` or
  null].
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from handout_dask.errors import HandoutError
from handout_dask.history import History
from handout_dask.known import Label, Logs, Name
from handout_dask.peaks import FADE, LABEL_FADE, Peak

FORMAT, VERSION = "handout history", 1
LABELS = 20_000  # functions that a document has, the latest
WRITERS = 50


@dataclass
class Document:
    """A history, and who saved to it how often."""

    history: History = field(default_factory=History)
    saves: dict[str, int] = field(default_factory=dict)

    def saved_by(self, writer: str) -> None:
        """Somebody saves to it."""
        self.saves[writer] = self.saves.pop(writer, 0) + 1
        while len(self.saves) > WRITERS:
            del self.saves[next(iter(self.saves))]


def to_bytes(document: Document) -> bytes:
    """The document as JSON."""
    history = document.history
    number = {name: k for k, name in enumerate(history.names)}
    labels = [*history.labels.items()][-LABELS:]
    doc = {
        "format": FORMAT,
        "version": VERSION,
        "saves": document.saves,
        "names": {name: _name_row(known) for name, known in history.names.items()},
        "labels": [
            [
                number[name], label, seen.weight, seen.mean, seen.count, seen.nbytes,
                None if seen.peak is None else _peak_row(seen.peak),
            ]
            for (name, label), seen in labels
            if name in number
        ],
    }  # fmt: skip
    return json.dumps(doc, allow_nan=False, separators=(",", ":")).encode()


def from_bytes(data: bytes) -> Document:
    """The document that `to_bytes` made; an empty one of nothing.

    Raises
    ------
    HandoutError
        If it is none, or of a later version, or incomplete.
    """
    if not data.strip():
        return Document()
    try:
        doc = json.loads(data)
    except ValueError as error:
        raise HandoutError(f"is no history, or a part of one: {error}") from None
    if not isinstance(doc, dict) or doc.get("format") != FORMAT:
        raise HandoutError("is no history")
    if doc.get("version") != VERSION:
        raise HandoutError(
            f"is a history of version {doc.get('version')!r}; this is version {VERSION}"
        )
    out = Document()
    try:
        names = {str(name): _name(row) for name, row in doc["names"].items()}
        listed = [*names]
        labels = {
            (listed[_count(k)], str(label)): _label(*row)
            for k, label, *row in doc["labels"]
        }
        out.saves = {str(who): _count(n) for who, n in doc["saves"].items()}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise HandoutError(
            f"is a history that is damaged: {type(error).__name__}: {error}"
        ) from None
    out.history.replace(names, labels)
    return out


def _name_row(known: Name) -> dict[str, Any]:
    return {
        "seconds": _logs_row(known.work),
        "factor": _logs_row(known.factor),
        "size": _logs_row(known.size),
        "excess": _peak_row(known.excess),
        "kinds": {
            kind: {
                "seconds": _logs_row(on.work),
                "factor": _logs_row(on.factor),
                "memory": _peak_row(on.peak),
            }
            for kind, on in known.on.items()
        },
    }


def _logs_row(logs: Logs) -> list[float]:
    return [logs.weight, logs.mean, logs.variance, logs.count]


def _peak_row(peak: Peak) -> list[float | bool]:
    return [peak.level, peak.count, peak.exact]


def _name(row: Mapping[str, Any]) -> Name:
    out = Name()
    out.work, out.factor = _logs(*row["seconds"]), _logs(*row["factor"])
    out.size, out.excess = _logs(*row["size"]), _peak(FADE, *row["excess"])
    for kind, its in row["kinds"].items():
        on = out.on_kind(str(kind))
        on.work, on.factor = _logs(*its["seconds"]), _logs(*its["factor"])
        on.peak = _peak(FADE, *its["memory"])
    return out


def _label(
    weight: Any, mean: Any, count: Any, nbytes: Any, peak: list[Any] | None
) -> Label:
    out = Label()
    out.weight, out.mean, out.count = _amount(weight), _number(mean), _count(count)
    out.nbytes = None if nbytes is None else _amount(nbytes)
    out.peak = None if peak is None else _peak(LABEL_FADE, *peak)
    return out


def _logs(weight: Any, mean: Any, variance: Any, count: Any) -> Logs:
    return Logs(_amount(weight), _number(mean), _amount(variance), _count(count))


def _peak(fade: float, level: Any, count: Any, exact: Any) -> Peak:
    return Peak(fade, _amount(level), _count(count), bool(exact))


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _amount(value: Any) -> float:
    if _number(value) < 0:
        raise ValueError(f"{value!r} is negative")
    return float(value)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value
