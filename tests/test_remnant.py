"""What is left of a run, and whether functions are still the same."""

import functools
import operator

from hypothesis import given
from hypothesis import strategies as st

from handout_dask import Function, Graph
from handout_dask.fingerprints import chained, content, of_code
from handout_dask.remnant import remnant


@st.composite
def some_links(draw):
    n = draw(st.integers(0, 9))
    functions = [
        Function(i, draw(st.lists(st.integers(0, i - 1), max_size=3)) if i else [])
        for i in range(n)
    ]
    return Graph(functions).links()


@given(some_links(), st.data())
def test_what_runs_has_its_inputs_and_nothing_runs_that_was_kept(links, data):
    n = len(links.functions)
    some = st.sets(st.integers(0, n - 1)) if n else st.just(set())
    kept, has = data.draw(some), data.draw(some)
    run, load = remnant(links, kept, has)
    assert not run & has
    assert load <= has
    assert kept <= run | load
    reads = {i: set(links.producer[links.ptr[i] : links.ptr[i + 1]]) for i in range(n)}
    read = set().union(*(reads[i] for i in run)) if run else set()
    assert read <= run | load
    sinks = set(range(n)) - set(links.producer)
    assert run | load <= kept | read | sinks  # nothing is done in vain
    assert sinks - has <= run


def test_with_nothing_kept_all_runs():
    links = Graph([Function(0), Function(1, [0]), Function(2)]).links()
    assert remnant(links, set(), set()) == ({0, 1, 2}, set())


# -------------------------------------------------------------------- fingerprints
def names(*functions):
    graph = Graph(functions)
    links = graph.links()
    own = [content(f, [b"code of %s" % f.name.encode()], None) for f in links.functions]
    return dict(zip(graph.order(), chained(links, own), strict=True))


def test_a_change_reaches_what_depends_on_it_and_nothing_else():
    before = names(Function("a"), Function("b", ["a"]), Function("c"))
    after = names(Function("a", name="other"), Function("b", ["a"]), Function("c"))
    assert before["c"] == after["c"]
    assert before["a"] != after["a"]
    assert before["b"] != after["b"]


def test_another_index_is_another_function():
    a = Function("a")
    assert (
        names(a, Function("b", [("a", 0)]))["b"]
        != names(a, Function("b", [("a", 1)]))["b"]
    )


def test_ids_that_look_alike_have_names_of_their_own():
    class Alike:
        def __repr__(self):
            return "alike"

    assert len(set(names(Function(Alike()), Function(Alike())).values())) == 2


def made(source):
    space = {}
    exec(source, space)
    return space["f"]


def test_code_is_the_same_wherever_it_is_written():
    assert of_code(made("def f(x): return x + 1")) == of_code(
        made("\n\ndef f(x):\n    # a remark\n    return x + 1")
    )


def test_other_code_is_another_function():
    sources = [
        "def f(x): return x + 1",
        "def f(x): return x + 2",
        "def f(x): return x - 1",
        "def f(x): return x.a",
        "def f(x): return x in {'a', 'b'}",
        "def f(x): return [y + 1 for y in x]",
        "def f(x): return [y + 2 for y in x]",
    ]
    assert len({of_code(made(source)) for source in sources}) == len(sources)


def test_code_is_seen_through_partials_methods_instances_and_decorators():
    def deco(inner):
        return functools.wraps(inner)(lambda *x: inner(*x))

    def bare(inner):
        return lambda *x: inner(*x)

    class Call:
        def __init__(self, f):
            self.f = f

        def __call__(self):
            return 1

    one, two = made("def f(x): return 1"), made("def f(x): return 2")
    for wrap in (lambda f: functools.partial(f, 1), deco, bare):
        assert of_code(wrap(one)) != of_code(wrap(two))
    assert of_code(operator.add) != of_code(operator.sub)
    assert of_code(Call(1)) == of_code(Call(2))  # its fields are in its pickle


def module_of(source):
    space = {"__name__": "some.module"}
    exec(source, space)
    return space["f"]


MODULE = """
TABLE = {1: [2.5, {'a', 'b'}]}
def helper(x): return x
class Base:
    def base(self): return 1
class Kind(Base):
    field = 3
    def method(self): return 4
def f(x=1, *, scale=2):
    def inner(): return TABLE
    return helper(x) * scale, Kind, inner()
"""


def test_what_code_names_of_its_package_counts():
    same = of_code(module_of(MODULE))
    assert of_code(module_of("# moved\n" + MODULE)) == same
    changes = [
        ("x=1", "x=2"), ("scale=2", "scale=3"), ("2.5", "2.6"), ("'b'", "'c'"),
        ("return x\n", "return -x\n"), ("field = 3", "field = 4"),
        ("return 4", "return 5"), ("return 1\n", "return 2\n"),
    ]  # fmt: skip
    others = {of_code(module_of(MODULE.replace(*change))) for change in changes}
    assert len(others - {same}) == len(changes)


def test_recursive_code_has_a_fingerprint():
    def again(n):
        return again(n - 1) if n else 0

    assert of_code(again)
