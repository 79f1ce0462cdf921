"""Where the connector's CPU goes: a profile of it, folded into the stages of the ingress river.

A sample belongs to the innermost function on its stack that is of a stage. Needs perf, and a connector that keeps
its symbols: `tests/e2e/run stages` builds one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import measure
from bridge import CONNECTOR, PLAIN, TLS, Standins, Way, eventually
from machine import Cpu
from memory import bench

# The first that matches a function is its stage; the innermost function with a stage is the sample's.
STAGES = [(stage, re.compile(pattern)) for stage, pattern in (
    ("checkpoint", r"connector::claim|connector::ingress::partition::.*checkpoint"),
    ("decode", r"connector::ingress::(decode|body|date_time|notice)"),
    ("map", r"connector::ingress::(map|value|request|definition|twin)"),
    ("write", r"alwayson|tungstenite|connector::platform"),
    ("lane", r"connector::ingress"),
    ("reading", r"fe2o3_amqp|serde_amqp|azure_|iothub::|iothub\.\."),
)]
ORDER = ("reading", "decode", "map", "lane", "write", "checkpoint")
OTHER = "runtime and rest"
# Each sample copies 16 KiB of stack, which holds all frames: no more of them than a tenth of a percent needs.
HERTZ, SECONDS = 499, 5


def fold(script: str) -> Counter[str]:
    """Samples by stage, of what `perf script` prints: a paragraph for each sample, innermost function first."""
    found: Counter[str] = Counter()
    for sample in script.split("\n\n"):
        frames = [line.split(None, 1)[1] for line in sample.splitlines() if line[:1].isspace() and " " in line.strip()]
        if frames:
            found[stage_of(frames)] += 1
    return found


def stage_of(frames: list[str]) -> str:
    for frame in frames:
        for stage, pattern in STAGES:
            if pattern.search(frame):
                return stage
    return OTHER


def record(standins: Standins, way: Way) -> tuple[Counter[str], float]:
    """Samples by stage, and CPU microseconds for each event."""
    data = standins.folder / "perf.data"
    standins.clear(way)
    pid = standins.connector(way)
    try:
        eventually("the connector is warm", lambda: standins.written(way) >= measure.WARM_EVENTS, 300, 0.1)
        before, events = Cpu.of(pid), standins.written(way)
        subprocess.run(["perf", "record", "-q", "-F", str(HERTZ), "--call-graph", "dwarf,16384", "-p", str(pid), "-o", data, "--",
                        "sleep", str(SECONDS)], check=True, capture_output=True)
        used, events = Cpu.of(pid).since(before), standins.written(way) - events
    finally:
        standins.processes.end(CONNECTOR)
    script = subprocess.run(["perf", "script", "--no-inline", "-i", data, "-F", "ip,sym"], check=True, capture_output=True, text=True)
    return fold(script.stdout), used.total / events * 1e6


def main() -> int:
    with bench() as standins:
        standins.define(1_000)
        standins.load(events=2_000_000)
        for way in (PLAIN, TLS):
            found, us = record(standins, way)
            total = sum(found.values())
            print(f"\n{way.name}: {us:.1f} µs for each event, {total} samples")
            for stage in (*ORDER, OTHER):
                share = found[stage] / total
                print(f"  {stage:20} {share:5.1%} {share * us:6.1f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
