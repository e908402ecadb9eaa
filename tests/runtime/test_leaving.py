"""A run that is left leaves nothing; who joins waits for a plugin that leaves."""

from unittest.mock import Mock

from handout_dask.runtime import connection, guarding, nannying, observing
from handout_dask.runtime.follower import Follower


def test_a_page_that_fails_keeps_no_run_from_being_closed(caplog):
    parts = {x: Mock(name=x) for x in ("dispatcher", "keys", "sender", "lingering")}
    parts["dispatcher"].drop_run.return_value = {"n0"}
    run = Mock(message=lambda: None)
    others = dict.fromkeys(("address", "inputs", "replanner", "holding"))
    scheduler = Mock(handlers={})
    follower = Follower(scheduler, runs={"t": run}, **others, **parts)
    follower.journals, follower.dropped = Mock(), Mock()
    follower.closed = Mock(side_effect=ValueError("no such node"))
    follower.drop("t")
    follower.drop("t")
    parts["dispatcher"].drop_run.assert_called_once_with("t")
    parts["sender"].wake.assert_called_once_with("n0")
    parts["keys"].drop.assert_called_once_with(run)
    parts["lingering"].drop.assert_called_once_with(run)
    follower.journals.over.assert_called_once_with("t")
    follower.dropped.assert_called_once_with("t")
    assert "no such node" in caplog.text


def test_who_joins_waits_for_longer_than_a_plugin_takes_to_leave():
    guard = guarding.ASKING + nannying.REACH
    observer, probes = observing.PATIENCE, nannying.REACH
    assert guard + observer + probes < connection.PATIENCE
