"""The architecture as laws: who may import what, and how large a file is."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import handout_dask

ROOT = Path(handout_dask.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]

# What each ring may import besides the standard library and its own ring.
DASK = {"dask", "distributed", "tornado"}
RINGS = {
    "core": (set(), {"numpy"}),
    "allocators": ({"core"}, {"numpy", "numba", "llvmlite"}),
    "formats": ({"core"}, {"numpy"}),
    "runtime": (
        {"core", "allocators"},
        {"numpy", "psutil", "pynvml", "cupy", "fsspec", "cloudpickle", "tblib"} | DASK,
    ),
    "dashboard": ({"core"}, {"numpy", "bokeh", "PIL"} | DASK),
}
ANYTHING = {"__init__", "cli"}

# Top-level modules from the ground up: each imports only what stands before it.
ORDER = [
    "errors", "printable", "shown", "environment", "sealed", "journal", "attempts",
    "stopping", "restarts", "costs", "retry",
    "setbacks", "cases", "recovery", "pins", "function", "standins", "graph",
    "fingerprints", "remnant", "edges", "outline", "node", "lacks", "held", "tracker",
    "accounts", "traffic", "begun", "claims", "linger", "runspec", "books",
    "fullness",
    "promised", "speculation", "choosing", "claiming", "slots", "moving",
    "variants", "resting",
    "dispatch", "scaling", "holding", "estimates", "problem", "copies", "demands",
    "provenance", "billing", "room", "rules", "shelves", "slack", "plans", "offers",
    "explanation", "standing", "waiting", "events", "pace", "overuse", "player", "loss",
    "liveness", "cuts", "steering", "simulation", "slowness", "peaks", "known",
    "history", "histories", "historydoc", "observed", "learned", "comparison", "report",
    "spanlog", "samples", "picture", "showing",
]  # fmt: skip

# In these folders none of the table imports what stands behind it.
ORDER_IN = {
    "allocators": [
        "compiling", "decoder", "remains", "timeline", "kernel", "latest", "moves",
        "oneport", "engine", "instance", "annealing", "search", "controller",
        "makespan", "cost", "objective", "revision", "warming",
    ],
    "runtime": [
        "erring", "arrays", "devices", "calling", "faulting", "faults", "nodes",
        "measuring", "pipes", "evidence", "leash", "words", "process_child", "child",
        "process", "telling", "runner", "seen", "records", "freezing", "places",
        "signing",
        "durables", "journaling", "runfolder", "resuming", "cuda", "detection",
        "sampling", "spilling", "evicting", "lastwords", "nannying", "reaching",
        "probe", "cutting", "lower", "inputs", "keys", "roster", "sender", "learner",
        "replanner", "filling", "refusing", "lingering", "clocks", "barring",
        "recovering", "renewing", "speculating", "observing", "watching", "elastic",
        "submission", "explaining", "parting", "guarding", "follower",
        "overview", "lookout", "viewed", "viewing", "plugin", "securing",
        "janitor", "ward", "supervised", "isolated", "node_process", "launching",
        "node_cluster", "fleet", "adopting", "supervisor", "client", "absences",
        "connection",
        "failures", "delivering", "saving", "portrait", "progress", "run", "store",
        "archive", "submitter", "executor",
        "continuing", "installed",
    ],
}  # fmt: skip

# Packages of extras, imported inside the functions that need them.
EXTRAS = {
    "demo": {"skimage"},
    "dashboard.png": {"cairosvg"},
    "runtime.progress": {"IPython"},
}

# Imports inside functions that cross rings: (who, whom).
LATE = {
    ("graph", "handout_dask.runtime.lower"),
    ("graph", "dask"),
    ("graph", "handout_dask.dashboard"),
    ("plans", "handout_dask.allocators"),
    ("plans", "handout_dask.allocators.engine"),
    ("plans", "handout_dask.explanation"),
    ("report", "handout_dask.dashboard"),
    ("runtime.progress", "handout_dask.dashboard"),
    ("runtime.run", "handout_dask.dashboard"),
    ("runtime.saving", "handout_dask.formats.runfile"),
    ("shown", "handout_dask.dashboard"),
    ("runtime.plugin", "handout_dask.dashboard.install"),
    ("runtime.submission", "handout_dask.formats.nodes"),
}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def ring_of(module):
    first = module.partition(".")[0]
    if first in ANYTHING:
        return None
    return first if (ROOT / first).is_dir() else "core"


def imported(tree):
    """``(name, node)`` of each absolute import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".replace(".", "/")
                deeper = (ROOT.parent / f"{whole}.py").exists() or (
                    ROOT.parent / whole
                ).is_dir()
                yield (f"{node.module}.{alias.name}" if deeper else node.module), node


def late_nodes(tree):
    """Import statements inside functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        id(inner)
        for outer in ast.walk(tree)
        if isinstance(outer, functions)
        for inner in ast.walk(outer)
    }


def imports_of(path):
    """``(name, is late)`` of each import of a file."""
    tree = ast.parse(path.read_text())
    late = late_nodes(tree)
    return [(name, id(node) in late) for name, node in imported(tree)]


def is_allowed(ring, name):
    rings, packages = RINGS[ring]
    first, _, rest = name.partition(".")
    if first == "handout_dask":
        return not rest or ring_of(rest) in {ring, *rings}
    return first in packages or first in sys.stdlib_module_names


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_ring_imports_what_its_folder_allows(path):
    module = module_of(path)
    ring = ring_of(module)
    if ring is None:
        return
    wrong = [
        (name, late)
        for name, late in imports_of(path)
        if not is_allowed(ring, name) and not (late and is_late_allowed(module, name))
    ]
    assert wrong == []


def is_late_allowed(module, name):
    return name.partition(".")[0] in EXTRAS.get(module, ()) or any(
        module == who and (name == whom or name.startswith(f"{whom}."))
        for who, whom in LATE
    )


def test_every_late_import_of_the_table_is_used():
    used = {
        (who, whom)
        for who, whom in LATE
        for name, late in imports_of(ROOT.joinpath(*who.split(".")).with_suffix(".py"))
        if late and is_late_allowed(who, name) and (name + ".").startswith(f"{whom}.")
    }
    assert used == LATE


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_numba_is_imported_inside_functions_only(path):
    early = {name.partition(".")[0] for name, late in imports_of(path) if not late}
    assert early.isdisjoint({"numba", "llvmlite", "cupy", "pynvml"})


def test_modules_of_the_core_stand_in_order():
    for k, module in enumerate(ORDER):
        mine = {
            name.split(".")[1]
            for name, late in imports_of(ROOT / f"{module}.py")
            if name.startswith("handout_dask.") and not late
        }
        assert mine <= set(ORDER[:k]), module


@pytest.mark.parametrize("folder", ORDER_IN)
def test_modules_of_a_folder_stand_in_order(folder):
    table = ORDER_IN[folder]
    for k, module in enumerate(table):
        mine = {
            name.removeprefix(f"handout_dask.{folder}.").partition(".")[0]
            for name, late in imports_of(ROOT / folder / f"{module}.py")
            if name.startswith(f"handout_dask.{folder}.") and not late
        }
        assert mine.isdisjoint(table[k:]), module


def test_what_decides_over_live_runs_knows_no_clock_and_no_chance():
    """That they know no Dask is a law of their rings."""
    modules = [
        "books",
        "promised",
        "choosing",
        "claiming",
        "slots",
        "moving",
        "dispatch",
        "holding",
        "traffic",
    ]
    for module in (*modules, "allocators/revision"):
        names = {name for name, _ in imports_of(ROOT / f"{module}.py")}
        assert names.isdisjoint({"time", "datetime", "random", "logging", "asyncio"})


def test_imports_are_not_circular():
    edges = {}
    for path in FILES:
        module = f"handout_dask.{module_of(path)}"
        edges[module] = {name for name, late in imports_of(path) if not late}
    done, doing = set(), []

    def visit(module):
        if module in done or module not in edges:
            return
        assert module not in doing, " -> ".join([*doing, module])
        doing.append(module)
        for other in sorted(edges[module]):
            visit(other)
        done.add(doing.pop())

    for module in edges:
        if module != "handout_dask.__init__":
            visit(module)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_import_hides_behind_type_checking(path):
    if path != ROOT / "__init__.py":
        assert "TYPE_CHECKING" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_is_no_longer_than_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_module_begins_with_its_contract(path):
    contract = ast.get_docstring(ast.parse(path.read_text()))
    assert contract
    assert contract.split("\n")[0].endswith((".", ":"))


def public(tree):
    """Public classes, functions and methods, but for those inside functions."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node)


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_what_is_public_in_the_pure_rings_has_a_docstring(path):
    if ring_of(module_of(path)) not in ("core", "allocators", "formats"):
        return
    tree = ast.parse(path.read_text())
    assert [node.name for node in public(tree) if not ast.get_docstring(node)] == []


def test_no_module_bears_the_name_of_a_public_callable():
    modules = {path.stem for path in ROOT.glob("*.py")}
    modules |= {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert modules & set(handout_dask.__all__) == set()


def test_every_public_name_has_a_home():
    for name, module in handout_dask._HOME.items():
        path = ROOT.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert path.exists(), (name, module)
    assert set(handout_dask.__all__) <= set(dir(handout_dask))


PURE = [
    f"handout_dask.{module_of(path)}"
    for path in FILES
    if ring_of(module_of(path)) in ("core", "allocators", "formats")
]
HEAVY = ["dask", "distributed", "numba", "bokeh", "tornado", "psutil", "cloudpickle"]


def loaded_by(statement):
    """Which heavy packages a statement loads in a fresh interpreter."""
    code = f"import sys; {statement}; print(*(x for x in {HEAVY} if x in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy_not_even_numpy():
    assert loaded_by("import handout_dask; assert 'numpy' not in sys.modules") == []


def test_importing_every_pure_module_loads_nothing_heavy():
    assert loaded_by("import " + ", ".join(PURE)) == []


def test_planning_a_small_graph_loads_nothing_heavy():
    statement = (
        "import handout_dask as hd; "
        "hd.plan(hd.Graph([hd.Function('a')]), [hd.Node('n0')], allocator='time')"
    )
    assert loaded_by(statement) == []
