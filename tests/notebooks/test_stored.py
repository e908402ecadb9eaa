"""What may not be stored in a notebook is found."""

import base64
import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_notebook, new_output

import notebooks.stored
from notebooks.stored import active, complaints


def picture(svg):
    return f'<img src="data:image/svg+xml;base64,{base64.b64encode(svg).decode()}">'


STATIC = [
    "<table><tr><td style='width:9%;color:#888'>a &lt;script&gt;</td></tr></table>",
    "<details><summary>more</summary><progress value=3 max=4></progress></details>",
    picture(b"<svg><g transform='scale(2)'><text>&lt;script&gt;</text></g></svg>"),
    '<a href="http://127.0.0.1:8787/handout">live</a>',
    '<a href="https://docs.dask.org">Dask</a>',
]
ACTIVE = [
    ("<script>1</script>", "<script>"),
    ("<SCRIPT src=x>", "<script>"),
    ("<p onmouseover=x()>", "<p> has onmouseover"),
    ("<iframe srcdoc='x'></iframe>", "<iframe>"),
    ("<svg><circle/></svg>", "<svg>"),
    ('<a href=" javascript:alert(1)">x</a>', "<a> has href='javascript:alert(1)'"),
    ('<img src="https://example.org/x.png">', "<img> loads"),
    ('<img src="data:text/html,x">', "<img> has src="),
    ('<p style="background:url(https://example.org)">', "<p> has style with a URL"),
    (picture(b"<svg><script>1</script></svg>"), "picture with <script>"),
    (picture(b"<svg onload='x()'/>"), "picture with <svg> has onload"),
    (picture(b"<svg><foreignObject/></svg>"), "picture with <foreignobject>"),
    ('<img src="data:image/svg+xml,%3Cscript/%3E">', "picture with <script>"),
]


@pytest.mark.parametrize("html", STATIC)
def test_what_is_static_passes(html):
    assert active(html) == []


@pytest.mark.parametrize(("html", "what"), ACTIVE)
def test_what_would_run_or_reach_out_is_found(html, what):
    assert any(found.startswith(what) for found in active(html)), active(html)


@given(st.text(), st.sampled_from(ACTIVE))
def test_nothing_hides_what_runs(text, case):
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    html, what = case
    assert any(found.startswith(what) for found in active(f"<b>{escaped}</b>{html}"))


def notebook(*outputs, count=1):
    return new_notebook(
        cells=[new_code_cell("1", outputs=list(outputs), execution_count=count)]
    )


def said(text):
    return new_output("stream", name="stdout", text=text)


def shown(**data):
    return new_output(
        "display_data", data={k.replace("_", "/"): v for k, v in data.items()}
    )


@pytest.mark.parametrize(
    ("output", "what"),
    [
        (said("in /home/ann/x.py"), "folder /home/"),
        (said("'/tmp/dask-3'"), "folder /tmp/"),
        (said("tcp://192.168.1.7:40"), "address 192.168.1.7"),
        (said("on anns-laptop"), "'anns-laptop', of this machine"),
        (shown(**{"image_svg+xml": "<svg/>"}), "not every viewer"),
        (shown(application_javascript="1"), "not every viewer"),
        (shown(text_html="<script>"), "<script>"),
        (new_output("error", ename="ValueError", evalue="x"), "raised ValueError"),
        (new_output("stream", name="stderr", text="lost"), "standard error"),
    ],
)
def test_what_tells_of_its_machine_or_needs_a_script_is_found(output, what):
    (found,) = complaints(notebook(output), ["anns-laptop"])
    assert found.startswith("cell 0")
    assert what in found


def test_a_cell_that_was_not_executed_is_found():
    assert complaints(notebook(count=None)) == ["cell 0 was not executed"]


def test_ordinary_outputs_pass():
    fine = said("see http://127.0.0.1:8787/handout, 2026.8.0 and <1.2.3>, a/tmp/b")
    assert complaints(notebook(fine, shown(text_html=STATIC[0])), ["ann"]) == []


def test_examples_in_its_docstrings_are_true():
    assert doctest.testmod(notebooks.stored).failed == 0
