"""``handout report``: what a saved run became, from either kind of file."""

import json

import pytest

import handout_dask as hd
from handout_dask.runtime.signing import key_of

ESCAPE = "\x1b[2J<img src=x>\n"


def _work(value=0):
    return value + 1


def _bad(value):
    raise ValueError(f"no {ESCAPE}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with a run that failed in part, as run.saved and run.json."""
    folder = tmp_path_factory.mktemp("saved")
    functions = [
        hd.Function("a", [], _work, cost={"cpu_time": 10, "memory": 5}),
        hd.Function("b", ["a"], _work),
        hd.Function(f"{ESCAPE}ok", [], int, cost={"cpu_time": 1}),
        hd.Function(ESCAPE, ["a"], _bad),
        hd.Function(("after", 1), [ESCAPE], _work),
    ]
    with hd.Executor(nodes=[hd.Node("n0", {"cpu": 2}, price=1.0)]) as executor:
        run = executor.submit(hd.Graph(functions, "small"))
        run.wait(60)
        run.save(folder / "run.saved")
        run.save(folder / "run.json")
        run.report(folder / "run.html")
        executor.submit(hd.Graph([hd.Function("x", [], int)])).wait(60)
    return folder


@pytest.mark.parametrize("name", ["run.saved", "run.json"])
def test_both_files_give_the_same_report(saved, handout, name):
    code, out, _ = handout("report", saved / name)
    assert code == 0
    first, second, third, *rest = out.splitlines()
    assert first.endswith(": failed")
    assert second.startswith("makespan ")
    assert third.startswith("3 of 5 functions done, 0 moved, 1 attempts failed, ")
    assert any(line.startswith("n0 ") for line in rest)


@pytest.mark.parametrize("name", ["run.saved", "run.json"])
def test_json_is_one_document(saved, handout, name):
    code, out, err = handout("report", saved / name, "--json")
    doc = json.loads(out)
    assert (code, err) == (0, "")
    assert (doc["status"], doc["done"], len(doc["functions"])) == ("failed", 3, 5)


@pytest.mark.parametrize("name", ["run.saved", "run.json"])
def test_a_page_is_written_with_the_run_and_its_versions(
    saved, handout, name, tmp_path
):
    page = tmp_path / "out.html"
    code, out, _ = handout("report", saved / name, "-o", page)
    assert (code, out) == (0, f"wrote {page}\n")
    text = page.read_text()
    assert "<h1>Report “small”</h1>" in text
    assert "distributed" in text
    assert "ValueError: no " in text
    assert "<img src=x>" not in text


def test_a_page_says_when_and_with_what_the_run_was_made(saved, handout, tmp_path):
    doc = json.loads((saved / "run.json").read_text())
    doc["environment"] = {"written": "then", "distributed": "1999.1"}
    (tmp_path / "old.json").write_text(json.dumps(doc))
    handout("report", tmp_path / "old.json", "-o", tmp_path / "out.html")
    text = (tmp_path / "out.html").read_text()
    assert "<td" in text
    assert ">1999.1</td>" in text
    assert ">then</td>" in text


def test_a_run_writes_its_own_page(saved):
    text = (saved / "run.html").read_text()
    assert "<h1>Report “small”</h1>" in text
    assert text.count("1 blocked") == 1


def test_text_and_json_are_written_too(saved, handout, tmp_path):
    for name in ("out.json", "out.txt"):
        assert handout("report", saved / "run.json", "-o", tmp_path / name)[0] == 0
    assert json.loads((tmp_path / "out.json").read_text())["done"] == 3
    assert (tmp_path / "out.txt").read_text().startswith("makespan ")


def test_no_line_of_a_report_acts_on_the_terminal(saved, handout):
    _, out, _ = handout("report", saved / "run.json")
    lines = out.splitlines()
    assert all(line.isprintable() for line in lines)
    assert sum(line.startswith("\\x1b[2J<img src=x>\\nok ") for line in lines) == 1


def test_the_open_file_needs_no_trust_and_the_other_does(saved, handout, monkeypatch):
    key = key_of("saved run")
    monkeypatch.setattr(
        "handout_dask.runtime.saving.key_of", lambda kind: bytes(len(key))
    )
    code, _, err = handout("report", saved / "run.saved")
    assert code == 2
    assert "trust" in err
    assert handout("report", saved / "run.saved", "--trust")[0] == 0
    assert handout("report", saved / "run.json")[0] == 0


def test_the_open_file_is_not_loaded_as_a_run(saved):
    with pytest.raises(hd.JournalError, match="open format, which holds no results"):
        hd.Run.load(saved / "run.json")


def test_a_loaded_run_shows_itself_and_its_progress(saved, capsys):
    run = hd.Run.load(saved / "run.saved")
    assert "statusfailed" not in run._repr_html_()
    assert "1 blocked" in run._repr_html_()
    run.show_progress()
    assert capsys.readouterr().err.startswith("3 of 5 functions done, 2 failed, ")
    assert "<svg" in run.visualize().svg


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("report", "no.saved"), "there is no file"),
        (("report", "no.json"), "no.json: No such file"),
        (("report", "run.json", "-o", "x.pdf"), ".html, .json, .txt"),
        (("report", "run.json", "-o", "gone/x.html"), "there is no folder"),
        (("report", "other.json"), "other.json: it is no saved run"),
        (("report", "torn.json"), "torn.json: is not JSON"),
    ],
)
def test_bad_input_is_refused(saved, handout, monkeypatch, args, why):
    (saved / "other.json").write_text("{}")
    (saved / "torn.json").write_text((saved / "run.json").read_text()[:100])
    monkeypatch.chdir(saved)
    code, out, err = handout(*args)
    assert (code, out) == (2, "")
    assert why in err


def test_run_writes_a_report(files, handout, tmp_path):
    page = tmp_path / "out.html"
    args = ("run", files.trace, "--replay", "sleep", "--time-scale", "0.01", "--json")
    code, out, _ = handout(*args, "--report", page)
    assert code == 0
    assert json.loads(out)["status"] == "done"
    assert page.read_text().startswith("<!doctype html>")
    code, _, err = handout(*args, "--report", tmp_path / "x.pdf")
    assert code == 2
    assert ".html, .json, .txt" in err
