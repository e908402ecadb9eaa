"""Reports and drawings as pages, opened in a real browser that has no network."""

import pytest

import handout_dask as hd
from handout_dask.events import Span
from handout_dask.report import Report

ATTACK = "<img src=x onerror='window.hacked=1'>"
NAMES = [
    ATTACK, "\"';--</script><script>window.hacked=1</script>", "two\nlines\x1b[2J\0",
    "x" * 10_000, "🦆" * 50, ("a tuple", ATTACK), "@label{safe} $index {{7*7}}", "",
    "\u202eright to left", "$$x^2$$ and \\[y\\]", "]]><b>", 7,
]  # fmt: skip


def hostile(word=ATTACK):
    """What became of a graph in which all that a user names is meant to do harm."""
    functions = [
        hd.Function(
            id, [NAMES[k - 1]] if k % 3 else [], name=f"{word}{k}",
            cost={"cpu_time": 1000, "memory": 50, f"{word}r": 1, "$$r$$": 1},
        )
        for k, id in enumerate(NAMES)
    ]  # fmt: skip
    has = {"cpu": 2, f"{word}r": 2, "$$r$$": 2, "memory": 1000}
    nodes = [hd.Node("$$n$$", has, price=1.0), hd.Node(word, has, speed=2.0)]
    plan = hd.plan(hd.Graph(functions, f"{word}g"), nodes)
    spans = []
    for placed in plan:
        spans.append(
            Span(placed.function, placed.node, placed.start, placed.end, peak_mb=20.0)
        )
    last = spans[-1]
    spans[-1] = Span(
        last.function, last.node, last.start, last.end, 1, "failed", error=f"E: {word}"
    )
    return Report.of(plan, spans, replans=[(0.5, f"{word}w")])


def good(n):
    graph = hd.Graph(
        [
            hd.Function(i, [i - 5] if i >= 5 else [], name=f"work-{i % 3}")
            for i in range(n)
        ]
    )
    plan = hd.plan(graph, [hd.Node(f"n{j}", {"cpu": 2}) for j in range(3)])
    return Report.of(plan, hd.simulate(plan, noise=0.2, fail=[("n0", 2.5)]))


@pytest.fixture
def page(opened, tmp_path):
    """``page(write)``: what `write(path)` wrote, in a browser without a network."""

    def page(write, **how):
        path = tmp_path / "page.html"
        write(path)
        context = opened(offline=True, **how)
        return path, context

    return page


def rows(shown, name):
    """How many rows the largest source of a figure of that name has."""
    return shown.evaluate(
        f"Math.max(...model('{name}').renderers.map(r => r.data_source.length))"
    )


def test_a_report_of_hostile_names_runs_nothing_and_shows_everything(page):
    report = hostile()
    path, context = page(report.write)
    with context as shown:
        shown.open(path.as_uri())
        assert rows(shown, "handout-plan") >= len(NAMES)
        assert rows(shown, "handout-graph") >= len(NAMES)
        body = shown.page.locator("body").inner_text()
        for told in (ATTACK, f"E: {ATTACK}", f"{ATTACK}w", "Environment", "numpy"):
            assert told in body
        assert shown.page.locator("body img").count() == 0
        assert shown.page.title() == f"Report “{ATTACK}g”"
        names = shown.evaluate("Array.from(model('handout-measured').source.data.name)")
        assert f"{ATTACK}1" in names


def test_drawings_of_hostile_names_run_nothing(page):
    report = hostile()
    for thing in (report.plan.problem.graph, report):
        path, context = page(thing.visualize)
        with context as shown:
            shown.open(path.as_uri())
            assert rows(shown, "handout-graph") > 0


def test_reprs_of_hostile_names_run_nothing(page):
    report = hostile()
    things = report.plan.problem.graph, report.plan, report.plan.problem.cluster, report
    text = "".join(thing._repr_html_() for thing in things)
    path, context = page(lambda path: path.write_text(text, encoding="utf-8"))
    with context as shown:
        shown.page.goto(path.as_uri())
        loaded = "[...document.images].map(i => i.complete && i.naturalWidth > 0)"
        assert shown.page.evaluate(loaded) == [True] * 3
        assert ATTACK in shown.page.locator("body").inner_text()


@pytest.mark.parametrize("n", [3, pytest.param(300, marks=pytest.mark.slow)])
def test_a_report_has_every_part_and_can_be_asked(page, n):
    report = good(n)
    path, context = page(report.write, color_scheme="dark")
    with context as shown:
        shown.open(path.as_uri())
        titles = shown.page.locator("h2").all_inner_texts()
        assert titles == [
            "Plan against what happened", "Graph", "Resources", "Nodes", "Failures",
            "Functions", "Cost", "Environment",
        ]  # fmt: skip
        assert rows(shown, "handout-plan") >= n
        assert (
            n == 3 or report.retries > 0
        )  # their results were lost, yet they are done once
        done, total = (
            shown.evaluate(f"Array.from(model('handout-measured').source.data.{name})")
            for name in ("done", "total")
        )
        assert done == total
        assert sum(total) == n
        ground = "getComputedStyle(document.body).backgroundColor"
        assert shown.page.evaluate(ground) == "rgb(21, 24, 28)"
        chart = "getComputedStyle(document.querySelector('.chart')).filter"
        assert shown.page.evaluate(chart).startswith("invert")  # it is dark too
    assert len(path.read_bytes()) < 8_000_000
