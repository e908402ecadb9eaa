"""Laws of one function: what its arguments mean, and what is refused."""

import functools
import pickle

import numpy as np
import pytest

from handout_dask import Cost, Function, GraphError, RetryPolicy, with_function
from handout_dask.function import WithFunction


@pytest.mark.parametrize(
    ("args", "inputs"),
    [
        ((), ()),
        (["a", "b"], (("a", None), ("b", None))),
        ([("a", 1)], (("a", 1),)),
        ([("a", None)], (("a", None),)),
        ([("a", "key"), ("a", slice(0, 2))], (("a", "key"), ("a", slice(0, 2)))),
        ([(("t", 1), None)], ((("t", 1), None),)),
        ([(("t", 1), 0)], ((("t", 1), 0),)),
        ([("t", 1, 2)], ((("t", 1, 2), None),)),
        ([1, "1", ("1",)], ((1, None), ("1", None), (("1",), None))),
        (range(2), ((0, None), (1, None))),
    ],
)
def test_a_pair_is_producer_and_index_and_all_else_an_id(args, inputs):
    assert Function("f", args).inputs == inputs


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"args": "abc"}, "args must be a list or tuple, not 'abc'; did you mean ['ab"),
        ({"args": b"abc"}, "args must be a list or tuple, not b'abc'"),
        ({"args": 5}, "args must be a list or tuple, not 5; did you mean [5]?"),
        ({"args": {"a"}}, "args must be a list or tuple, not {'a'}"),
        ({"extra_args": "abc"}, "extra_args must be a list or tuple, not 'abc'"),
        ({"extra_args": np.zeros(2)}, "extra_args must be a list or tuple"),
        ({"code": 5}, "code 5 is not callable"),
        ({"code": "print"}, "code 'print' is not callable"),
        ({"kwargs": [1]}, "kwargs must be a dict with text keys, not [1]"),
        ({"kwargs": {1: 2}}, "kwargs must be a dict with text keys, not {1: 2}"),
        ({"cost": []}, "cost is an empty list of alternatives"),
        ({"cost": 5}, "cost must be a mapping such as {'memory': 100}, not 5"),
        ({"cost": [{}, 5]}, "cost must be a mapping"),
        ({"node": 5}, "node must be a node's name or with_function(id), not 5"),
        ({"retry": 3}, "retry must be a RetryPolicy, not 3"),
        ({"durable": "no"}, "durable='no' must be True or False"),
        ({"name": 5}, "name must be a text, not 5"),
        ({"node": with_function([1])}, "with_function id [1] is not hashable"),
    ],
)
def test_a_malformed_field_is_an_error_that_names_the_function(fields, text):
    with pytest.raises(GraphError) as caught:
        Function("f", **fields)
    assert str(caught.value).startswith("function 'f': ")
    assert text in str(caught.value)


def test_an_id_must_be_hashable():
    with pytest.raises(
        GraphError, match=r"^function id \['f'\] is not hashable; use a"
    ):
        Function(["f"])


@pytest.mark.parametrize(
    "id", ["f", 1, 1.5, None, True, ("a", 1), frozenset({1}), b"x"]
)
def test_any_hashable_is_an_id(id):
    assert Function(id).id == id


def test_results_are_none_until_executed():
    assert Function("f").results is None


def test_one_cost_or_alternatives():
    one, two = {"cpu_time": 5}, {"gpu_time": 1, "code": abs}
    assert Function("f").alternatives == (Cost(),)
    assert Function("f", cost=one).alternatives == (Cost(one),)
    assert Function("f", cost=[one, two]).alternatives == (Cost(one), Cost(two))


def test_an_alternative_may_bring_its_own_code():
    f = Function("f", code=min, cost=[{"cpu_time": 5}, {"gpu_time": 1, "code": max}])
    assert (f.variant(0), f.variant(1)) == (min, max)


def _helper():
    return 1


class _Callable:
    def __call__(self):
        return 1


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (None, "function"),
        (_helper, "_helper"),
        (_Callable.__call__, "_Callable.__call__"),
        (_Callable(), "_Callable"),
        (functools.partial(_helper), "_helper"),
        (functools.partial(functools.partial(_helper)), "_helper"),
        (lambda: 1, "<lambda>"),
        (len, "len"),
        (np.sin, "sin"),
    ],
)
def test_the_default_name_is_that_of_the_code(code, name):
    assert Function("f", code=code).name == name


def test_a_local_function_is_named_without_where_it_was_made():
    def local():
        return 1

    assert Function("f", code=local).name == "local"
    assert Function("f", code=local, name="mine").name == "mine"


def test_a_function_is_frozen_and_keeps_no_list_of_the_caller():
    args, extra, kwargs = ["a"], [1], {"x": 1}
    f = Function("f", args, abs, extra_args=extra, kwargs=kwargs)
    args.append("b"), extra.append(2), kwargs.update(y=2)
    assert (f.args, f.extra_args, f.kwargs) == (("a",), (1,), {"x": 1})
    with pytest.raises(AttributeError):
        f.id = "g"


def test_a_function_is_picklable():
    f = Function(("f", 1), ["a"], abs, kwargs={"x": 1}, cost=[{"cpu": 1}, {"x": True}])
    g = pickle.loads(pickle.dumps(f))
    assert (g.id, g.args, g.code, g.kwargs, g.cost) == (
        f.id,
        f.args,
        f.code,
        f.kwargs,
        f.cost,
    )


def test_with_function_is_a_value():
    assert with_function("a") == WithFunction("a") != with_function("b")


@pytest.mark.parametrize("attempts", [0, -1, 1.5, True, "2", None])
def test_attempts_of_a_retry_policy_are_a_whole_number_above_0(attempts):
    with pytest.raises(
        GraphError, match=f"^RetryPolicy: attempts={attempts!r} must be"
    ):
        RetryPolicy(attempts)


def test_a_function_is_tried_once_by_default():
    assert (RetryPolicy().attempts, RetryPolicy(3).attempts) == (1, 3)
