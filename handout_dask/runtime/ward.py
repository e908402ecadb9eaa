"""Ward: word of what ended goes in, what is decided comes out. Has the clock.

Shared by all nodes of one supervisor, wherever their processes are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import time

from handout_dask.restarts import (
    ASKED,
    GIVEN_UP,
    Decision,
    Exit,
    GiveUp,
    Restart,
    RestartPolicy,
    Restarts,
)

logger = logging.getLogger(__name__)


class Ward:
    """What nodes report to.

    Parameters
    ----------
    policy : RestartPolicy
        Of nodes that are not known yet.

    Attributes
    ----------
    restarts : Restarts
        Decides.
    enact : callable
        Is handed each decision about a node that has ended.
    """

    def __init__(self, policy: RestartPolicy) -> None:
        self.policy = policy
        self.restarts = Restarts()
        self.enact: Callable[[Decision], None] = lambda decision: None

    def worker_ended(
        self, name: str, how: str, code: int | None, pid: int | None, text: str = ""
    ) -> bool:
        """A worker ended below its nanny, who asks whether to start another one.

        If not, the nanny is to end too.
        """
        decision = self._decide(Exit(name, time(), how, code, pid, text))
        if isinstance(decision, Restart):
            return True
        self.enact(decision)
        return False

    def node_ended(
        self, name: str, how: str, code: int | None, pid: int | None, text: str = ""
    ) -> None:
        """A nanny, or its process, ended."""
        child = self.restarts.children.get(name)
        if child is not None and child.state == GIVEN_UP:
            return
        self.enact(self._decide(Exit(name, time(), how, code, pid, text)))

    def is_up(self, name: str) -> None:
        """A node runs."""
        if name not in self.restarts.children:
            self.restarts.add(name, self.policy)
        self.restarts.is_up(name)

    def _decide(self, exit: Exit) -> Decision:
        decision = self.restarts.ended(exit)
        if isinstance(decision, GiveUp):
            logger.error("Given up: %s. %s", ", ".join(decision.names), decision.why)
        elif exit.how != ASKED:
            logger.warning("%s", exit)
        return decision
