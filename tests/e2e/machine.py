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
def gone(name: str) -> Iterator[None]:
    """A program of the cluster is killed, and started again as it was."""
    process_id = program(name)
    here = Path(f"/proc/{process_id}")
    command = (here / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    variables = dict(one.split(b"=", 1) for one in (here / "environ").read_bytes().split(b"\0") if b"=" in one)
    folder = (here / "cwd").resolve()
    os.kill(process_id, signal.SIGKILL)
    try:
        yield
    finally:
        with (RUN / "log" / f"{name}.log").open("ab") as log:
            started = subprocess.Popen(command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=log,
                                       stderr=log, start_new_session=True)
        # As `tests/cluster/up` writes it down: process id and start time, which is the 20th field behind the name.
        began = Path(f"/proc/{started.pid}/stat").read_text().rpartition(")")[2].split()[19]
        (RUN / "pids" / name).write_text(f"{started.pid} {began}\n")


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
