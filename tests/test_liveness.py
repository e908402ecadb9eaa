"""Who is taken for gone that says nothing: laws of the detector, on a clock of ours."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handout_dask.liveness import Answer, Ask, Detector, Limits, Remove

BEAT, LOOK = 0.5, 0.25
LIVES, STOPPED = Answer(alive=True, frozen=False), Answer(alive=True, frozen=True)
GONE = Answer(alive=False, frozen=False)


class Play:
    """A detector with workers that beat until they don't; asks are answered or not."""

    def __init__(self, answers, nanny=True, beat=BEAT, limits=None):
        self.detector, self.now, self.beat = Detector(limits), 0.0, beat
        self.answers, self.nanny = dict.fromkeys(answers) | dict(answers), nanny
        self.silent, self.asked, self.removed = set(), [], {}
        self.last, self.fresh = dict.fromkeys(self.answers, 0.0), set()

    def run(self, seconds, step=LOOK):
        end = self.now + seconds
        while self.now < end:
            self.now += step
            for who in self.answers:
                if who not in self.silent and self.now - self.last[who] >= self.beat:
                    self.last[who] = self.now
                    self.detector.heard(who, self.nanny, who in self.fresh)
            for verdict in self.detector.look(self.now, self.beat):
                if isinstance(verdict, Remove):
                    self.removed[verdict.who] = (self.now, verdict)
                    self.detector.forget(verdict.who)
                else:
                    self.asked.append((self.now, verdict.who))
                    if self.answers[verdict.who] is not None:
                        self.detector.answered(verdict, self.answers[verdict.who])
        return self


def test_who_is_heard_is_neither_asked_nor_removed():
    play = Play({"a": None, "b": LIVES}).run(100)
    assert (play.asked, play.removed) == ([], {})


@pytest.mark.parametrize("answer", [STOPPED, GONE, None])
def test_who_is_stopped_gone_or_cut_off_is_removed_within_four_seconds(answer):
    play = Play({"a": answer, "b": None}).run(10)
    play.silent.add("a")
    play.run(10)
    assert play.removed.keys() == {"a"}
    at, verdict = play.removed["a"]
    assert 3 - BEAT <= at - 10 <= 4
    why = {STOPPED: "stopped", GONE: "gone", None: "nor did its nanny"}[answer]
    assert why in verdict.why
    assert not verdict.hung


def test_who_loads_what_watches_it_is_given_longer_but_not_for_ever():
    # All workers and nannies of a new cluster import it at once, and say nothing.
    play = Play({"a": None, "b": None, "c": STOPPED, "d": GONE})
    play.fresh = set(play.answers)
    play.run(1)
    play.silent = set(play.answers)
    play.run(13)
    assert play.removed.keys() == {"c", "d"}  # whom there is no doubt about
    play.silent.discard("b")
    play.run(10)
    assert play.removed.keys() == {"a", "c", "d"}
    assert "nor did its nanny for 15 s" in play.removed["a"][1].why
    play.fresh, play.silent = set(), set()
    play.run(1)
    play.silent = {"b"}
    play.run(4)
    assert "b" in play.removed


def test_who_has_loaded_it_meanwhile_is_not_given_longer():
    play = Play({"a": None, "b": None})
    play.fresh = set(play.answers)
    play.run(1)
    play.detector.loaded()
    play.silent, play.fresh = {"a"}, set()
    play.run(5)
    assert play.removed.keys() == {"a"}
    assert "nor did its nanny for 1.5 s" in play.removed["a"][1].why


def test_who_was_asked_in_vain_while_loading_is_asked_anew_when_it_is_over():
    play = Play({"a": None})
    play.fresh = {"a"}
    play.run(1)
    play.silent = {"a"}
    play.run(8)  # its nanny imports, and so hears no question
    assert (play.asked != [], play.removed) == (True, {})
    play.detector.loaded()
    play.answers["a"], play.asked = LIVES, []
    play.run(5)
    assert play.removed == {}
    assert play.asked[0] == (9.25, "a")  # at once


def test_who_is_busy_is_kept_for_a_minute_and_then_hangs():
    play = Play({"a": LIVES}).run(10)
    play.silent.add("a")
    play.run(59)
    assert play.removed == {}
    play.silent.clear()
    play.run(10)
    play.silent.add("a")
    play.run(62)
    at, verdict = play.removed["a"]
    assert 60 - BEAT <= at - 79 <= 61
    assert verdict.hung


def test_who_is_busy_and_then_stopped_is_removed_when_its_nanny_says_so():
    play = Play({"a": LIVES}).run(10)
    play.silent.add("a")
    play.run(20)
    play.answers["a"] = STOPPED
    play.run(3)
    assert play.removed["a"][0] - 30 <= 1.25


def test_who_is_busy_and_whose_nanny_falls_silent_too_is_removed():
    play = Play({"a": LIVES}).run(10)
    play.silent.add("a")
    play.run(20)
    play.answers["a"] = None
    play.run(4)
    assert play.removed == {}, "it may be slow, on a host with too much to do"
    play.run(3)
    assert "nor did its nanny" in play.removed["a"][1].why


def test_who_has_no_nanny_is_asked_nothing_and_removed_later():
    play = Play({"a": None}, nanny=False).run(10)
    play.silent.add("a")
    play.run(29)
    assert (play.asked, play.removed) == ([], {})
    play.run(3)
    assert "no nanny" in play.removed["a"][1].why


def test_who_listens_late_removes_nobody():
    """The scheduler itself was stopped for 20 s, or for a day."""
    play = Play({"a": None, "b": STOPPED}).run(10)
    for pause in (20, 86400):
        play.silent.update("ab")
        play.run(pause, step=pause)  # one look, after all that time
        play.run(1)
        play.silent.clear()
        play.run(10)
    assert play.removed == {}


def test_limits_grow_with_the_time_between_heartbeats():
    play = Play({"a": None}, beat=2.0).run(20)
    play.silent.add("a")
    play.run(9)
    assert play.removed == {}
    play.run(5)
    assert play.removed.keys() == {"a"}


def test_an_answer_that_comes_after_a_sign_of_life_is_no_evidence():
    detector = Detector()
    detector.heard("a", True)
    now, verdicts = 0.0, []
    while not verdicts:
        now += LOOK
        verdicts = detector.look(now, BEAT)
    assert verdicts == [Ask("a", 1)]
    detector.heard("a", True)
    detector.answered(verdicts[0], STOPPED)  # of before
    asked = []
    for k in range(1, 20):
        for verdict in detector.look(now + k * LOOK, BEAT):
            assert isinstance(verdict, Ask), "stopped, it says, but that was before"
            detector.answered(verdict, LIVES)
            asked.append(verdict)
    assert len(asked) > 2


EVENTS = st.one_of(
    st.tuples(st.just("look"), st.floats(0, 30)),
    st.tuples(st.just("heard"), st.sampled_from("abc"), st.booleans()),
    st.tuples(
        st.just("answered"), st.integers(0, 5), st.sampled_from([LIVES, STOPPED, GONE])
    ),
)  # fmt: skip


@given(st.lists(EVENTS, max_size=200))
@settings(max_examples=200, deadline=None)
def test_nobody_is_removed_without_evidence_whatever_comes_in_whatever_order(events):
    """A reference with a log: what each rule needs, seen from the outside."""
    limits = Limits()
    detector, now, own, log, asks = Detector(limits), 0.0, 0.0, {}, []
    first = True
    for kind, *about in events:
        if kind == "heard":
            detector.heard(*about)
            log[about[0]] = (own, about[1], {}, [])
        elif kind == "answered":
            if about[0] < len(asks):
                ask = asks[-1 - about[0]]
                detector.answered(ask, about[1])
                if ask in log.get(ask.who, ((), (), ()))[2]:
                    log[ask.who][2].clear()
                    log[ask.who][3].append(about[1])
        else:
            now += about[0]
            own += 0.0 if first else min(about[0], limits.lag)
            first = False
            for verdict in detector.look(now, BEAT):
                heard, nanny, asked, answers = log[verdict.who]
                assert own - heard == pytest.approx(detector.silence(verdict.who))
                if isinstance(verdict, Ask):
                    assert nanny
                    assert own - heard >= limits.ask - 1e-9
                    asked[verdict] = own
                    asks.append(verdict)
                    continue
                assert own - heard >= limits.silent - 1e-9
                waited = own - min(asked.values(), default=own)
                assert (
                    waited >= (limits.slow if answers else limits.answer) - 1e-9
                    or (nanny and answers and answers[-1] in (STOPPED, GONE))
                    or (nanny and answers and own - heard >= limits.busy - 1e-9)
                    or (not nanny and own - heard >= limits.lone - 1e-9)
                )
                assert not verdict.hung or answers[-1] == LIVES
                del log[verdict.who]
                detector.forget(verdict.who)
