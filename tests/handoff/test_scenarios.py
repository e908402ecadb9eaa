"""Each scenario of Handoff's tests, and the test of ours that holds it, or why none.

Handoff (Elixir, polvalente/handoff, commit 7f2f096) is the library that the same design
grew into on the BEAM; what its users can rely on is the least that ours can. A scenario
is known by the file and line of its test there. Those that are tested in this folder
bear that in a comment, and the scenario's name in theirs.
"""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PORTED = re.compile(r"# (\w+)_test\.exs:(\d+)$")

# How many tests each of its files has; streams make up the last two.
COUNTS = {
    "dag": 15,
    "distributed_executor": 20,
    "parallel_execution": 11,
    "concurrent_execution": 4,
    "resource": 11,
    "result_store": 6,
    "distributed_result_store": 8,
    "data_location_registry": 5,
    "pipeline": 28,
    "pipeline_distributed": 4,
}

# Scenarios that tests of ours held before, elsewhere. {(file, line): (name, tests)}
MAPPED = {
    ("dag", 11): (
        "creates an empty DAG",
        ["test_graph.py::test_an_empty_graph_is_a_graph"],
    ),
    ("dag", 18): (
        "adds a function to the DAG",
        [
            "test_graph.py::test_functions_are_kept_as_they_are",
            "test_graph.py::test_what_is_added_is_in_the_order",
        ],
    ),
    ("dag", 150): (
        "detects missing dependencies",
        ["test_graph.py::test_a_missing_producer_is_named_with_a_hint"],
    ),
    ("dag", 165): (
        "detects cycles in the graph",
        [
            "test_graph.py::test_all_of_a_cycle_is_named_and_nothing_else",
            "test_graph.py::test_a_graph_is_ordered_or_its_cycle_is_one",
        ],
    ),
    ("dag", 285): (
        "handles colocation directives",
        [
            "test_problem.py::test_with_function_makes_groups_that_share_a_pin",
            "runtime/test_execution.py::"
            "test_functions_run_together_where_one_is_with_another",
        ],
    ),
    ("distributed_executor", 32): (
        "can execute simple DAG on local node",
        ["runtime/test_execution.py::test_three_functions_in_any_order_of_insertion"],
    ),
    ("distributed_executor", 507): (
        "concurrent executes spill compute work across nodes",
        [
            "runtime/test_asks.py::test_four_runs_at_once_are_two_on_each_node",
            "runtime/test_isolation.py::test_runs_at_once_spill_over_to_the_next_node",
        ],
    ),
    # Its serialiser picks the entry; an index does so in ours.
    ("distributed_executor", 597): (
        "serializer can be used to fetch a single entry of a returning tuple",
        [
            "runtime/test_transfer.py::test_an_index_moves_its_element_alone",
            "runtime/test_execution.py::test_an_index_is_whatever_the_result_takes",
        ],
    ),
    ("distributed_executor", 796): (
        "executes a DAG with multiple dependencies",
        ["runtime/test_execution.py::test_a_diamond_gives_its_values"],
    ),
    ("distributed_executor", 838): (
        "handles a DAG with extra_args",
        ["runtime/test_execution.py::test_extra_args_and_kwargs_follow_the_results"],
    ),
    ("distributed_executor", 864): (
        "handles execution errors",
        [
            "runtime/test_errors.py::test_a_users_exception_arrives_itself",
            "runtime/test_errors.py::test_results_functions_and_execute_raise_it_too",
        ],
    ),
    ("parallel_execution", 20): (
        "independent functions start concurrently",
        ["runtime/test_control.py::test_independent_functions_run_at_once"],
    ),
    ("parallel_execution", 63): (
        "dependent functions start in order",
        ["runtime/test_control.py::test_a_function_starts_when_its_inputs_have_ended"],
    ),
    ("parallel_execution", 113): (
        "diamond DAG middle layer starts concurrently",
        ["runtime/test_control.py::test_a_function_starts_when_its_inputs_have_ended"],
    ),
    ("parallel_execution", 175): (
        "max_concurrency limits simultaneous ready functions",
        [
            "runtime/test_limits.py::"
            "test_max_concurrency_limits_the_functions_of_a_run_at_once",
            "runtime/test_limits.py::test_max_concurrency_lets_as_many_run_as_it_says",
        ],
    ),
    # What goes on after a failure is the user's choice: on_failure.
    ("parallel_execution", 239): (
        "parallel branch failure cancels siblings and skips sink",
        [
            "runtime/test_control.py::test_stop_ends_everything_with_the_first_failure",
            "runtime/test_control.py::test_finish_finishes_what_is_independent",
        ],
    ),
    ("parallel_execution", 280): (
        "retries exhausted returns function_failed",
        ["runtime/test_limits.py::test_a_policy_tries_no_more_than_it_says"],
    ),
    ("parallel_execution", 305): (
        "per-function max_retries overrides execute-level default",
        ["runtime/test_limits.py::test_a_functions_policy_goes_before_the_executors"],
    ),
    ("concurrent_execution", 30): (
        "executes two simple DAGs concurrently with data isolation",
        [
            "runtime/test_isolation.py::"
            "test_runs_with_the_same_ids_and_other_code_never_mix"
        ],
    ),
    # Theirs is a time-out after 50 ms; ours an error at once.
    ("concurrent_execution", 152): (
        "get_result returns :not_found for non-existent dag_id or item_id",
        [
            "runtime/test_execution.py::test_results_are_a_mapping_over_the_functions",
            "runtime/test_live.py::"
            "test_a_run_that_is_not_known_or_not_detached_cannot_be_attached",
        ],
    ),
    ("concurrent_execution", 180): (
        "allocate_and_claim spills to the next node when the first is full",
        [
            "runtime/test_asks.py::test_four_runs_at_once_are_two_on_each_node",
            "test_tracker.py::"
            "test_requests_spill_to_the_next_node_when_the_first_is_full",
        ],
    ),
    ("resource", 21): (
        "automatically releases resources when process dies",
        [
            "runtime/test_cluster.py::"
            "test_a_client_that_dies_takes_its_runs_and_claims_along",
            "test_dispatch.py::"
            "test_lost_node_moves_its_functions_and_returns_what_they_held",
        ],
    ),
    ("resource", 135): (
        "registers node with capabilities",
        ["test_tracker.py::test_a_registered_node_shows_what_it_has"],
    ),
    ("resource", 145): (
        "checks resource availability",
        ["test_tracker.py::test_available_is_whether_all_of_a_request_is_free"],
    ),
    ("resource", 162): (
        "requests and releases resources",
        ["test_tracker.py::test_claims_are_released_in_parts_or_whole"],
    ),
    ("resource", 191): (
        "handles resource request failure",
        ["test_tracker.py::test_a_refused_request_changes_nothing"],
    ),
    ("resource", 206): (
        "spills to the next node after the first is saturated",
        [
            "test_tracker.py::"
            "test_requests_spill_to_the_next_node_when_the_first_is_full"
        ],
    ),
    # A run waits for room instead; only the tracker says no.
    ("resource", 239): (
        "returns error when no node has remaining capacity",
        [
            "test_tracker.py::"
            "test_requests_spill_to_the_next_node_when_the_first_is_full"
        ],
    ),
    ("resource", 257): (
        "splits a multi-function claim across nodes in one call",
        [
            "test_tracker.py::test_one_claim_may_span_nodes_and_is_released_at_once",
            "allocators/test_allocators.py::"
            "test_first_available_spills_to_the_next_node_when_the_first_is_full",
        ],
    ),
    ("resource", 291): (
        "releases claimed resources when the claimant process dies",
        [
            "runtime/test_cluster.py::"
            "test_a_client_that_dies_takes_its_runs_and_claims_along"
        ],
    ),
    ("resource", 332): (
        "first_available allocation strategy",
        [
            "allocators/test_allocators.py::"
            "test_first_available_takes_the_first_node_that_is_big_enough"
        ],
    ),
    ("result_store", 20): (
        "stores and retrieves values for a specific DAG",
        [
            "runtime/test_isolation.py::"
            "test_runs_with_the_same_ids_and_other_code_never_mix"
        ],
    ),
    ("result_store", 44): (
        "clears values only for the specified DAG",
        [
            "runtime/test_isolation.py::"
            "test_results_are_released_when_their_run_is_and_only_then"
        ],
    ),
    ("result_store", 64): (
        "fetch_remote fails for unknown values within a specific DAG",
        ["runtime/test_execution.py::test_results_are_a_mapping_over_the_functions"],
    ),
    ("distributed_result_store", 41): (
        "get_with_timeout is scoped by DAG ID",
        [
            "handoff/test_results.py::"
            "test_get_returns_not_found_for_data_in_a_different_dag"
        ],
    ),
    ("distributed_result_store", 129): (
        "get_with_timeout returns result when available",
        ["runtime/test_control.py::test_status_and_progress_follow_the_run"],
    ),
    ("distributed_result_store", 134): (
        "get_with_timeout times out when result not available",
        ["runtime/test_control.py::test_status_and_progress_follow_the_run"],
    ),
    ("distributed_result_store", 139): (
        "get_with_timeout waits for result to be available",
        [
            "runtime/test_isolation.py::"
            "test_results_can_be_asked_for_by_many_threads_at_once"
        ],
    ),
}

STREAMS = "streams of items through a graph are not in scope"
INPUT = "there is no type of function for inputs: literals are extra_args or kwargs"
INLINE = "inline functions come later"
EDGES = "serialisers of single edges come later"

# {reason: {file: [(line, name)]}}
LEFT_OUT = {
    STREAMS: {
        "dag": [
            (34, "defaults streaming fields on Function struct"),
            (47, "accepts named-capture and MFA :init"),
            (69, "rejects anonymous-function :init"),
        ],
        "pipeline": [
            (94, "starts a pipeline and returns a handle without blocking"),
            (112, "round-trips items through a multi-node DAG in push order"),
            (161, "left and right overlap concurrently and finish before sink"),
            (227, "does not start a stage for :inline nodes"),
            (261, "re-evaluates inline once per dependent"),
            (305, "resolves nested inlines through leaf producers"),
            (344, "init runs exactly once while N items are processed"),
            (389, "output order matches push order under concurrent pushes"),
            (432, "stop/1 tears down all stage processes"),
            (460, "starts N workers each running :init once"),
            (513, "fan-in with parallel sink does not double-fire or lose deps"),
            (551, "aggregator output order matches push order"),
            (582, "throughput improves with parallelism > 1"),
            (628, "batch_size flushes at N items with one :code call"),
            (662, "batch_timeout flushes a partial batch"),
            (697, "batch_timeout alone flushes when batch_size is nil"),
            (732, "batch_size wins when both knobs are set"),
            (768, "batching with parallelism > 1 forms per-worker batches"),
            (808, "batching after an upstream parallelism > 1 node"),
            (843, "mismatched batched :code result length error-tags items"),
            (883, "code exception error-tags the item"),
            (913, "error bypasses downstream :code"),
            (949, "diamond: one branch failure completes item"),
            (990, "Stage process EXIT still tears down the whole pipeline"),
            (1059, "partial aggregator join times out"),
            (1083, "stage fan-in join timeout emits error"),
            (1131, "stop/1 while items are in flight releases claims once"),
            (1167, "caller death stops the pipeline and releases claims"),
        ],
        "pipeline_distributed": [
            (20, "claims once at start and releases exactly once at stop"),
            (62, "allocator spills a stage to node_2"),
            (97, "concurrent pushes preserve order across cost-allocated nodes"),
            (145, "remote stage death tears down the pipeline"),
        ],
    },
    INPUT: {
        "dag": [
            (81, "accepts type: :input with nil code"),
            (199, "rejects type: :input with non-empty args"),
            (218, "rejects type: :input with non-nil cost, code, or init"),
        ],
    },
    INLINE: {
        "dag": [
            (95, "rejects :inline with :init"),
            (109, "rejects :inline with :node"),
        ],
        "distributed_executor": [
            (274, "executes inline function multiple times"),
        ],
    },
    EDGES: {
        "dag": [(237, "expands Handoff.Function.Argument into synthetic nodes")],
        "distributed_executor": [
            (551, "injects source_node and target_node for serializer"),
            (650, "injects source_node and target_node for deserializer"),
            (681, "serializes when nodes are different"),
        ],
    },
    "arguments as one list come later": {
        "distributed_executor": [(236, "can choose to pass arguments as a list")],
    },
    "a client holds no copies of results that could be brought up to date": {
        "distributed_result_store": [(71, "synchronize is scoped by DAG ID")],
    },
}


def _tests_of(path):
    """``{name of a test: line}`` of those that a file defines."""
    tree = ast.parse(path.read_text())
    return {node.name: min([node.lineno, *(d.lineno for d in node.decorator_list)])
            for node in tree.body
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }  # fmt: skip


def _ported():
    """``[(scenario or None, file and name of the test)]`` of this folder."""
    found = []
    for path in sorted(HERE.glob("test_*.py")):
        if path == Path(__file__):
            continue
        lines = path.read_text().splitlines()
        for name, line in _tests_of(path).items():
            comment = PORTED.match(lines[line - 2])
            scenario = (comment[1], int(comment[2])) if comment else None
            found.append((scenario, f"{path.name}::{name}"))
    return found


def test_every_test_of_this_folder_is_a_scenario():
    assert [test for scenario, test in _ported() if scenario is None] == []


def _id(scenario):
    file, line = scenario
    return f"{file}_test.exs:{line} {MAPPED[scenario][0]}"


@pytest.mark.parametrize("scenario", MAPPED, ids=_id)
def test_the_tests_that_hold_a_scenario_exist(scenario):
    _, tests = MAPPED[scenario]
    assert tests
    for test in tests:
        path, _, name = test.partition("::")
        assert name in _tests_of(ROOT / "tests" / path)


def test_every_scenario_is_held_once_or_left_out():
    answers = list({scenario for scenario, _ in _ported()})
    answers += MAPPED
    answers += [
        (file, line)
        for files in LEFT_OUT.values()
        for file, rows in files.items()
        for line, _ in rows
    ]
    assert len(set(answers)) == len(answers)
    counts = {file: sum(f == file for f, _ in answers) for file in COUNTS}
    assert (counts, len(answers)) == (COUNTS, 112)
