"""Laws of drawings: well formed, bounded in size, all there; and as files."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import handout_dask as hd
from handout_dask.dashboard import png, svg
from handout_dask.dashboard.svg import fitted, text_width
from handout_dask.printable import printable
from handout_dask.report import Report

SVG = "{http://www.w3.org/2000/svg}"
NODES = [
    hd.Node("n0", {"cpu": 2}, price=1.0),
    hd.Node("n1", {"cpu": 1, "memory": 500}, speed=2.0),
]


def graph_of(n, name=lambda i: "work"):
    """Each function reads two of the six before it."""
    return hd.Graph(
        [
            hd.Function(
                f"f{i}", [f"f{u}" for u in (i - 6, i - 5) if u >= 0],
                name=name(i), cost={"cpu_time": 100 + i % 7, "memory": 10},
            )
            for i in range(n)
        ],
        f"graph of {n}",
    )  # fmt: skip


def played(n):
    plan = hd.plan(graph_of(n), NODES, "first-available")
    fail = [("n0", plan.makespan / 2)] if n else []
    return Report.of(plan, hd.simulate(plan, noise=0.3, seed=1, fail=fail))


def texts(svg):
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}text")]


def titles(svg):
    return [element.text for element in ET.fromstring(svg).iter(f"{SVG}title")]


@pytest.mark.parametrize("n", [0, 1, 2, 30, 300, 1001])
def test_drawings_are_well_formed_and_of_bounded_size(n):
    report = played(n)
    plan = report.plan
    graph = plan.problem.graph
    things = [(graph, {})] + [
        (thing, {"show": show})
        for thing in (plan, report)
        for show in ("gantt", "graph")
    ]
    for thing, how in things:
        drawing = thing.visualize(**how)
        root = ET.fromstring(drawing.svg)
        assert root.tag == f"{SVG}svg"
        assert len(drawing.svg) < 350_000
        assert "nan" not in drawing.svg
        assert f"{n} functions" in repr(drawing)
        assert drawing._repr_html_().startswith("<img ")


def test_a_small_graph_has_every_function_by_name():
    names = [f"f{i}" for i in range(30)]
    assert {*names} <= {*texts(graph_of(30).visualize().svg)}
    plan = played(30).plan
    assert {*names} <= {*texts(plan.visualize(show="graph").svg)}


def test_a_larger_one_tells_them_in_titles():
    assert titles(graph_of(300).visualize().svg) == [f"f{i}" for i in range(300)]


def test_many_functions_are_drawn_as_groups_with_their_number():
    graph = graph_of(2000, lambda i: ["load", "blur", "sum", "save"][i // 500])
    shown = texts(graph.visualize().svg)
    assert [x for x in shown if "500" in x] == [
        f"{name} \u00d7500" for name in ("load", "blur", "sum", "save")
    ]
    one = texts(graph_of(2000).visualize().svg)  # of one name: by how deep they are
    pieces = [int(x.split("\u00d7")[1]) for x in one if "\u00d7" in x]
    assert len(pieces) > 4
    assert sum(pieces) == 2000


def test_a_gantt_chart_has_a_bar_for_every_attempt_and_names_its_nodes():
    report = played(30)
    assert sum("as planned" in x for x in titles(report.plan.visualize().svg)) == 30
    said = titles(report.visualize().svg)
    assert sum("as planned" in x for x in said) == 30
    assert sum(", done" in x for x in said) == sum(
        span.outcome == "done" for span in report.spans
    )
    assert sum(", lost" in x for x in said) == report.failures > 0
    shown = texts(report.visualize().svg)
    assert {"n0", "n1", "attempt lost"} <= {*shown}


def test_colours_of_a_graph_tell_groups_nodes_or_states():
    report = played(30)
    for color, told in (("group", "work"), ("node", "n1"), ("state", "done")):
        assert told in texts(report.visualize(show="graph", color=color).svg)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"filename": "x.jpg"}, r"can't be written as 'x.jpg'.*\.svg, \.html, \.png"),
        ({"show": "pie"}, "show='pie' must be one of gantt, graph"),
        ({"color": "red", "show": "graph"}, "color='red' must be one of group"),
        ({"color": "node"}, 'is for show="graph"'),
    ],
)
def test_what_can_not_be_drawn_is_refused(how, why):
    plan = hd.plan(graph_of(2), NODES)
    with pytest.raises(hd.HandoutError, match=why):
        plan.visualize(**how)
    with pytest.raises(hd.HandoutError, match="has groups only"):
        graph_of(2).visualize(color="state")


def test_drawings_are_written_as_files(tmp_path):
    report = played(20)
    drawing = report.visualize(tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text() == drawing.svg
    report.visualize(tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert page.startswith("<!doctype html>")
    assert '<script src="http' not in page
    assert "default-src 'none'" in page  # so that nothing is fetched
    report.plan.problem.graph.visualize(tmp_path / "b.html")
    assert "Graph “graph of 20”" in (tmp_path / "b.html").read_text()


def test_a_png_is_made_or_the_error_says_what_to_install(tmp_path, monkeypatch):
    plan = hd.plan(graph_of(3), NODES)
    if any(map(png.shutil.which, png.BROWSERS)):
        plan.visualize(tmp_path / "a.png")
        with Image.open(tmp_path / "a.png") as made:
            rows = np.asarray(made.convert("L"))
        inked = np.flatnonzero((rows < 250).any(axis=1))
        assert inked[-1] > 0.9 * len(rows)  # nothing is cut off below
    monkeypatch.setitem(sys.modules, "cairosvg", None)
    monkeypatch.setattr(png.shutil, "which", lambda name: None)
    with pytest.raises(
        hd.HandoutError, match="pip install cairosvg, or install Chromium"
    ):
        plan.visualize(tmp_path / "b.png")
    assert not (tmp_path / "b.png").exists()


def test_what_a_browser_leaves_that_is_no_image_is_an_error(tmp_path, monkeypatch):
    def run(command, **options):
        shot = next(x for x in command if x.startswith("--screenshot="))
        Path(shot.removeprefix("--screenshot=")).write_bytes(b"")

    monkeypatch.setitem(sys.modules, "cairosvg", None)
    monkeypatch.setattr(png.shutil, "which", lambda name: "/bin/browser")
    monkeypatch.setattr(png.subprocess, "run", run)
    drawing = hd.plan(graph_of(3), NODES).visualize()
    with pytest.raises(hd.HandoutError, match="browser makes no PNG: cannot identify"):
        drawing.save(tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_neither_drawings_nor_reprs_load_bokeh_or_dask():
    code = (
        "import sys, handout_dask as hd; g = hd.Graph([hd.Function('a')]); "
        "p = hd.plan(g, [hd.Node('n')]); "
        "[x._repr_html_() for x in (g, p, p.visualize(), p.problem.cluster)]; "
        "print(*({'bokeh', 'dask', 'distributed', 'numba'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.stderr) == ("", "")


def test_a_folder_that_is_not_there_is_an_error_that_names_the_file(tmp_path):
    plan = hd.plan(graph_of(3), NODES)
    with pytest.raises(hd.HandoutError, match="gone.x.svg'.*No such file"):
        plan.visualize(tmp_path / "gone" / "x.svg")


def test_a_page_of_nothing_says_so_and_draws_nothing(tmp_path):
    plan = hd.plan(hd.Graph([]), NODES)
    plan.visualize(tmp_path / "x.html")
    told = (tmp_path / "x.html").read_text()
    assert "There are no functions." in told
    assert "<script" not in told


def test_texts_fit_whatever_letters_they_have():
    for letters in (
        "WWWWWWWWWWWW",
        "iiiiiiiiiiii",
        "Mixed of all",
        "\u6f22\u5b57\u6f22\u5b57\u6f22",
    ):
        for width in (20, 40, 80):
            told = fitted(letters, width)
            assert text_width(told) <= width
    assert len(fitted("i" * 40, 60)) > 2 * len(fitted("W" * 40, 60))


TEXTS = st.text("Wimn .\u6f22\u0301\n", max_size=60)


@given(TEXTS, st.floats(0, 300))
@settings(max_examples=100, deadline=None)
def test_as_much_of_a_text_is_shown_as_fits(text, width):
    tried = [printable(text, k) for k in range(3, int(width / (0.38 * svg.SIZE)) + 1)]
    fits = [told for told in tried if text_width(told) <= width]
    assert fitted(text, width) == (fits[-1] if fits else "")


def test_a_text_is_fitted_at_once(monkeypatch):
    tries = []
    monkeypatch.setattr(svg, "text_width", lambda *x: tries.append(x) or text_width(*x))
    assert len(fitted("W" * 4000, 2000)) > 150
    assert len(tries) < 12
