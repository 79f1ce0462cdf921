"""A stretch of steady work of one process: what it costs for each event, and how fast it goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

from bridge import CONNECTOR, RELAY, Standins, Way, eventually
from machine import Cpu, peak_mib

# Written before a run is measured: all definitions are fetched, and merging has found its size.
WARM_EVENTS = 40_000
# Measured in a run: long enough that the clock's ticks of 10 ms are below 1 %.
MEASURED_SECONDS = 4.0


@dataclass(frozen=True)
class Run:
    """What one stretch has shown. Times are CPU times for each event."""

    events: float
    seconds: float
    user_us: float
    system_us: float
    # Share of their core that source and sink were busy.
    standins: float
    peak_mib: float

    @property
    def us(self) -> float:
        return self.user_us + self.system_us

    @property
    def rate(self) -> float:
        return self.events / self.seconds


def stretch(standins: Standins, pid: int, others: list[int], count: Callable[[], float],
            seconds: float = MEASURED_SECONDS) -> Run:
    """Measures a process from now on; `count` tells how many events it has done with."""
    def now() -> tuple[float, Cpu, list[Cpu]]:
        return count(), Cpu.of(pid), [Cpu.of(one) for one in others]

    before = now()
    time.sleep(seconds)
    after = now()
    events, used = after[0] - before[0], after[1].since(before[1])
    if events <= 0:
        raise RuntimeError("nothing was done in a measured stretch")
    if standins.left() <= 0:
        raise RuntimeError("the stream was read to its end in a measured stretch; give it more events")
    busy = sum(end.since(begin).total for begin, end in zip(before[2], after[2], strict=True))
    return Run(events, used.at, used.user / events * 1e6, used.system / events * 1e6, busy / used.at, peak_mib(pid))


def bridge(standins: Standins, way: Way, *, warm: int = WARM_EVENTS, seconds: float = MEASURED_SECONDS) -> Run:
    """The whole bridge, over the backlog that lies in the stream."""
    standins.clear(way)
    pid = standins.connector(way)
    try:
        eventually("the connector is ready", standins.ready, 30)
        eventually("the connector is warm", lambda: standins.written(way) >= warm, 300, 0.1)
        return stretch(standins, pid, standins.pids(way), lambda: standins.written(way), seconds)
    finally:
        standins.processes.end(CONNECTOR)


def reading(standins: Standins, way: Way) -> Run:
    """Merely reading with the library that the connector reads with: what no work on the connector can save."""
    pid = standins.relay(way, writing=False)
    try:
        eventually("reading is warm", lambda: standins.reading() and standins.read() >= WARM_EVENTS, 120, 0.1)
        return stretch(standins, pid, [standins.hub_pid], standins.read)
    finally:
        standins.processes.end(RELAY)


def median(runs: list[Run]) -> Run:
    """The run in the middle by cost."""
    return sorted(runs, key=lambda run: run.us)[len(runs) // 2]


def figures(runs: list[Run]) -> dict:
    """All runs and their middle, for the file."""
    return {"us": median(runs).us, "rate": statistics.median(run.rate for run in runs),
            "runs": [asdict(run) for run in runs]}


def show(what: str, runs: list[Run]) -> None:
    """One line of the table."""
    run = median(runs)
    least, most = min(one.us for one in runs), max(one.us for one in runs)
    rate = statistics.median(one.rate for one in runs)
    print(f"  {what:56} {run.us:6.1f} µs = {run.user_us:5.1f} user + {run.system_us:4.1f} system"
          f" ({least:.1f} to {most:.1f}) {rate:9,.0f} /s, stand-ins {run.standins:4.0%},"
          f" {max(one.peak_mib for one in runs):4.0f} MiB", flush=True)
