"""Every deliberate error of the library. Knows nothing but its own fields."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any


class HandoutError(Exception):
    """Base of every error that handout_dask raises on purpose."""


class GraphError(HandoutError):
    """The graph, or a function in it, is not well formed."""


class CycleError(GraphError):
    """The functions depend on each other in a circle.

    Attributes
    ----------
    cycle : tuple
        Ids along the circle, each depending on the one before it.
    """

    def __init__(self, message: str, cycle: tuple[Hashable, ...] = ()) -> None:
        super().__init__(message, cycle)
        self.cycle = cycle

    def __str__(self) -> str:
        return str(self.args[0])


class DuplicateFunctionError(GraphError):
    """Two functions of one graph bear the same id."""


class MissingProducerError(GraphError):
    """A function reads the result of a function that the graph does not have."""


class CostError(GraphError):
    """A cost or a capability has a value that makes no sense."""


class AllocationError(HandoutError):
    """An allocator, or a user's plan, breaks a rule of the problem."""


class UnsatisfiableError(AllocationError):
    """What is asked for can run nowhere.

    Attributes
    ----------
    refusals : dict
        ``{function id: {node name: (Lack, ...)}}``: the same as the text, as data.
    """

    def __init__(
        self, message: str, refusals: Mapping[Hashable, Mapping[str, Any]] | None = None
    ) -> None:
        super().__init__(message, refusals)
        self.refusals = dict(refusals or {})

    def __str__(self) -> str:
        return str(self.args[0])


class TrackerError(HandoutError):
    """A user's ResourceTracker raised when it was asked.

    Attributes
    ----------
    member : tuple of (str, int)
        For which function: the token of its run, and its index.
    """

    def __init__(self, message: str, member: tuple[str, int]) -> None:
        super().__init__(message, member)
        self.member = member

    def __str__(self) -> str:
        return str(self.args[0])


class FunctionError(HandoutError):
    """A function could not deliver, for a reason that is not its own exception.

    Raised for the dependents of a failed function (``__cause__`` is the original),
    for a bad index, a result that can't travel, and an exception that can't be
    rebuilt on this side.
    """


class FunctionTimeoutError(FunctionError):
    """A function took longer than it may.

    Attributes
    ----------
    seconds : float
        How long it may take [s].
    clock : {"running", "waiting", "deadline"}
        What took so long: one attempt to run (`Function.timeout`); the wait for a node
        or a resource since it was ready; all since its run began.
    """

    def __init__(
        self, message: str, seconds: float = 0.0, clock: str = "running"
    ) -> None:
        super().__init__(message, seconds, clock)
        self.seconds, self.clock = seconds, clock

    def __str__(self) -> str:
        return str(self.args[0])


class FunctionCrashedError(FunctionError):
    """A function ended the process that it ran in.

    Attributes
    ----------
    code : int or None
        The exit code of the process; negative is a signal. None is unknown.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message, code)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[0])


class UndeliverableError(FunctionError):
    """What a function reads or returned can't be brought to where it is needed."""


class RescheduledError(FunctionError):
    """A function asked to be run again, by distributed.Reschedule, too often."""


class NodeLostError(HandoutError):
    """A node went away, and what was bound to it can run nowhere else.

    Attributes
    ----------
    node : str
        Its name.
    since : float or None
        When it was lost, by the clock [s since the epoch].
    """

    def __init__(
        self, message: str, node: str = "", since: float | None = None
    ) -> None:
        super().__init__(message, node, since)
        self.node, self.since = node, since

    def __str__(self) -> str:
        return str(self.args[0])


class ResourceExhaustedError(HandoutError):
    """A function took more of a resource than it declared, and was ended for that.

    Attributes
    ----------
    resource : str
        Which.
    declared : float or None
        How much it declared, in the resource's unit; memory [MB]. Of what was held to
        nothing it is all that there is.
    measured : float or None
        How much it held when it was ended; None is unknown.
    """

    def __init__(
        self,
        message: str,
        resource: str = "",
        declared: float | None = None,
        measured: float | None = None,
    ) -> None:
        super().__init__(message, resource, declared, measured)
        self.resource, self.declared, self.measured = resource, declared, measured

    def __str__(self) -> str:
        return str(self.args[0])


class ResultReleasedError(HandoutError):
    """The result was not asked to be kept, or its run was released."""


class JournalError(HandoutError):
    """A journal, or a file of it, is torn, foreign, or of another version."""


class UntrustedError(JournalError):
    """A file that holds what is pickled was not written by this user."""


class RunCancelledError(HandoutError):
    """The run was cancelled before this function ended."""


class SupervisorError(HandoutError):
    """Nodes could not be started, or not be kept up.

    Attributes
    ----------
    exits : tuple of Exit
        What died, how and when, the oldest first.
    """

    def __init__(self, message: str, exits: tuple[Any, ...] = ()) -> None:
        super().__init__(message, exits)
        self.exits = exits

    def __str__(self) -> str:
        return str(self.args[0])
