"""Hosts in network namespaces of this machine, whose network can be cut and healed.

Linux and root only, with the commands ``ip`` and ``nft``; `why_not` says what lacks.

    this namespace  10.77.x.1  --+
    host w1         10.77.x.11 --+-- bridge in a namespace of its own
    host w2         10.77.x.12 --+
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import Any

TABLE = "handout_cut"
PEERS = "peers"
CUTS = ("both", "out", "in", PEERS)


def _run(*words: str, text: str | None = None) -> None:
    done = subprocess.run(
        words, input=text, capture_output=True, text=True, timeout=20, check=False
    )
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip() or done.returncode}")


@cache
def why_not() -> str:
    """Why namespaces can't be made and cut here; empty if they can."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "only root can make network namespaces"
    for command in ("ip", "nft"):
        if shutil.which(command) is None:
            return f"the command {command} is not installed"
    try:
        with Hosts(["probe"]) as hosts:
            hosts.cut("probe")
            hosts.heal("probe")
    except OSError as error:
        return f"network namespaces can't be made here: {error}"
    return ""


class Hosts:
    """Some hosts behind one bridge, and this namespace as one more.

    Parameters
    ----------
    names : iterable of str
        Up to 200 short names.

    Attributes
    ----------
    here : str
        The address of this namespace on that network.
    address : dict
        That of each host, by name.
    """

    _made = 0

    def __init__(self, names: Iterable[str]) -> None:
        Hosts._made += 1
        self._tag = f"hd{os.getpid() % 100_000:x}{Hosts._made % 16:x}"
        third = (os.getpid() * 16 + Hosts._made) % 250 + 1
        self.here = f"10.77.{third}.1"
        self.address = {n: f"10.77.{third}.{11 + k}" for k, n in enumerate(names)}
        self._hub = f"{self._tag}-hub"
        self._cut: set[str] = set()
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        _run("ip", "netns", "add", self._hub)
        self._in(self._hub, "ip", "link", "add", "br0", "type", "bridge")
        self._in(self._hub, "ip", "link", "set", "br0", "up")
        self._link(None, self.here, f"{self._tag}r")
        for k, (name, address) in enumerate(self.address.items()):
            _run("ip", "netns", "add", self.namespace(name))
            self._link(self.namespace(name), address, f"{self._tag}{k:x}")

    def _link(self, namespace: str | None, address: str, device: str) -> None:
        """A cable from a namespace, or this one, to the bridge."""
        _run(
            "ip", "link", "add", device, "type", "veth",
            "peer", "name", f"{device}p", "netns", self._hub,
        )  # fmt: skip
        self._in(self._hub, "ip", "link", "set", f"{device}p", "master", "br0", "up")
        if namespace is not None:
            _run("ip", "link", "set", device, "netns", namespace)
            self._in(namespace, "ip", "link", "set", "lo", "up")
        self._in(namespace, "ip", "addr", "add", f"{address}/24", "dev", device)
        self._in(namespace, "ip", "link", "set", device, "up")

    def _in(self, namespace: str | None, *words: str, text: str | None = None) -> None:
        before = () if namespace is None else ("ip", "netns", "exec", namespace)
        _run(*before, *words, text=text)

    def namespace(self, name: str) -> str:
        """What the host's namespace is called, for ``ip netns exec``."""
        return f"{self._tag}-{name}"

    def prefix(self, name: str) -> list[str]:
        """What stands before a command that is to run on the host."""
        return ["ip", "netns", "exec", self.namespace(name)]

    # -------------------------------------------------------------------------- cuts
    def cut(self, name: str, how: str = "both") -> None:
        """Drop packets of a host: ``both`` ways, ``in``, ``out``, or ``peers`` only.

        Peers are the other hosts, without this namespace. Nothing is told to anybody:
        connections stay open, as when a cable is pulled.
        """
        self.heal(name)
        others = [a for n, a in self.address.items() if n != name]
        rules = {
            "input": 'iif != "lo" drop;' if how in ("both", "in") else "",
            "output": 'oif != "lo" drop;' if how in ("both", "out") else "",
        }
        if how == PEERS and others:
            some = ", ".join(others)
            rules["input"] = f"ip saddr {{ {some} }} drop;"
            rules["output"] = f"ip daddr {{ {some} }} drop;"
        chains = "".join(
            f"chain {hook[0]} {{ type filter hook {hook} priority 0; {rule} }}\n"
            for hook, rule in rules.items()
            if rule
        )
        ruleset = f"table inet {TABLE} {{\n{chains}}}\n"
        self._in(self.namespace(name), "nft", "-f", "-", text=ruleset)
        self._cut.add(name)

    def heal(self, name: str) -> None:
        """Let all packets through again."""
        if name in self._cut:
            self._in(self.namespace(name), "nft", "delete", "table", "inet", TABLE)
            self._cut.discard(name)

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *args: Any) -> None:
        self.close()

    def close(self) -> None:
        """Take the namespaces and cables away; end what runs there before."""
        for namespace in [*map(self.namespace, self.address), self._hub]:
            with suppress(OSError):
                _run("ip", "netns", "del", namespace)
        with suppress(OSError):  # gone with its peer
            _run("ip", "link", "del", f"{self._tag}r")
