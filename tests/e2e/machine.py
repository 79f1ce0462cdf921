"""What a scenario does to the machine that the cluster runs on: processes that are killed or frozen, pods that are cut
off. Only for a cluster that `tests/cluster/up` has started here."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cluster import process

RUN = Path(os.environ.get("CLUSTER_DIR", "/var/lib/azure-iot-hub-connector-cluster"))
# The cluster's programs and pods are this machine's.
HERE = os.environ.get("CLUSTER") != "existing"


def program(name: str) -> int:
    """Process id of a program of the cluster, by the name that `tests/cluster/up` gives it."""
    return int((RUN / "pids" / name).read_text().split()[0])


def pid(pod: dict) -> int:
    """Process id of a pod's program."""
    return int(process(pod).name)


def kill(pod: dict) -> None:
    """Ends a pod's program at once, as a crash does."""
    os.kill(pid(pod), signal.SIGKILL)


@contextlib.contextmanager
def frozen(process_id: int) -> Iterator[None]:
    """The process does nothing meanwhile; its connections stay."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


@contextlib.contextmanager
def cut(pod: dict, *addresses: str) -> Iterator[None]:
    """Packets between a pod and these addresses are dropped without a word, both ways."""
    inside = ["nsenter", "--target", str(pid(pod)), "--net", "iptables", "--wait"]
    rules = [rule for address in addresses
             for rule in (["OUTPUT", "--destination", address], ["INPUT", "--source", address])]

    def change(how: str, rule: list[str]) -> None:
        subprocess.run([*inside, how, *rule, "--jump", "DROP"], check=True, timeout=30)

    with contextlib.ExitStack() as undo:
        for rule in rules:
            change("--append", rule)
            undo.callback(change, "--delete", rule)
        yield
