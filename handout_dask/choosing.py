"""Which function of a run a node gets next: by plan, or another one first. Pure.

Reads the books; what is chosen is claimed and entered by `dispatch`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, islice

from handout_dask.books import READY, NodeBook, RunBook
from handout_dask.runspec import RunSpec

AHEAD_SECONDS = 0.025  # work per slot that a node may have in hand, to hide the way
AHEAD_MOST = 32  # functions per slot
LOOKS = 256  # ready functions that are looked at where any node will do
TRIES = 8  # ready functions that are looked at for a slot
IN_FRONT = 16  # functions that a passing one must not make late; of more the first
LEAST_SLIP, SLIP = 0.02, 0.005  # s, share of what a run has left, that is not late
NEAR = 0.01  # s that inputs may be away, and no other function is preferred

Arrives = Callable[[str, int, str], float]
Claim = Callable[[RunBook, int, str, bool], bool]


Chosen = tuple[int, bool] | None
Rule = Callable[[NodeBook, RunBook, bool, Arrives, Claim, float], Chosen]


def rule_of(spec: RunSpec) -> Rule:
    """How the next function of a run is chosen."""
    if not spec.adaptive:
        return choose_by_plan
    return choose_eagerly if spec.eager else choose


def choose_by_plan(
    book: NodeBook, run: RunBook, full: bool, arrives: Arrives, claim: Claim, now: float
) -> Chosen:
    """The next function by plan if it can go now, and whether its inputs are there."""
    name = book.node.name
    i = next(run.ahead_of(name, None, 1), None)
    if i is None or run.state[i] != READY or (book.unsure and not full):
        return None
    if full and (run.cores(i) > 1 or not _may_send_ahead(book)):
        return None
    sure = arrives(run.spec.token, i, name) <= 0.0
    if full and not sure:  # its inputs are on their way; word will come
        return None
    return (i, sure) if claim(run, i, name, full) else None


def choose(
    book: NodeBook, run: RunBook, full: bool, arrives: Arrives, claim: Claim, now: float
) -> Chosen:
    """The first function by plan that can go now and makes nothing else late.

    Backfilling, as of batch queues (Mu'alem, Feitelson: Utilization, predictability,
    workloads, and user runtime estimates in scheduling the IBM SP2 with backfilling,
    IEEE TPDS 12(6), 2001, doi:10.1109/71.932708), where late is what the makespan
    feels.

    Parameters
    ----------
    book, run : NodeBook, RunBook
        The node, and the run that it is to be served of.
    full : bool
        Whether no slot is free, so that it would be sent ahead.
    arrives : callable
        ``arrives(token, i, node)``: seconds until the inputs are on the node.
    claim : callable
        ``claim(run, i, node, full)``: take the demand; False if it does not fit.
    now : float
        By the clock [s].

    Returns
    -------
    (int, bool) or None
        The function, and whether all its inputs are on the node.
    """
    if full and not _may_send_ahead(book):
        return None
    name, token = book.node.name, run.spec.token
    at = _unslipped(run, now)
    wait = float("inf")  # until the first of those with inputs under way has them
    rest: list[tuple[int, bool]] = []  # that one, and who could not end until then
    tries = 0
    for i in islice(run.candidates(name), LOOKS):
        if run.held_back.get(i) == name:
            continue
        if tries == TRIES:
            break
        tries += 1
        if full and run.cores(i) > 1:
            continue
        if _made_late(book, run, i, at) is not None:
            run.blocked = True
            break
        away = arrives(token, i, name)
        if away > 0.0 and full:
            continue
        if away > NEAR or run.seconds(i) > wait:
            wait = wait if rest else away
            rest.append((i, away <= 0.0))
        elif claim(run, i, name, full):
            return i, away <= 0.0
        elif i in run.held_back:
            tries -= 1
    return next((x for x in rest if claim(run, x[0], name, full)), None)


def choose_eagerly(
    book: NodeBook, run: RunBook, full: bool, arrives: Arrives, claim: Claim, now: float
) -> Chosen:
    """The first ready function that the node can run and has room for; as `choose`.

    Wherever it was planned, but first what was planned here: it waits for no node
    while another one is free.
    """
    if full and not _may_send_ahead(book):
        return None
    name, refused = book.node.name, set()
    anywhere = iter(()) if book.barred else run.ready_anywhere()
    elsewhere = (i for i in anywhere if run.node[i] != name)
    for i in islice(chain(run.candidates(name), elsewhere), LOOKS):
        need = run.claims.need[i]
        if run.held_back.get(i) == name:
            continue
        if need in refused or (full and run.cores(i) > 1):
            continue
        if run.node[i] != name and not _may_come(run, i, name):
            continue
        away = arrives(run.spec.token, i, name)
        if away > 0.0 and full:
            continue
        if claim(run, i, name, full):
            return i, away <= 0.0
        if i in run.held_back:  # it would fill the node, others of its class may not
            continue
        refused.add(need)
        if len(refused) == len(run.claims.demand):
            break
    return None


def _may_come(run: RunBook, i: int, name: str) -> bool:
    """Whether a function that waits for another node may run on this one."""
    if is_tied(run, i) or name in run.shunned.get(i, ()):
        return False
    return name in run.able(i)


def is_tied(run: RunBook, i: int) -> bool:
    """Whether a function may not leave its node by itself."""
    return i in run.pinned or i in run.spec.group or i in run.bound


def blocking(book: NodeBook, run: RunBook, i: int, now: float) -> int | None:
    """The function that i would make late if it began now, as `choose` sees it."""
    return _made_late(book, run, i, _unslipped(run, now))


def _unslipped(run: RunBook, now: float) -> float:
    """The time since the run began [s], less what is not late."""
    at = now - run.since
    return at - max(LEAST_SLIP, SLIP * (run.last - at))


def _made_late(book: NodeBook, run: RunBook, i: int, at: float) -> int | None:
    """The function that i would make late, which was to start before it here."""
    spare = None
    for k in run.ahead_of(book.node.name, i, IN_FRONT):
        if run.held_back.get(k) == book.node.name:
            continue  # there is no room for it
        if spare is None:
            end = at + run.seconds(i)
            spare = book.spare - max(1.0, run.cores(i))
        cores = max(1.0, run.cores(k))
        if spare >= cores and run.demand(k).keys() == {"cpu"}:
            spare -= cores
        elif end > run.latest[k] or k in run.claims.first:
            return k
    return None


def _may_send_ahead(book: NodeBook) -> bool:
    """Whether something may be sent to a node for a slot that is not free yet."""
    if not book.even or book.lone or len(book.ahead) >= AHEAD_MOST * book.slots:
        return False
    return not book.ahead or book.ahead_seconds < AHEAD_SECONDS * book.slots


def is_lone(run: RunBook, i: int) -> bool:
    """Whether nothing may be sent ahead behind a function.

    Elements of its result are to be cut out before its node goes on, so that they
    don't wait for another function to end; or it takes more cores than others.
    """
    return i in run.spec.cuts or run.cores(i) > 1
