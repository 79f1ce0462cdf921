"""A stretch of requests of the platform to devices, at a rate: what one costs, and how long it takes until the hub has
accepted it, beside the least that could stand between."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from bridge import CONNECTOR, PLAIN, RELAY, TLS, Standins, Way, device_thing, eventually
from machine import Cpu
from memory import bench
from rows import QUICK

DEVICES = 1_000
# Connections are warm by then; long enough that the clock's ticks of 10 ms are 1 % of what is used.
WARM_SECONDS, MEASURED_SECONDS = 3, 10
RUNS = 1 if QUICK else 3
WAYS = [PLAIN] if QUICK else [PLAIN, TLS]
SUBJECTS = (CONNECTOR, RELAY)
# What is asked of the connector: µs for each, its p99 beside the relay's, failures.
BAR_US, BAR_RATIO, BAR_FAILED = 100, 3, 0
DONE = "SUCCESS"


THING = device_thing(setpoint={"baseType": "INTEGER", "remote": {}}, twinReported={"baseType": "JSON", "remote": {}}) | {
    "services": {"run": {"inputs": {"number": "NUMBER"}}}}


@dataclass(frozen=True)
class Asked:
    """What the platform asks of devices in turn, and how often a second."""

    kind: str
    target: str
    rate: int
    prefix: str = "device-"
    things: int = DEVICES

    def of(self, standins: Standins, way: Way, seconds: int) -> dict:
        return standins.command(way, kind=self.kind, target=self.target, prefix=self.prefix, things=self.things,
                                perSecond=self.rate, seconds=seconds)


WRITES, METHODS = Asked("write", "setpoint", 2_000), Asked("call", "run", 500)


@dataclass(frozen=True)
class Run:
    """What one stretch has shown. CPU times are for each request."""

    user_us: float
    system_us: float
    # Share of their core that platform and hub were busy.
    standins: float
    failed: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    # How late the platform's requests were sent: part of the three above.
    late_p99_ms: float
    outcomes: dict[str, int]

    @property
    def us(self) -> float:
        return self.user_us + self.system_us


def failed(told: dict) -> int:
    """Requests of a load that were not done, or not even sent."""
    return told["due"] - told["outcomes"].get(DONE, 0)


@contextmanager
def serving(way: Way, subject: str) -> Iterator[tuple[Standins, int]]:
    """A connector or relay that serves a fleet, and its pid. Each has stand-ins of its own: the hub remembers what
    devices have received."""
    with bench() as standins:
        standins.define(DEVICES, [THING])
        standins.crew(DEVICES)
        if subject == CONNECTOR:
            pid = standins.connector(way, start="Latest")
            eventually("the connector is ready", standins.ready, 30)
        else:
            pid = standins.commands_relay(way)
            eventually("the relay has bound the hub Thing", lambda: standins.bound(way), 30)
        yield standins, pid


def once(asked: Asked, way: Way, subject: str) -> Run:
    with serving(way, subject) as (standins, pid):
        asked.of(standins, way, WARM_SECONDS)

        def now() -> tuple[Cpu, list[Cpu]]:
            return Cpu.of(pid), [Cpu.of(one) for one in standins.pids(way)]

        before = now()
        told = asked.of(standins, way, MEASURED_SECONDS)
        after = now()
        used = after[0].since(before[0])
        busy = sum(end.since(begin).total for begin, end in zip(before[1], after[1], strict=True))
        each = 1e6 / told["due"]
        return Run(used.user * each, used.system * each, busy / used.at, failed(told), told["p50Us"] / 1000,
                   told["p99Us"] / 1000, told["maxUs"] / 1000, told["late"]["p99Us"] / 1000, told["outcomes"])


def show(what: str, runs: list[Run], bars: bool) -> None:
    """One line of the table."""
    run = sorted(runs, key=lambda one: one.us)[len(runs) // 2]
    median = {name: statistics.median(getattr(one, name) for one in runs)
              for name in ("p50_ms", "p99_ms", "late_p99_ms", "standins")}
    lost = sum(one.failed for one in runs)
    print(f"  {what:30} {run.us:6.1f} µs = {run.user_us:5.1f} user + {run.system_us:4.1f} system"
          f"{f' (bar {BAR_US})' if bars else '':10}  p50 {median['p50_ms']:6.2f} ms, p99 {median['p99_ms']:7.2f} ms"
          f" (sent late {median['late_p99_ms']:.2f}), failed {lost}{f' (bar {BAR_FAILED})' if bars else ''},"
          f" stand-ins {median['standins']:4.0%}", flush=True)
    if lost:
        print(f"    {[one.outcomes for one in runs if one.failed]}", flush=True)


def measure(asked: Asked) -> dict:
    """Interleaved runs of both; the middle of each."""
    result: dict = {"bars": {"us": BAR_US, "p99_ratio": BAR_RATIO, "failed": BAR_FAILED}}
    for way in WAYS:
        runs: dict[str, list[Run]] = {subject: [] for subject in SUBJECTS}
        for _ in range(RUNS):
            for subject in SUBJECTS:
                runs[subject].append(once(asked, way, subject))
        for subject, of in runs.items():
            show(f"{subject}, {way.name}", of, subject == CONNECTOR)
        p99 = {subject: statistics.median(one.p99_ms for one in of) for subject, of in runs.items()}
        ratio = p99[CONNECTOR] / p99[RELAY]
        print(f"  {f'p99 beside the relay, {way.name}':56} {ratio:5.1f} × (bar {BAR_RATIO})", flush=True)
        result[way.name] = {"p99_ratio": ratio, "runs": {
            subject: [asdict(one) | {"us": one.us} for one in of] for subject, of in runs.items()}}
    return result
