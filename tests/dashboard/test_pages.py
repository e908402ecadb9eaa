"""Pages in a real browser while a real run goes on: seen, clicked, pointed at."""

import pytest
from distributed import Client, LocalCluster

import handout_dask as hd
from handout_dask import Function, Graph
from tests.dashboard.conftest import PATIENCE

ATTACK = "<img src=x onerror='window.hacked=1'>"
LONG = "x" * 10_000
HOSTILE = [
    ATTACK, "\"';--</script><script>window.hacked=1</script>", "two\nlines\tand\0nul",
    LONG, "🦆" * 50, ("a tuple", 1, ATTACK), "@label{safe} $index {{7*7}} %s", "",
    "\u202eright to left", 7,
]  # fmt: skip
PATHS = ["plan", "graph", "resources", "runs"]


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=False,
        dashboard_address="127.0.0.1:0", worker_dashboard_address=None,
    ) as cluster:  # fmt: skip
        yield cluster


@pytest.fixture(scope="module")
def base(cluster):
    return f"http://127.0.0.1:{cluster.scheduler.http_server.port}"


@pytest.fixture(scope="module")
def client(cluster):
    with Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def executor(client):
    nodes = [
        hd.Node(str(name), {"cpu": 2, "memory": 1000}, price=1.0)
        for name in client.run(lambda dask_worker: dask_worker.name).values()
    ]
    with hd.Executor(client, nodes=nodes) as executor:
        yield executor


def two_waves(call):
    """Three that wait at the gate, and three that read them."""
    first = [
        Function(f"first-{k}", [], call, extra_args=[f"first-{k}"], name="first",
                 cost={"cpu_time": 200, "memory": 100}) for k in range(3)
    ]  # fmt: skip
    second = [
        Function(f"second-{k}", [f"first-{k}"], lambda x, k=k: call(f"second-{k}"),
                 name="second", cost={"cpu_time": 200, "memory": 200}) for k in range(3)
    ]  # fmt: skip
    return Graph([*first, *second], name="waves")


def test_all_tabs_show_a_run_as_it_goes_on(executor, base, gate, opened):
    with opened() as page:
        page.open(f"{base}/handout")
        assert page.headline.startswith("No run yet")
        run = executor.submit(two_waves(gate.call()))
        gate.arrivals(3)
        page.says("3 running").has(6, "handout-planned").has(3, "handout-running")
        assert "0 of 6 functions done" in page.headline
        label = page.column("handout-running", "label")[0]
        assert page.tooltip("handout-plan", "handout-running", 0)[0] == label
        page.tab("Graph").has(6, "handout-vertices")
        assert sorted(page.column("handout-vertices", "about")) == [
            *["running"] * 3, *["waiting"] * 3
        ]  # fmt: skip
        page.tab("Resources").says("declared [MB]")
        page.until("model('handout-charts').children.length >= 2")
        page.has(2, "handout-measured-rows")
        assert page.column("handout-measured-rows", "declared") == [100, 200]
        page.tab("Runs").has(3, "handout-waits-rows").says("it reads 'first-0'")
        gate.let()
        gate.arrivals(3)
        page.says("3 of 6 functions done").has(0, "handout-waits-rows")
        assert page.column("handout-runs-rows", "done") == [3]
        page.tab("Plan").has(3, "handout-actual")
        gate.let()
        run.wait(60)
        page.says("6 of 6 functions done").has(6, "handout-actual")
        page.has(0, "handout-running")
        assert page.headline.startswith("done")
        page.tab("Graph").until(
            "model('handout-vertices').data.about.every(x => x == 'done')"
        )


def test_each_part_is_a_page_of_its_own_and_one_opened_late_shows_all(
    executor, base, opened
):
    run = executor.execute(Graph([Function(k, code=int) for k in "abc"], name="late"))
    assert run.status == "done"
    counts = {
        "plan": (3, "handout-actual"), "graph": (3, "handout-vertices"),
        "resources": (1, "handout-measured-rows"),
    }  # fmt: skip
    with opened() as page:
        for path, what in counts.items():
            page.open(f"{base}/individual-handout-{path}").has(*what)
            page.says("3 of 3 functions done")
        page.open(f"{base}/individual-handout-runs").says("late")
        assert page.column("handout-runs-rows", "done")[0] == 3
        money = page.column("handout-runs-rows", "planned_money")  # also of those that
        assert min(money) > 0  # nobody has looked at
        # As JupyterLab's dask-labextension shows them: in a frame on another's page.
        url = f"{base}/individual-handout-plan"
        page.page.goto(f"{base}/health".replace("127.0.0.1", "localhost"))
        page.page.set_content(
            '<iframe sandbox="allow-scripts allow-same-origin" width="900" '
            f'height="600" src="{url}"></iframe>'
        )
        frame = page.page.frame_locator("iframe")
        frame.get_by_text("3 of 3 functions done").wait_for(timeout=PATIENCE)


def test_another_run_can_be_chosen(executor, base, opened):
    runs = [
        executor.execute(Graph([Function(k, code=int) for k in names]))
        for names in ("ab", "abcde")
    ]
    with opened() as page:
        page.open(f"{base}/handout").has(5, "handout-actual")
        page.page.locator("select").select_option(runs[0].token)
        page.has(2, "handout-actual").says("2 of 2 functions done")


def test_ids_of_users_are_shown_and_never_run(executor, base, gate, opened):
    call = gate.call()

    def fail():
        raise ValueError(ATTACK * 30)

    graph = Graph(
        [
            *(Function(x, code=int, name=str(x)[:60] or None) for x in HOSTILE),
            Function("bad", code=fail, name=ATTACK),
            Function("held", code=lambda: call("held")),
            Function(f"after {ATTACK}", ["held"], int),
        ],
        name=ATTACK,
    )
    with opened() as page:
        page.open(f"{base}/handout")
        run = executor.submit(graph)
        gate.arrivals(1)
        page.says(f"{len(HOSTILE)} of {len(graph)} functions done")
        page.has(len(HOSTILE) + 1, "handout-actual")
        labels = page.column("handout-actual", "label")
        assert ATTACK in labels
        assert max(map(len, labels)) == 80
        page.tooltip("handout-plan", "handout-running", 0)
        page.tab("Graph").has(len(graph), "handout-vertices")
        labels = page.column("handout-vertices", "label")
        for at, label in enumerate(labels):
            told = page.tooltip("handout-graph", "handout-vertices", at)[0]
            assert told.split() == label.split() or not label
        page.tab("Resources").says(ATTACK)
        page.tab("Runs").has(1, "handout-failures-rows").says(f"after {ATTACK}")
        assert ATTACK in page.column("handout-failures-rows", "cause")[0]
        gate.let()
        run.wait(60)


def test_the_bar_leads_to_the_page_which_says_when_the_last_executor_leaves(opened):
    with (
        LocalCluster(
            n_workers=1, processes=False, dashboard_address="127.0.0.1:0",
            worker_dashboard_address=None,
        ) as own,
        Client(own) as client, opened() as page,
    ):  # fmt: skip
        with hd.Executor(client) as executor:
            executor.execute(Graph([Function("b", code=int), Function("c", code=int)]))
            executor.execute(Graph([Function("a", code=int)]))
            page.page.goto(f"http://127.0.0.1:{own.scheduler.http_server.port}/status")
            page.page.get_by_role("link", name="Handout", exact=True).click()
            page.says("1 of 1 functions done")
        page.says("The last executor has left").says("1 of 1 functions done")
        page.page.locator("select").select_option(index=2)  # never looked at before
        page.page.get_by_text("functions done").wait_for(state="detached")
        page.page.get_by_text("Graph", exact=True).last.click()
        page.says("The last executor has left")
        assert page.page.get_by_text("be renewed").count() == 0
