"""Parting: leaves nodes out that the scheduler reaches, but other nodes don't.

And fails what waits for a result that can't come. Decides nothing about who is left
out: `cuts.Cuts` does. Beside plugin.py it touches the scheduler's internals; the seams
here:

* ``stream_handlers["request-refresh-who-has"]`` is wrapped: a worker asks it for as
  long as it does not get a result from where it is, which may be for ever (2026.8.0).
* ``WorkerState.metrics`` is what a worker's probe told with its last heartbeat.
* ``TaskState.who_has``, ``dependents`` and ``processing_on`` are who waits for what.
* ``Scheduler.transitions({key: "released"})`` takes a reader back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from time import monotonic, time
from typing import Any

from distributed import Scheduler
from distributed.protocol import pickle, to_serialize

from handout_dask.cuts import Cuts, Questions
from handout_dask.errors import HandoutError, NodeLostError, UndeliverableError
from handout_dask.runtime.erring import err, label_of
from handout_dask.runtime.probe import OVERDUE
from handout_dask.runtime.reaching import PORTABLE, REACH
from handout_dask.runtime.records import NAME

logger = logging.getLogger(__name__)

BETWEEN = 0.5  # s between two tries of one node to reach another
HEALING = 2.0  # s between tries whether those that are out are reached again
SILENT = 1.5  # s after which a node is the guard's concern, not a link
IN_VAIN = 15.0  # s of asking for a result, after which its reader fails
STUCK = 10.0  # s that a function on a node that is left out waits for its inputs
MANY = 32  # nodes that all try to reach all others, once a link is known to be cut


class Parting:
    """Learns of cut links, and sees to what they hold up.

    Parameters
    ----------
    host : HandoutPlugin
        Whose scheduler, roster, dispatcher and keys it uses.
    guard : Guard
        Asks workers; gives them up.
    """

    def __init__(self, host: Any, guard: Any) -> None:
        self._host, self._guard = host, guard
        self._scheduler: Scheduler = host.scheduler
        self._cuts, self._questions = Cuts(), Questions()
        self._tried: dict[tuple[str, str], float] = {}  # by addresses, when last
        self._out: dict[str, str] = {}  # nodes that are left out, and why
        self._looked = 0.0
        handlers = self._scheduler.stream_handlers
        self._dask = handlers["request-refresh-who-has"]
        handlers["request-refresh-who-has"] = self._own = self._refresh

    def stop(self) -> None:
        """Put the handler back, unless somebody else has wrapped ours."""
        handlers = self._scheduler.stream_handlers
        if handlers.get("request-refresh-who-has") == self._own:
            handlers["request-refresh-who-has"] = self._dask
        for name in list(self._out):
            self._bar(name, "")

    # ------------------------------------------------------------------ suspicions
    def look(self, now: float) -> None:
        """See from where workers wait for something in vain, and who is healed."""
        if self._host.runs:
            for address, ws in list(self._scheduler.workers.items()):
                for other in (ws.metrics.get(NAME) or {}).get(OVERDUE, ()):
                    self._suspect(address, [other], now)
                if self._cuts.cut_from(self._host.names.get(address, "")):
                    self._fail_stuck(ws, now)
        if now - self._looked >= HEALING:
            self._looked = now
            self._questions.sweep(now)
            self._tried = {k: t for k, t in self._tried.items() if now - t < HEALING}
            for name, why in self._out.items():
                book = self._host.dispatcher.nodes.get(name)
                if book is not None and not book.barred:  # it was for something else
                    self._bar(name, why)
                self._try_again(name)

    def _refresh(self, keys: Iterable[Any], worker: str, stimulus_id: str) -> None:
        """A worker did not get results from where they are, and asks where they are."""
        keys, now = list(keys), monotonic()
        if worker not in self._scheduler.workers:
            return
        self._dask(keys=keys, worker=worker, stimulus_id=stimulus_id)
        for key in keys:
            task = self._scheduler.tasks.get(key)
            holders = [ws.address for ws in (task.who_has or ())] if task else []
            silence = max(map(self._guard.silence, [worker, *holders]))
            if not holders or silence >= 2 * SILENT:  # a process is busy, or gone
                self._questions.forget(worker, key)
            if not holders or silence >= SILENT:
                continue
            count, lasts = self._questions.asked(worker, key, now)
            if count < 2 or not self._readers(key, worker):
                continue
            self._suspect(worker, holders, now)
            if lasts >= IN_VAIN:
                self._questions.forget(worker, key)
                self._fail(key, worker, holders, lasts)
            elif count == 2:
                self._guard.spawn(self._ask_holder(key, worker, holders[0]))

    def _are_heard(self, addresses: Iterable[str]) -> bool:
        return all(self._guard.silence(address) < SILENT for address in addresses)

    def _suspect(self, address: str, others: Collection[str], now: float) -> None:
        """Something does not come to a worker from others: let it try to reach them."""
        names = self._host.names
        due = [
            other
            for other in others
            if other in self._scheduler.workers
            and now - self._tried.get((address, other), 0.0) >= BETWEEN
            and not self._cuts.is_cut(names.get(address, ""), names.get(other, ""))
        ]
        if due and self._are_heard([address, *due]):
            # Until there is an answer, which takes some time, no other try.
            self._tried |= {(address, other): now + HEALING for other in due}
            self._guard.spawn(self._try(address, due))

    async def _try(self, address: str, others: Collection[str]) -> bool:
        """Let a worker try to reach others; whether a link is cut that was not."""
        try:
            told = await self._guard.call(address, REACH, peers=list(others))
        except (OSError, TimeoutError):
            told = None  # it is busy, or gone
        now, names, news = monotonic(), self._host.names, False
        for other in others:
            self._tried[address, other] = now
            one, two = names.get(address), names.get(other)
            if told is None or one is None or two is None:
                continue
            if self._are_heard([address, other]):
                news |= self._cuts.tried(one, two, bool(told[other]))
        if news:
            await self._settle()
        return news

    # ------------------------------------------------------------------- decisions
    async def _settle(self) -> None:
        """Links are cut, or healed: leave nodes out, or let them take part again."""
        await self._survey()
        weight = {
            self._host.names.get(address, ""): float(len(ws.has_what))
            for address, ws in self._scheduler.workers.items()
        }
        out = self._cuts.out(weight)
        for name in [name for name in self._out if name not in out]:
            logger.warning("Node %s reaches all others again", name)
            del self._out[name]
            self._bar(name, "")
        for name in [name for name in out if name not in self._out]:
            others = ", ".join(self._cuts.cut_from(name))
            why = f"reaches the scheduler, but not {others}"
            self._out[name] = f"it {why}"
            self._bar(name, self._out[name])
            ws = self._scheduler.workers.get(self._host.address.get(name, ""))
            if ws is not None:
                await self._guard.give_up(ws, why)

    async def _survey(self) -> None:
        """Let all nodes try to reach all others, if any two of them are cut off."""
        addresses = [a for a in self._scheduler.workers if self._are_heard([a])]
        if len(addresses) > MANY or not self._cuts.out({}):
            return
        for _ in range(2):  # strikes
            answers = await asyncio.gather(
                *(
                    self._guard.call(a, REACH, peers=[b for b in addresses if b != a])
                    for a in addresses
                ),
                return_exceptions=True,
            )
            names = self._host.names
            for a, told in zip(addresses, answers, strict=True):
                for b, reached in told.items() if isinstance(told, dict) else ():
                    known = a in names and b in names
                    if known and not reached and self._are_heard([a, b]):
                        self._cuts.tried(names[a], names[b], False)

    def _try_again(self, name: str) -> None:
        """See whether a node that is left out is reached by those it is cut off from.

        Those that are gone don't count.
        """
        address = self._host.address.get(name)
        for other in self._cuts.cut_from(name):
            there = self._host.address.get(other)
            if there is not None and address is not None:
                self._guard.spawn(self._try(there, [address]))
            elif there is None and other not in self._host.roster.down:
                self._cuts.forget(other)
                self._guard.spawn(self._settle())

    def _bar(self, name: str, why: str) -> None:
        """Let functions go elsewhere that can, for as long as there is a reason."""
        resting = self._host.dispatcher.resting
        if why:
            self._host.sender.wake(*resting.bar(name, why))
            self._host.replanner.changed(f"node {name} is left out: {why}")
        elif name in self._host.dispatcher.nodes:
            resting.unbar(name)
            self._host.sender.wake(name)
            self._host.replanner.changed(f"node {name} is taken back in")

    # ---------------------------------------------------------------- what can't come
    def _readers(self, key: Any, worker: str) -> list[Any]:
        """Functions of ours that wait on a worker for a result."""
        return [
            reader.key
            for reader in self._scheduler.tasks[key].dependents
            if reader.processing_on is not None
            and reader.processing_on.address == worker
            and self._host.keys.run_of(reader.key) is not None
        ]

    async def _ask_holder(self, key: Any, worker: str, holder: str) -> None:
        """Perhaps a result can't be pickled, which only its own worker gets to hear."""
        why = ""
        with suppress(OSError, TimeoutError):
            why = await self._guard.call(holder, PORTABLE, key=key) or ""
        task = self._scheduler.tasks.get(key)
        if not why or task is None:
            return
        readers, where = self._readers(key, worker), [x.address for x in task.who_has]
        stimulus, name = f"handout-unportable-{time()}", self._host.names.get(holder)
        self._scheduler.transitions(dict.fromkeys(readers, "released"), stimulus)
        for reader in readers:
            if not self._host._stay(reader, where):
                text = (
                    f"the result of function {label_of(task)} can't be pickled, and "
                    f"function {label_of(self._scheduler.tasks[reader])} needs it on "
                    f"another node than {name!r}: {why}. Return something that can, or "
                    "keep them together by node=with_function(...)"
                )
                self._err(reader, UndeliverableError(text))

    def _fail_stuck(self, ws: Any, now: float) -> None:
        """Fail functions whose inputs are on nodes that theirs can't reach only.

        Others have moved; these are bound to their nodes.
        """
        name, names = self._host.names.get(ws.address, ""), self._host.names
        needs = {x for task in ws.processing for x in task.dependencies if x.who_has}
        for task in needs:
            holders = [x.address for x in task.who_has]
            if all(self._cuts.is_cut(name, names.get(x, "")) for x in holders):
                _, lasts = self._questions.asked(ws.address, task.key, now)
                if lasts >= STUCK:
                    self._fail(task.key, ws.address, holders, lasts)

    def _fail(self, key: Any, worker: str, holders: list[str], seconds: float) -> None:
        """Fail what waits for a result that has not come for long."""
        names = self._host.names
        where = ", ".join(repr(names.get(x, x)) for x in holders)
        for reader in self._readers(key, worker):
            text = (
                f"function {label_of(self._scheduler.tasks[reader])} on node "
                f"{names.get(worker, worker)!r} did not get the result of function "
                f"{label_of(self._scheduler.tasks[key])} from node {where} for "
                f"{seconds:.0f} s, though both nodes are there. Is the network between "
                "them cut?"
            )
            self._err(reader, NodeLostError(text))

    def _err(self, key: Any, error: HandoutError) -> None:
        raised = to_serialize(pickle.dumps(error))
        err(self._scheduler, key, f"handout-cut-{time()}", exception=raised)
