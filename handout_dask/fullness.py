"""Fullness: whether nodes have room for what functions leave behind. Pure.

Is told what nodes use, and what is sent there; knows no clock, no Dask.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from handout_dask.books import Member

DYING = 0.95  # share of its memory limit at which a nanny ends a worker
USABLE = 0.9  # share of the free disk that is counted on; others write there too
NOISE = 0.02  # share of the memory limit by which use varies and nothing happens
STUCK = 10.0  # s without any progress, after which there will be none


@dataclass(frozen=True, slots=True)
class Fill:
    """What one worker told of its memory and of the disk to which it spills; all [MB].

    Attributes
    ----------
    limit, used : float
        Its memory limit (0: none), and what its process holds.
    pause : float
        The share of the limit above which it begins no function.
    managed : float
        What results it holds in memory and on disk.
    path, device : str
        Where it spills, and the device of that.
    free, total : float
        Of the device.
    spilled : float
        What lies there of its results.
    failures : int
        How often spilling has failed.
    """

    limit: float
    used: float
    pause: float
    managed: float
    path: str
    device: str
    free: float
    total: float
    spilled: float
    failures: int

    @property
    def ceiling(self) -> float:
        """How much memory it uses at most, and still begins functions [MB]."""
        return self.pause * self.limit

    def __str__(self) -> str:
        failed = f", {self.failures} spills failed" if self.failures else ""
        return (
            f"it uses {self.used:.0f} MB of its {self.limit:.0f} MB of memory, and its "
            f"disk at {self.path} has {self.free:.0f} MB free of {self.total:.0f} MB"
            f"{failed}"
        )


class Fullness:
    """What fits where, as far as the disks of nodes are too small for all they hold.

    Where more of the disk is free than the worker's memory limit, Dask spills as it
    likes, and everything fits.
    """

    def __init__(self) -> None:
        self._fills: dict[str, Fill] = {}
        self._sharing: dict[str, int] = {}  # nodes on each device
        self._coming: dict[str, dict[Member, float]] = {}  # [MB] not in the sample yet
        self._refused: dict[str, set[Member]] = {}  # since the last sample
        self._moved = 0.0  # when anything did last

    # --------------------------------------------------------------------- told
    def told(self, name: str, fill: Fill, in_hand: Collection[Member]) -> bool:
        """A node told how full it is; whether that is another figure than before.

        Functions that are not `in_hand` there any more have left what they did.
        """
        before = self._fills.get(name)
        if before == fill:
            return False
        self._fills[name] = fill
        self.left(name, in_hand)
        self._refused.pop(name, None)
        self._count()
        return (
            before is None
            or abs(before.used - fill.used) > NOISE * fill.limit
            or abs(before.spilled - fill.spilled) > 1.0
        )

    def left(self, name: str, in_hand: Collection[Member]) -> None:
        """Functions that are not `in_hand` on a node any more have left what they did,
        and what is known of it has that.
        """
        coming = self._coming.get(name, {})
        self._coming[name] = {m: mb for m, mb in coming.items() if m in in_hand}

    def forget(self, name: str) -> None:
        """A node is gone."""
        self._fills.pop(name, None)
        self._coming.pop(name, None)
        self._refused.pop(name, None)
        self._count()

    def _count(self) -> None:
        self._sharing = {}
        for fill in self._fills.values():
            self._sharing[fill.device] = self._sharing.get(fill.device, 0) + 1

    # ------------------------------------------------------------------ deciding
    def is_cramped(self, name: str) -> bool:
        """Whether a node could fill both its memory and its disk."""
        fill = self._fills.get(name)
        if fill is None or not fill.limit or not fill.pause:
            return False
        return self._disk(fill) < fill.limit

    def _disk(self, fill: Fill) -> float:
        """[MB] of the free disk that a node may count on."""
        return USABLE * fill.free / self._sharing[fill.device]

    def admits(self, name: str, member: Member, mb: float, frees: float) -> bool:
        """Whether a function may be sent to a node now; if so, its result is coming.

        Parameters
        ----------
        name, member : str, Member
            The node and the function.
        mb : float
            What it is expected to leave behind [MB].
        frees : float
            What nobody needs any more once it has run [MB].
        """
        if not self.is_cramped(name):
            return True
        fill, coming = self._fills[name], self._coming.setdefault(name, {})
        others = sum(x for m, x in coming.items() if m != member)
        # Twice its own: who reads what was spilled needs it in memory once more.
        adds = others + 2 * mb
        # What is over the ceiling is spilled, if there is room for it; but a value has
        # to be in memory once in any case.
        room = max(0.0, fill.ceiling - fill.used) + self._disk(fill)
        fits = adds <= room and fill.used + adds <= DYING * fill.limit
        fits |= fill.used + adds <= fill.ceiling or mb <= frees
        if not fits and (others or fill.managed):
            self._refused.setdefault(name, set()).add(member)
            return False
        coming[member] = mb
        self._refused.get(name, set()).discard(member)
        return True

    def why(self, name: str, member: Member) -> str:
        """Why a function was not sent to a node; "" if it was not refused."""
        if member in self._refused.get(name, ()):
            return f"full: {self._fills[name]}"
        return ""

    def is_full(self, name: str) -> bool:
        """Whether a node refused something that was to be sent there, of late."""
        return bool(self._refused.get(name))

    def refused(self, name: str) -> frozenset[Member]:
        """What a node refused of late."""
        return frozenset(self._refused.get(name, ()))

    def names(self) -> set[str]:
        """The nodes that have told anything."""
        return set(self._fills)

    def fill(self, name: str) -> Fill | None:
        """What a node told last."""
        return self._fills.get(name)

    # -------------------------------------------------------------------- stuck
    def moves(self, now: float) -> None:
        """Something happens, so that room may come."""
        self._moved = now

    def is_stuck(self, now: float) -> bool:
        """Whether nothing has happened for so long that nothing will."""
        return now - self._moved >= STUCK
