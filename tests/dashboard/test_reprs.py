"""Laws of what notebooks show: static, bounded, and no text of users' acts in it."""

import html
from base64 import b64decode
from html.parser import HTMLParser

import pytest

import handout_dask as hd
from handout_dask.dashboard.offline import report_page
from handout_dask.dashboard.progressbar import Bar
from handout_dask.events import Span
from handout_dask.pace import Stand
from handout_dask.report import Report

ATTACKS = [
    "<img src=x onerror=alert(1)>",
    "</td></table><script>alert(1)</script>",
    "\"' onmouseover='alert(1)'",
    "&lt;b&gt; &amp; ]]>",
    "]]><svg onload=alert(1)>",
    "two\nlines\r\x1b[2J\x00\ud800\u202e",
    "x" * 10_000,
    "🦆" * 80,
    "javascript:alert(1)",
    "",
]
TAGS = {
    "div", "table", "tr", "td", "th", "img", "details", "summary", "b", "span", "a",
}  # fmt: skip
ATTRIBUTES = {"style", "alt", "width", "src", "colspan", "href", "target"}


class Parts(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text.append(data)

    @property
    def svgs(self):
        prefix = "data:image/svg+xml;base64,"
        sources = [value for name, value in self.attributes if name == "src"]
        assert all(source.startswith(prefix) for source in sources)
        return [b64decode(source.removeprefix(prefix)).decode() for source in sources]


def shown(word):
    """All that is shown of a graph and what became of it, with users' text in it."""
    ids = [f"{word}1", (word, 2), f"{word}3"]
    node = f"{word}n"
    functions = [
        hd.Function(ids[0], cost={"cpu_time": 100, "memory": 50}, name=f"{word}f"),
        hd.Function(ids[1], [ids[0]], cost={"cpu_time": 200, f"{word}r": 1}),
        hd.Function(ids[2], [(ids[1], None)], cost={"cpu_time": 100}),
    ]
    graph = hd.Graph(functions, f"{word}g")
    has = {"cpu": 2, f"{word}r": 2, f"{word}b": True}
    cluster = hd.Cluster([hd.Node(node, has, price=3600.0), hd.Node("n1")])
    plan = hd.plan(graph, cluster)
    spans = [
        Span(ids[0], node, 0.0, 0.2, 1, "failed", error=f"ValueError: {word}e"),
        Span(ids[0], node, 0.2, 0.4, 2),
        Span(ids[1], node, 0.4, 0.5),
    ]
    report = Report.of(plan, spans, replans=[(0.3, f"{word}w")])
    return graph, cluster, plan, report


@pytest.fixture(scope="module")
def plain():
    return [Parts(thing._repr_html_()) for thing in shown("plain")]


@pytest.mark.parametrize("word", ATTACKS, ids=range(len(ATTACKS)))
def test_whatever_users_call_things_the_markup_stays_the_same(word, plain):
    for thing, benign in zip(shown(word), plain, strict=True):
        page = thing._repr_html_()
        parts = Parts(page)
        assert parts.tags == benign.tags
        assert [name for name, _ in parts.attributes] == [
            name for name, _ in benign.attributes
        ]
        page.encode()
        assert len(page) < 40_000


def test_there_are_no_scripts_and_nothing_is_fetched(plain):
    for parts in plain:
        assert {*parts.tags} <= TAGS
        assert {name for name, _ in parts.attributes} <= ATTRIBUTES
        assert not any("url(" in value for _, value in parts.attributes)


def test_they_carry_their_drawings(plain):
    assert [len(parts.svgs) for parts in plain] == [1, 0, 1, 1]
    for parts in plain:
        for svg in parts.svgs:
            assert "<script" not in svg
            assert "http://www.w3.org/2000/svg" in svg


def test_they_tell_what_there_is():
    graph, cluster, plan, report = shown("x")
    text = "".join(Parts(graph._repr_html_()).text)
    for told in ("Graph “xg”", "functions3", "edges2", "400 ms", "memory", "50 MB"):
        assert told.replace("400 ms", "0.4 s") in text
    text = "".join(Parts(cluster._repr_html_()).text)
    for told in ("2 nodes", "xn", "xr 2", "xb", "3,600", "125 MB/s", "unlimited"):
        assert told in text
    text = "".join(Parts(plan._repr_html_()).text)
    for told in ("3 functions on 2 nodes", "makespan0.4 s", "money0.4", "Time("):
        assert told in text
    text = "".join(Parts(report._repr_html_()).text)
    for told in ("statusfailed", "0.5 s, planned 0.4 s", "ValueError: xe", "2 done"):
        assert told in text
    assert "1, last after 0.3 s: xw" in text


def test_a_graph_that_is_not_valid_is_shown_with_what_is_wrong():
    graph = hd.Graph([hd.Function("a")]).add(hd.Function("b", ["<gone>"]))
    page = graph._repr_html_()
    assert html.escape("'<gone>'") in page
    assert "which the graph" in page


def test_of_many_nodes_some_are_shown_with_how_many_more_there_are():
    cluster = hd.Cluster([hd.Node(f"n{j}") for j in range(500)])
    page = cluster._repr_html_()
    assert "500 nodes" in page
    assert "… and 488 more nodes" in page
    assert len(page) < 10_000


def test_of_many_failures_it_is_told_how_many_there_are():
    plan = hd.plan(hd.Graph([hd.Function("a")]), [hd.Node("n")])
    spans = [Span("a", "n", k, k + 1, k + 1, "failed", error="E") for k in range(300)]
    report = Report.of(plan, spans)
    assert "… and 295 more failed attempts" in report._repr_html_()
    page = report_page(report, {})
    assert "280 more failed attempts</summary>" in page
    assert "… and 100 more failed attempts" in page


def test_a_graph_of_many_functions_is_no_larger_than_one_of_some():
    graph = hd.Graph([hd.Function(i, [i - 1] if i else []) for i in range(5000)])
    plan = hd.plan(graph, [hd.Node(f"n{j}") for j in range(50)], "first-available")
    for thing in (graph, plan):
        assert len(thing._repr_html_()) < 300_000
    assert "5,000 functions are drawn as 8 groups" in graph._repr_html_()


def test_the_progress_bar_says_how_the_run_ended():
    page = Bar(Stand(3, 1, 4, 2.0, None, "failed", True))._repr_html_()
    parts = Parts(page)
    assert {*parts.tags} == {"div"}
    assert "3 of 4 functions done, 1 failed, 2.0 s, failed" in parts.text
    widths = [value for _, value in parts.attributes if "width:75.00%" in value]
    assert len(widths) == 1
