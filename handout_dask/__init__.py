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
    from handout_dask.costs import Cost as Cost
    from handout_dask.errors import AllocationError as AllocationError
    from handout_dask.errors import CostError as CostError
    from handout_dask.errors import CycleError as CycleError
    from handout_dask.errors import DuplicateFunctionError as DuplicateFunctionError
    from handout_dask.errors import FunctionError as FunctionError
    from handout_dask.errors import GraphError as GraphError
    from handout_dask.errors import HandoutError as HandoutError
    from handout_dask.errors import MissingProducerError as MissingProducerError
    from handout_dask.errors import NodeLostError as NodeLostError
    from handout_dask.errors import ResourceExhaustedError as ResourceExhaustedError
    from handout_dask.errors import ResultReleasedError as ResultReleasedError
    from handout_dask.errors import RunCancelledError as RunCancelledError
    from handout_dask.errors import TrackerError as TrackerError
    from handout_dask.errors import UnsatisfiableError as UnsatisfiableError
    from handout_dask.function import Function as Function
    from handout_dask.function import with_function as with_function
    from handout_dask.graph import Graph as Graph
    from handout_dask.node import Cluster as Cluster
    from handout_dask.node import Node as Node
    from handout_dask.plans import Plan as Plan
    from handout_dask.plans import check_plan as check_plan
    from handout_dask.plans import plan as plan
    from handout_dask.problem import Problem as Problem
    from handout_dask.report import Report as Report
    from handout_dask.retry import RetryPolicy as RetryPolicy
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
    "costs": ("Cost",),
    "errors": (
        "AllocationError",
        "CostError",
        "CycleError",
        "DuplicateFunctionError",
        "FunctionError",
        "GraphError",
        "HandoutError",
        "MissingProducerError",
        "NodeLostError",
        "ResourceExhaustedError",
        "ResultReleasedError",
        "RunCancelledError",
        "TrackerError",
        "UnsatisfiableError",
    ),
    "function": ("Function", "with_function"),
    "graph": ("Graph",),
    "node": ("Cluster", "Node"),
    "plans": ("Plan", "check_plan", "plan"),
    "problem": ("Problem",),
    "report": ("Report",),
    "retry": ("RetryPolicy",),
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
