"""RetryPolicy: how often, when and where a failing function is tried. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from handout_dask.errors import GraphError

BUILTIN = "builtins"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How failures of a function are answered; by the executor's, or one of its own.

    A function that rests before it is tried again holds nothing meanwhile. Each kind of
    failure has a budget of its own, and what dies of something else than itself is
    charged to none.

    Parameters
    ----------
    attempts : int
        How often it may run in all, as far as its own exceptions (and its time-outs)
        are concerned; 1 is no retry.
    backoff, factor, most : float
        Seconds that it rests after the first failure; times as long after each
        further one; and at most [s].
    jitter : float
        Share, between 0 and 1, by which each rest is longer or shorter at random, so
        that not all that failed at once is tried again at once.
    retry_on, never : exception class, dotted name, or several of them
        Which exceptions are worth another try, with all that derive from them, and
        which of these not; what took too much of a resource has a budget of its own,
        but `never` counts for it too. Names are full, such as
        ``"requests.HTTPError"``, but for those of built-in exceptions.
    elsewhere : bool
        Whether it is tried next on a node where it has not failed, if there is one.
    quarantine : float or None
        Seconds for which a node is left out where functions fail that succeed
        elsewhere, as long as others can run what it would; None: never.
    memory_factor, memory_attempts : float, int
        After it took too much memory, how many times as much it claims next (at most
        what the largest node has); and how often it may run in all, as far as that is
        concerned. Where it can't claim more it fails at once.
    crashes : int
        How often it may end its process or its node, by what it does itself.
    max_waiting : float, optional
        Seconds that it may wait for a node or resources since all that it reads is
        there; then it fails with FunctionTimeoutError.
    deadline : float, optional
        Seconds since its run began after which it fails so, if it has not ended.
    variants : bool
        Whether a function with cost alternatives, rather than failing for want of
        memory (of a GPU as well), is tried as one that it was not tried as, each once.

    Raises
    ------
    GraphError
        If one of them makes no sense.

    Examples
    --------
    >>> policy = RetryPolicy(4, backoff=1, jitter=0, most=3, never=ValueError)
    >>> [policy.rest(failures) for failures in (1, 2, 3)]
    [1.0, 2.0, 3.0]
    >>> policy.is_tried_again(["builtins.OSError", "builtins.Exception"])
    True
    >>> policy.is_tried_again(["builtins.ValueError", "builtins.Exception"])
    False
    """

    attempts: int = 1
    backoff: float = 0.0
    factor: float = 2.0
    most: float = 60.0
    jitter: float = 0.1
    retry_on: Any = ("builtins.Exception",)
    never: Any = ()
    elsewhere: bool = False
    quarantine: float | None = 60.0
    memory_factor: float = 2.0
    memory_attempts: int = 2
    crashes: int = 3
    max_waiting: float | None = None
    deadline: float | None = None
    variants: bool = True

    def __post_init__(self) -> None:
        for what in ("attempts", "memory_attempts", "crashes"):
            value = getattr(self, what)
            ok = isinstance(value, int) and not isinstance(value, bool)
            self._require(ok and value >= 1, what, "must be an integer above 0")
        for what, least in (("backoff", 0.0), ("most", 0.0), ("jitter", 0.0)):
            self._require_number(what, least, "must be a number of at least 0")
        for what in ("factor", "memory_factor"):
            self._require_number(what, 1.0, "must be a number of at least 1")
        self._require(self.jitter <= 1.0, "jitter", "must be at most 1")
        for what in ("quarantine", "max_waiting", "deadline"):
            if getattr(self, what) is not None:
                self._require_number(what, 0.0, "must be a number of seconds, or None")
        for what in ("elsewhere", "variants"):
            ok = isinstance(getattr(self, what), bool)
            self._require(ok, what, "must be True or False")
        for what in ("retry_on", "never"):
            names = tuple(self._names(what, getattr(self, what)))
            object.__setattr__(self, what, names)

    def _require(self, ok: bool, what: str, rule: str) -> None:
        if not ok:
            raise GraphError(f"RetryPolicy: {what}={getattr(self, what)!r} {rule}")

    def _require_number(self, what: str, least: float, rule: str) -> None:
        value = getattr(self, what)
        ok = isinstance(value, int | float) and not isinstance(value, bool)
        ok = ok and math.isfinite(value) and value >= least
        self._require(ok, what, rule)
        object.__setattr__(self, what, float(value))

    def _names(self, what: str, given: Any) -> Iterable[str]:
        """Full names of exception classes; as names they travel to any scheduler."""
        several = isinstance(given, Collection) and not isinstance(given, str | bytes)
        for one in given if several else [given]:
            if isinstance(one, type) and issubclass(one, BaseException):
                yield f"{one.__module__}.{one.__qualname__}"
            elif isinstance(one, str) and one.replace(".", "_").isidentifier():
                yield one if "." in one else f"{BUILTIN}.{one}"
            else:
                raise GraphError(
                    f"RetryPolicy: {what}={given!r} must be an exception class, a name "
                    "such as 'requests.HTTPError', or several of them"
                )

    @property
    def has_clocks(self) -> bool:
        """Whether it may fail of what it waits for, or of a deadline."""
        return self.max_waiting is not None or self.deadline is not None

    def is_tried_again(self, names: Iterable[str]) -> bool:
        """Whether an exception is worth another try.

        Parameters
        ----------
        names : iterable of str
            Full names of its class and of those that this derives from. Without their
            modules, as texts of exceptions have them, they match as well.
        """
        given = set(names)
        return _meets(self.retry_on, given) and not self.refuses(given)

    def refuses(self, names: Iterable[str]) -> bool:
        """Whether an exception is among those that are `never` worth another try."""
        return _meets(self.never, set(names))

    def rest(self, failures: int, *seed: Any) -> float:
        """Seconds to rest after so many failures; alike for the same `seed`."""
        if not self.backoff or not self.most:
            return 0.0
        grown = math.log(self.backoff) + math.log(self.factor) * (failures - 1)
        seconds = self.most
        if grown < math.log(self.most):
            with suppress(OverflowError):  # of the factor of next to no time
                seconds = self.backoff * self.factor ** (failures - 1)
        chance = Random(repr((*seed, failures))).uniform(-1.0, 1.0)
        return min(seconds * (1.0 + self.jitter * chance), self.most)


def _meets(wanted: Iterable[str], names: set[str]) -> bool:
    known = names | {f"{BUILTIN}.{name}" for name in names if "." not in name}
    for one in wanted:
        if one in (f"{BUILTIN}.BaseException", f"{BUILTIN}.Exception"):
            return True  # all that come here are; what is known of them may be little
        if one in known or one.rpartition(".")[2] in names:
            return True
    return False
