"""Liveness: which nodes are taken for gone that say nothing. Pure: time is an argument.

Knows heartbeats, and what the nanny of a worker answers when it is asked; so a worker
that computes and lets its interpreter do nothing else is not taken for one that is
frozen or cut off. Knows no Dask.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """After how much silence what is done.

    Attributes
    ----------
    ask : float
        Silence [s] after which the nanny is asked, again and again.
    silent : float
        Silence [s] before which nobody is given up.
    ask_beats, silent_beats : float
        The same in heartbeats, which are rarer in large clusters; the larger counts.
    answer, slow : float
        Seconds that a nanny has for its answer; the latter if it gave one before, since
        its worker was heard last, so that it is but slow now, as on a host that has too
        much to do.
    fresh : float
        The same for nannies of workers that have yet to load what watches them: both
        import it then, and may say nothing else meanwhile.
    busy : float
        Silence [s] after which a worker is given up whose nanny says that it lives.
    lone : float
        The same for a worker without a nanny, whom nobody can be asked about.
    lag : float
        The most [s] that counts between two looks: who was not there to listen, such as
        a scheduler that was frozen itself, has heard nothing for that reason.
    """

    ask: float = 2.0
    silent: float = 3.0
    ask_beats: float = 4.0
    silent_beats: float = 6.0
    answer: float = 1.5
    slow: float = 5.0
    fresh: float = 15.0
    busy: float = 60.0
    lone: float = 30.0
    lag: float = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What a nanny says of its worker process: whether it lives, and is stopped."""

    alive: bool
    frozen: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """A verdict: ask the nanny of this worker; `number` tells questions apart."""

    who: str
    number: int


@dataclass(frozen=True, slots=True)
class Remove:
    """A verdict: this worker is taken for gone.

    `hung` says that its process lives and could work: it is the code in it that lets
    it do nothing else.
    """

    who: str
    why: str
    hung: bool = False


@dataclass(slots=True)
class _Watched:
    heard: float  # on the detector's own clock, as all here
    nanny: bool
    asked: dict[int, float]  # since when each question is open, by its number
    fresh: bool = False  # whether it has yet to load what watches it
    last: float = 0.0  # when the last one was put; 0 is never
    answer: Answer | None = None  # since it was heard last


class Detector:
    """Decides who is taken for gone.

    Its clock stands still while nobody looks, but for `Limits.lag`.

    Parameters
    ----------
    limits : Limits, optional
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = Limits() if limits is None else limits
        self._own = 0.0
        self._looked: float | None = None
        self._watched: dict[str, _Watched] = {}
        self._count = 0  # of questions

    def heard(self, who: str, nanny: bool, fresh: bool = False) -> None:
        """Somebody has said something.

        Parameters
        ----------
        who : str
            A worker.
        nanny : bool
            Whether it has one to be asked.
        fresh : bool
            Whether it has yet to load what watches it.
        """
        self._watched[who] = _Watched(self._own, nanny, {}, fresh)

    def loaded(self) -> None:
        """All who have said something have loaded what watches them by now.

        What a nanny was asked meanwhile, it may not have heard: it is asked anew.
        """
        for watched in self._watched.values():
            if watched.fresh:
                watched.fresh, watched.last = False, 0.0
                watched.asked.clear()

    def answered(self, ask: Ask, answer: Answer) -> None:
        """A nanny has answered a question; one that is not open any more is ignored."""
        watched = self._watched.get(ask.who)
        if watched is not None and ask.number in watched.asked:
            watched.asked.clear()
            watched.answer = answer

    def forget(self, who: str) -> None:
        """Somebody is gone, or was given up."""
        self._watched.pop(who, None)

    def silence(self, who: str) -> float:
        """For how long [s] nothing was heard, of the time in which we could hear."""
        watched = self._watched.get(who)
        return 0.0 if watched is None else self._own - watched.heard

    def look(self, now: float, beat: float) -> list[Ask | Remove]:
        """What is to be done now.

        Parameters
        ----------
        now : float
            The time [s], of a clock that never goes back.
        beat : float
            Seconds between two heartbeats of one worker.
        """
        if self._looked is not None:
            self._own += min(max(now - self._looked, 0.0), self.limits.lag)
        self._looked = now
        verdicts: list[Ask | Remove] = []
        for who, watched in self._watched.items():
            verdict = self._judge(who, watched, beat)
            if verdict is not None:
                verdicts.append(verdict)
        return verdicts

    def _judge(self, who: str, watched: _Watched, beat: float) -> Ask | Remove | None:
        limits, silence = self.limits, self._own - watched.heard
        if silence >= max(limits.silent, limits.silent_beats * beat):
            found = self._condemned(watched, silence, beat)
            if found is not None:
                why, hung = found
                return Remove(who, f"said nothing for {silence:.1f} s, {why}", hung)
        if not watched.nanny or silence < max(limits.ask, limits.ask_beats * beat):
            return None
        if watched.last and self._own - watched.last < limits.answer / 2:
            return None
        self._count += 1
        watched.asked[self._count] = watched.last = self._own
        return Ask(who, self._count)

    def _condemned(
        self, watched: _Watched, silence: float, beat: float
    ) -> tuple[str, bool] | None:
        """Why somebody is given up, and whether they hang; None if they are not."""
        limits, answer = self.limits, watched.answer
        if not watched.nanny:
            if silence < max(limits.lone, 2 * limits.silent_beats * beat):
                return None
            return "and has no nanny that could be asked", False
        first = min(watched.asked.values(), default=self._own)
        has = limits.answer if answer is None else limits.slow
        if watched.fresh:
            has = limits.fresh
        if self._own - first >= has:
            return f"nor did its nanny for {has:g} s", False
        if answer is not None and not answer.alive:
            return "and its process is gone", False
        if answer is not None and answer.frozen:
            return "and its process is stopped", False
        if answer is not None and silence >= limits.busy:
            return (
                "while its process lived, but let nothing else run in it",
                True,
            )
        return None
