"""Run graphs of functions with costs on the nodes of a Dask cluster, by plan.

Names are loaded when they are first used, so that importing the package is cheap and
the pure parts work without Dask.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from handout_dask.allocators import Allocator as Allocator
    from handout_dask.allocators import allocator as allocator
    from handout_dask.allocators.objective import objective as objective
    from handout_dask.attempts import attempt as attempt
    from handout_dask.costs import Cost as Cost
    from handout_dask.errors import AllocationError as AllocationError
    from handout_dask.errors import CostError as CostError
    from handout_dask.errors import CycleError as CycleError
    from handout_dask.errors import DuplicateFunctionError as DuplicateFunctionError
    from handout_dask.errors import FunctionCrashedError as FunctionCrashedError
    from handout_dask.errors import FunctionError as FunctionError
    from handout_dask.errors import FunctionTimeoutError as FunctionTimeoutError
    from handout_dask.errors import GraphError as GraphError
    from handout_dask.errors import HandoutError as HandoutError
    from handout_dask.errors import JournalError as JournalError
    from handout_dask.errors import MissingProducerError as MissingProducerError
    from handout_dask.errors import NodeLostError as NodeLostError
    from handout_dask.errors import RescheduledError as RescheduledError
    from handout_dask.errors import ResourceExhaustedError as ResourceExhaustedError
    from handout_dask.errors import ResultReleasedError as ResultReleasedError
    from handout_dask.errors import RunCancelledError as RunCancelledError
    from handout_dask.errors import SupervisorError as SupervisorError
    from handout_dask.errors import TrackerError as TrackerError
    from handout_dask.errors import UndeliverableError as UndeliverableError
    from handout_dask.errors import UnsatisfiableError as UnsatisfiableError
    from handout_dask.errors import UntrustedError as UntrustedError
    from handout_dask.function import Function as Function
    from handout_dask.function import with_function as with_function
    from handout_dask.graph import Graph as Graph
    from handout_dask.node import Cluster as Cluster
    from handout_dask.node import Node as Node
    from handout_dask.pins import wait as wait
    from handout_dask.plans import Plan as Plan
    from handout_dask.plans import check_plan as check_plan
    from handout_dask.plans import plan as plan
    from handout_dask.problem import Problem as Problem
    from handout_dask.report import Report as Report
    from handout_dask.restarts import RestartPolicy as RestartPolicy
    from handout_dask.retry import RetryPolicy as RetryPolicy
    from handout_dask.runtime.continuing import resume as resume
    from handout_dask.runtime.devices import array_module as array_module
    from handout_dask.runtime.executor import Executor as Executor
    from handout_dask.runtime.installed import cost as cost
    from handout_dask.runtime.installed import install as install
    from handout_dask.runtime.run import Run as Run
    from handout_dask.runtime.supervisor import Supervisor as Supervisor
    from handout_dask.scaling import Elastic as Elastic
    from handout_dask.simulation import simulate as simulate
    from handout_dask.tracker import ResourceTracker as ResourceTracker
    from handout_dask.tracker import StaticTracker as StaticTracker

_MODULES = {
    "allocators": ("Allocator", "allocator"),
    "allocators.objective": ("objective",),
    "attempts": ("attempt",),
    "costs": ("Cost",),
    "errors": (
        "AllocationError",
        "CostError",
        "CycleError",
        "DuplicateFunctionError",
        "FunctionCrashedError",
        "FunctionError",
        "FunctionTimeoutError",
        "GraphError",
        "HandoutError",
        "JournalError",
        "MissingProducerError",
        "NodeLostError",
        "RescheduledError",
        "ResourceExhaustedError",
        "ResultReleasedError",
        "RunCancelledError",
        "SupervisorError",
        "TrackerError",
        "UndeliverableError",
        "UnsatisfiableError",
        "UntrustedError",
    ),
    "function": ("Function", "with_function"),
    "graph": ("Graph",),
    "node": ("Cluster", "Node"),
    "pins": ("wait",),
    "plans": ("Plan", "check_plan", "plan"),
    "problem": ("Problem",),
    "report": ("Report",),
    "restarts": ("RestartPolicy",),
    "retry": ("RetryPolicy",),
    "runtime.devices": ("array_module",),
    "runtime.continuing": ("resume",),
    "runtime.executor": ("Executor",),
    "runtime.installed": ("cost", "install"),
    "runtime.run": ("Run",),
    "runtime.supervisor": ("Supervisor",),
    "scaling": ("Elastic",),
    "simulation": ("simulate",),
    "tracker": ("ResourceTracker", "StaticTracker"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
