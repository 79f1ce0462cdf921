"""Figures of what is built and runs: sizes, memory at rest, time from a pod's start to ready, egress rate.

Prints a table; judges nothing. Times are wall time of a small machine: compare within one run only.
"""

from __future__ import annotations

import statistics
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import cluster  # noqa: E402
from cluster import Stack, eventually, kubectl, listed, process  # noqa: E402
from thingworx import Arrivals  # noqa: E402

DEVICES, MESSAGES, RATE, WRITES = 8, 500, 400, 400


def memory(pod: dict) -> float:
    """Resident memory of a pod's program in MiB."""
    lines = (process(pod) / "status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def ticks(pod: dict) -> float:
    """CPU seconds that a pod's program has used."""
    fields = (process(pod) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def starts(stack: Stack, times: int) -> list[float]:
    """Seconds from a deleted pod's successor running to its being ready."""
    measured = []
    for _ in range(times):
        known = {pod["metadata"]["uid"] for pod in stack.pods()}
        kubectl("-n", stack.namespace, "delete", "pod", stack.pods()[0]["metadata"]["name"], "--wait=false")
        running: dict[str, float] = {}

        def ready() -> float | None:
            for pod in stack.pods():
                uid = pod["metadata"]["uid"]
                statuses = pod["status"].get("containerStatuses", [])
                if uid in known or not statuses or "running" not in statuses[0]["state"]:
                    continue
                running.setdefault(uid, time.monotonic())
                if statuses[0]["ready"]:
                    return time.monotonic() - running[uid]
            return None

        measured.append(eventually("a new pod is ready", ready, 60))
        stack.wait_ready(3)
        stack.settled()
    return measured


def row(what: str, figure: str) -> None:
    print(f"  {what:58} {figure:>16}", flush=True)


def main() -> int:
    cluster.install_operator()
    stack = Stack("bench-" + str(int(time.time())))
    fleet = None
    try:
        cluster.apply(stack.resource(replicas=3))
        stack.wait_ready(3)
        stack.settled()
        time.sleep(15)
        print()
        programs = Path(sys.argv[1])
        for program in ("azure-iot-hub-operator", "azure-iot-hub-connector"):
            row(f"program of the image {program}", f"{(programs / program).stat().st_size / 2**20:.1f} MiB")
        operator = listed("pods", "azure-iot-hub-connector")[0]
        row("operator: memory at rest", f"{memory(operator):.1f} MiB")
        at_rest = [memory(pod) for pod in stack.ready_pods()]
        row("connector: memory at rest, largest of three pods", f"{max(at_rest):.1f} MiB")
        fleet = stack.fleet(DEVICES)
        before = sum(ticks(pod) for pod in stack.ready_pods())
        sending = fleet.telemetry(MESSAGES, RATE)
        sending.wait(120)
        sent = {name: device.sent for name, device in fleet.devices.items()}
        eventually("every message has arrived",
                   lambda: Arrivals.of(stack.thingworx.values(), sent).lost == 0, 60)
        used = sum(ticks(pod) for pod in stack.ready_pods()) - before
        row(f"connector: CPU per telemetry message ({sending.total} of them)",
            f"{used / sending.total * 1e6:.0f} µs")
        names = sorted(fleet.devices)
        begun = time.monotonic()
        answers = stack.thingworx.many(
            [partial(stack.thingworx.write, names[n % DEVICES], "setpoint", n) for n in range(WRITES)])
        assert all(answer.ok for answer in answers), "a write failed"
        row(f"property writes, 16 at once ({WRITES} of them)", f"{WRITES / (time.monotonic() - begun):.0f} /s")
        row("connector: memory after load, largest of three pods",
            f"{max(memory(pod) for pod in stack.ready_pods()):.1f} MiB")
        fleet.close()
        fleet = None
        seconds = starts(stack, 5)
        row("container running → pod ready, median of 5", f"{statistics.median(seconds):.1f} s")
    finally:
        if fleet:
            fleet.close()
        stack.delete()
    return 0


if __name__ == "__main__":
    sys.exit(main())
