"""Setbacks: what goes wrong with functions and nodes, and what is decided, as values.

Knows no clock and no Dask; `recovery` decides.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from handout_dask.errors import FunctionTimeoutError
from handout_dask.retry import RetryPolicy

Member = tuple[str, int]  # the token of a run, the index of a function in it

RAISED, TIMEOUT, EXHAUSTED = "raised", "timeout", "exhausted"
CRASHED, UNDELIVERABLE, RESCHEDULED = "crashed", "undeliverable", "rescheduled"
OUTSIDE, MEMORY, CRASH, UNKNOWN = "outside", "memory", "crash", "unknown"
GPU_MEMORY = "gpu_memory"

# Signals that come from outside: nobody is blamed who ran then.
SENT_BY_OTHERS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
RESCHEDULES = 20  # times in all that a function may run which asks to run again
SHORT = 200  # characters of an error in a list of attempts


@dataclass(frozen=True, slots=True)
class Fault:
    """What a function failed of, as its worker tells.

    Attributes
    ----------
    kind : str
        "raised", "timeout", "exhausted", "crashed", "undeliverable", or "rescheduled":
        it asked to be run again.
    names : tuple of str
        The exception's class, and those that it derives from.
    text : str
        What it says.
    resource : str
        What was exhausted; "" is nothing.
    used, allowed : float or None
        Of that [MB]; None is unknown.
    """

    kind: str = RAISED
    names: tuple[str, ...] = ()
    text: str = ""
    resource: str = ""
    used: float | None = None
    allowed: float | None = None

    @staticmethod
    def of(data: Mapping[str, Any]) -> Fault:
        """From what a worker sent."""
        return Fault(
            str(data.get("kind") or RAISED),
            tuple(map(str, data.get("names") or ())),
            str(data.get("text") or ""),
            str(data.get("resource") or ""),
            data.get("used"),
            data.get("allowed"),
        )

    @staticmethod
    def guessed(text: str) -> Fault:
        """From the text of an exception as Python shows it: ``ValueError('no')``."""
        name = text.partition("(")[0].strip() or "Exception"
        kind = EXHAUSTED if name in ("MemoryError", "OutOfMemoryError") else RAISED
        return Fault(kind, (name,), text, MEMORY if kind == EXHAUSTED else "")

    def __str__(self) -> str:
        if self.kind == RESCHEDULED:
            return "Reschedule: it asked to be run again"
        name = self.names[0].rpartition(".")[2] if self.names else self.kind
        if self.text.startswith(f"{name}("):
            return self.text
        return f"{name}: {self.text}" if self.text else name


@dataclass(frozen=True, slots=True)
class Exit:
    """How the process of a node ended, as its nanny tells.

    Attributes
    ----------
    code : int or None
        Its exit code; negative is a signal.
    pid : int
        Which it was.
    memory : tuple of float or None
        If it was ended for its memory: what it held and what it may hold [bytes].
    stderr : str
        The last that it said.
    asked : bool
        Whether it was told to end.
    hung : str
        If it was ended because something in it let nothing else run: what was seen.
    running : tuple of (Member or None), or None
        What had begun and not ended there, None for what is of nobody; None as a whole
        if that is not known.
    """

    code: int | None = None
    pid: int = 0
    memory: tuple[float, float] | None = None
    stderr: str = ""
    asked: bool = False
    hung: str = ""
    running: tuple[Member | None, ...] | None = None

    @staticmethod
    def of(
        data: Mapping[str, Any], find: Callable[[Any], Member | None] | None = None
    ) -> Exit:
        """From what a nanny sent; `find` says whose a key is."""
        keys = data.get("running") if find is not None else None
        memory = data.get("memory")
        return Exit(
            data.get("code"),
            int(data.get("pid") or 0),
            None if not memory else (float(memory[0]), float(memory[1])),
            str(data.get("stderr") or ""),
            bool(data.get("asked")),
            str(data.get("hung") or ""),
            None if keys is None or find is None else tuple(map(find, keys)),
        )

    @property
    def cause(self) -> str:
        """What it died of: `OUTSIDE`, `MEMORY`, `CRASH` or `UNKNOWN`."""
        if self.memory is not None:
            return MEMORY
        if self.hung:
            return CRASH
        if self.asked:
            return OUTSIDE
        if self.code is None:
            return UNKNOWN
        return OUTSIDE if -self.code in SENT_BY_OTHERS else CRASH

    @property
    def was_killed(self) -> bool:
        """Whether it got a SIGKILL that nobody is known to have sent."""
        killed = not self.asked and not self.hung and self.memory is None
        return killed and self.code == -signal.SIGKILL

    def __str__(self) -> str:
        pid = f" (pid {self.pid})" if self.pid else ""
        if self.memory is not None:
            used, limit = (x / 1e6 for x in self.memory)
            return f"it held {used:.0f} of {limit:.0f} MB of memory{pid}"
        if self.hung:
            return f"{self.hung}{pid}"
        if self.asked:
            return f"it was told to end{pid}"
        if self.code is None:
            return f"its process ended{pid}"
        if self.code < 0:
            return f"ended by {_signal_name(-self.code)}{pid}"
        return f"ended with exit code {self.code}{pid}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try that did not deliver.

    Attributes
    ----------
    number : int
        1 is the first.
    node : str
        Where.
    start, end : float
        When, by the clock [s].
    outcome : {"failed", "lost"}
        Whether it failed itself, or was lost with its node.
    error : str
        Why.
    """

    number: int
    node: str
    start: float
    end: float
    outcome: str = "failed"
    error: str = ""

    def __str__(self) -> str:
        error = " ".join(self.error.split())
        short = error if len(error) <= SHORT else f"{error[:SHORT]}..."
        return f"{self.number} on {self.node!r} ({short})"


@dataclass(frozen=True, slots=True)
class Tried:
    """A function that was tried and did not deliver, and what it may have.

    Attributes
    ----------
    member : (str, int)
        Which.
    label : str
        Its id as text.
    policy : RetryPolicy
        How it is to be answered.
    attempt : Attempt
        Which try it was.
    claim : float
        The memory [MB] that it claimed; 0 is nothing.
    most : float
        The memory [MB] that the largest node has of those that can run it.
    gpu_claim, gpu_most : float
        Ditto of a GPU.
    option, others : int, tuple of int
        As which of its cost alternatives it ran; the others that can run.
    """

    member: Member
    label: str
    policy: RetryPolicy
    attempt: Attempt
    claim: float = 0.0
    most: float = 0.0
    gpu_claim: float = 0.0
    gpu_most: float = 0.0
    option: int = 0
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rest:
    """Until when a function rests, by the clock [s], and why."""

    until: float
    why: str


# ------------------------------------------------------------------------- decisions
@dataclass(frozen=True, slots=True)
class Hold:
    """A function waits until it is known why its node died, or until then."""

    member: Member
    until: float
    why: str


@dataclass(frozen=True, slots=True)
class Again:
    """A function is tried again.

    Attributes
    ----------
    member : (str, int)
        Which.
    at : float
        Not before then, by the clock [s].
    why : str
        What happened, for people.
    attempt : Attempt
        The try that is over.
    avoid : tuple of str
        Nodes where it is not to run if another can run it; the worst last.
    memory, gpu_memory : float or None
        What it claims from now on [MB]; None: as before.
    alone : bool
        Whether nothing else may run on its node meanwhile, so that it is known who is
        to blame if that dies.
    option : int or None
        As which of its cost alternatives it runs from now on; None: as before.
    """

    member: Member
    at: float
    why: str
    attempt: Attempt
    avoid: tuple[str, ...] = ()
    memory: float | None = None
    alone: bool = False
    gpu_memory: float | None = None
    option: int | None = None


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A function has failed for good; without an error, of what it raised last."""

    member: Member
    attempt: Attempt
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Quarantine:
    """A node is left out until then, as far as others can run what it would."""

    node: str
    until: float
    why: str


Decision = Hold | Again | GiveUp | Quarantine


def overdue(
    label: str, policy: RetryPolicy, waited: float | None, passed: float
) -> FunctionTimeoutError | None:
    """Why a function that has not ended is to fail, if a clock of its has run out.

    Parameters
    ----------
    label : str
        Its id as text.
    policy : RetryPolicy
        With the clocks.
    waited : float or None
        Seconds since it was ready to run; None if it is not, or runs.
    passed : float
        Seconds since its run began.
    """
    if policy.deadline is not None and passed >= policy.deadline:
        return FunctionTimeoutError(
            f"function {label} had not ended {passed:.3g} s after its run began; its "
            f"deadline is {policy.deadline:g} s",
            policy.deadline,
            "deadline",
        )
    most = policy.max_waiting
    if most is not None and waited is not None and waited >= most:
        return FunctionTimeoutError(
            f"function {label} has waited {waited:.3g} s for a node or a resource; its "
            f"max_waiting is {most:g} s",
            most,
            "waiting",
        )
    return None
