"""Linger: what a function that was taken back holds until its thread has ended."""

from __future__ import annotations

from dataclasses import dataclass

from handout_dask.tracker import ResourceTracker


@dataclass(frozen=True, slots=True)
class Linger:
    """What a function holds that was taken back, until its thread has ended.

    Attributes
    ----------
    trackers : tuple of ResourceTracker
        In which it holds that; its run may be gone.
    demand : dict
        What it asked for.
    cores : float
        Those it has while it runs.
    slot : bool
        Whether it holds a slot and its cores; if not, it had not begun.
    lone : bool
        Whether nothing may be sent ahead behind it.
    start, seconds, since : float
        When it began, by the clock, how long it was to take, and when it was taken
        back, by the clock [s].
    label, title : str, str or None
        What it was called, and its graph: its run may be gone.
    """

    trackers: tuple[ResourceTracker, ...]
    demand: dict[str, float]
    cores: float
    slot: bool
    lone: bool
    start: float
    seconds: float
    since: float
    label: str = ""
    title: str | None = None
