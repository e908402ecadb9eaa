"""Laws of `read_workflow`; the traces themselves are checked in test_referee.py."""

import json

import pytest

from handout_dask.errors import CycleError, GraphError
from handout_dask.formats.nodes import read_nodes
from handout_dask.formats.wfformat import NOTHING, group_of, read_workflow
from handout_dask.problem import Problem

N0 = {"name": "n0"}


def trace_15():
    """split writes two files; count_1 reads one of them, count_2 none."""
    return {
        "name": "small",
        "schemaVersion": "1.5",
        "workflow": {
            "specification": {
                "tasks": [
                    {
                        "name": "count_ID02",
                        "id": "count_1",
                        "parents": ["split_1"],
                        "children": [],
                        "inputFiles": ["a.txt", "everywhere.txt"],
                        "outputFiles": [],
                    },
                    {
                        "name": "split_ID01",
                        "id": "split_1",
                        "parents": [],
                        "children": ["count_1", "count_2"],
                        "inputFiles": [],
                        "outputFiles": ["a.txt", "b.txt"],
                    },
                    {"name": "count_ID03", "id": "count_2", "parents": []},
                ],
                "files": [
                    {"id": "a.txt", "sizeInBytes": 2_000_000},
                    {"id": "b.txt", "sizeInBytes": 500_000},
                    {"id": "everywhere.txt", "sizeInBytes": 9_000_000},
                ],
            },
            "execution": {
                "tasks": [
                    {
                        "id": "split_1",
                        "runtimeInSeconds": 1.5,
                        "coreCount": 4,
                        "avgCPU": 100.0,
                        "memoryInBytes": 3_000_000_000,
                    },
                    {"id": "count_1", "runtimeInSeconds": 2.0, "avgCPU": 260.0},
                    {"id": "count_2", "runtimeInSeconds": 0, "avgCPU": 3.0},
                ]
            },
        },
    }


def trace_14():
    """The same as 1.4 writes it: all in the task, which may be linked by its name."""
    return {
        "schemaVersion": "1.4",
        "workflow": {
            "tasks": [
                {
                    "name": "count_01",
                    "id": "count_1",
                    "parents": ["split_01"],
                    "runtimeInSeconds": 2.0,
                    "avgCPU": 260.0,
                    "files": [
                        {"link": "input", "name": "a.txt", "sizeInBytes": 2_000_000},
                        {"link": "input", "name": "everywhere.txt", "sizeInBytes": 9},
                    ],
                },
                {
                    "name": "split_01",
                    "id": "split_1",
                    "children": ["count_1", "count_2"],
                    "runtimeInSeconds": 1.5,
                    "coreCount": 4,
                    "memoryInBytes": 3_000_000_000,
                    "files": [
                        {"link": "output", "name": "a.txt", "sizeInBytes": 2_000_000},
                        {"link": "output", "name": "b.txt", "sizeInBytes": 500_000},
                    ],
                },
                {
                    "name": "count_2",
                    "id": "count_2",
                    "runtimeInSeconds": 0,
                    "avgCPU": 3.0,
                },
            ]
        },
    }


def trace_13():
    """The same as 1.3 writes them: jobs without ids, linked by name."""
    doc = trace_14()
    jobs = doc["workflow"].pop("tasks")
    for job in jobs:
        job["name"] = job.pop("id")
        job["parents"] = [
            parent.replace("_0", "_") for parent in job.get("parents", ())
        ]
        job["runtime"] = job.pop("runtimeInSeconds")
        if "coreCount" in job:
            job["cores"] = job.pop("coreCount")
            job["memory"] = job.pop("memoryInBytes")
        for file in job.get("files", ()):
            file["size"] = file.pop("sizeInBytes")
    return {"schemaVersion": "1.3", "workflow": {"jobs": jobs}}


@pytest.fixture
def written(tmp_path):
    def write(doc, name="small.json"):
        path = tmp_path / name
        path.write_text(doc if isinstance(doc, str) else json.dumps(doc))
        return path

    return write


def described(graph):
    return {f.id: (f.args, f.name, dict(f.cost), f.code) for f in graph}


EXPECTED = {
    "count_1": (
        (("split_1", "a.txt"),),
        "count",
        {"cpu_time": 2000.0, "output_size": {}, "cpu": 3.0},
        None,
    ),
    "split_1": (
        (),
        "split",
        {
            "cpu_time": 1500.0,
            "output_size": {"a.txt": 2.0, "b.txt": 0.5},
            "cpu": 4.0,
            "memory": 3000.0,
        },
        None,
    ),
    "count_2": (
        (("split_1", NOTHING),),
        "count",
        {"cpu_time": 0.0, "output_size": {}, "cpu": 1.0},
        None,
    ),
}


@pytest.mark.parametrize("make", [trace_13, trace_14, trace_15])
def test_each_schema_gives_the_same_functions_in_the_order_of_the_trace(make, written):
    graph = read_workflow(written(make()))
    assert described(graph) == EXPECTED
    assert [f.id for f in graph] == ["count_1", "split_1", "count_2"]


def test_graph_bears_the_name_of_the_file(written):
    assert read_workflow(written(trace_15(), "blast-001.json")).name == "blast-001"


def test_folder_stands_for_its_first_json_file(written, tmp_path):
    written(trace_15(), "b.json")
    written("", "a.txt")
    assert read_workflow(tmp_path).name == "b"


def test_edge_carries_only_files_that_are_written_and_read(written):
    problem = Problem(read_workflow(written(trace_15())), read_nodes({"node": [N0]}))
    where = problem.where
    assert problem.size(where["split_1"], where["count_1"]) == 2.0


def test_edge_without_common_file_carries_nothing(written):
    problem = Problem(read_workflow(written(trace_15())), read_nodes({"node": [N0]}))
    where = problem.where
    assert problem.preds[where["count_2"]] == (where["split_1"],)
    assert problem.size(where["split_1"], where["count_2"]) == 0.0


def test_absent_run_time_stays_unknown(written):
    doc = trace_15()
    del doc["workflow"]["execution"]["tasks"][1]["runtimeInSeconds"]
    graph = read_workflow(written(doc))
    assert graph["count_1"].cost.cpu_time is None


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("mProject_ID0000001", "mProject"),
        ("blastall_00000012", "blastall"),
        ("bowtie2-build_ID1", "bowtie2-build"),
        ("NF.INDEX_CRAM", "NF.INDEX_CRAM"),
        ("42", "42"),
    ],
)
def test_group_is_the_name_without_its_number(name, group):
    assert group_of(name) == group


def runs(doc):
    return doc["workflow"]["execution"]["tasks"]


def broken(change):
    doc = trace_15()
    change(doc["workflow"]["specification"]["tasks"], doc)
    return doc


@pytest.mark.parametrize(
    ("doc", "text"),
    [
        ("{", "is not JSON"),
        ({}, "it has no 'workflow' object"),
        ([1], "it has no 'workflow' object"),
        ({"workflow": {}}, "has neither 'specification' nor 'tasks'"),
        (broken(lambda t, d: d.update(schemaVersion="2.0")), "schemaVersion '2.0'"),
        (
            broken(lambda t, d: t[0].update(parents=["x"])),
            "'count_1' has 'x' among its",
        ),
        (broken(lambda t, d: t[0].update(parents="x")), "'parents' must be a list"),
        (broken(lambda t, d: t[0].update(id="split_1")), "two tasks have the id"),
        (broken(lambda t, d: t[0].update(id=3)), "task 3: id and name must be texts"),
        (broken(lambda t, d: t.append(7)), "specification: tasks[3] must be an object"),
        (
            broken(lambda t, d: t[0].update(outputFiles=[""])),
            "task 'count_1' writes a file without a name",
        ),
        (
            broken(lambda t, d: runs(d)[1].update(runtimeInSeconds=-1)),
            "task 'count_1': runtimeInSeconds must be a number not below 0, not -1",
        ),
        (
            broken(lambda t, d: runs(d)[1].update(runtimeInSeconds="long")),
            "task 'count_1': runtimeInSeconds must be a number not below 0, not 'long'",
        ),
        (
            broken(lambda t, d: runs(d)[1].update(runtimeInSeconds=float("nan"))),
            "task 'count_1': runtimeInSeconds must be a number not below 0, not nan",
        ),
    ],
)
def test_bad_trace_is_an_error_that_names_file_and_fault(doc, text, written):
    path = written(doc)
    with pytest.raises(GraphError) as caught:
        read_workflow(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)


def test_circle_is_an_error_that_names_file_and_tasks(written):
    path = written(broken(lambda t, d: t[0].update(children=["split_1"])))
    with pytest.raises(CycleError, match=r"small\.json: ") as caught:
        read_workflow(path)
    assert set(caught.value.cycle) == {"count_1", "split_1"}


def test_absent_file_and_empty_folder_are_errors_that_name_them(tmp_path):
    with pytest.raises(GraphError, match=r"no\.json: can't be read: No such file"):
        read_workflow(tmp_path / "no.json")
    with pytest.raises(GraphError, match="the folder has no JSON file"):
        read_workflow(tmp_path)
