"""What the ingress river costs: CPU for each event, rate, latency, memory, beside what merely reading costs others.

Source and sink run on one core, what is measured on another. Prints a table, and writes all figures as JSON.
`QUICK=1` takes a run of each where there are five, and leaves TLS out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

import latency
import measure
import memory
import peers
import rows
import scaling
from bridge import PLAIN, TLS, Standins, Way
from rows import QUICK

# Peers are in the first of the rounds only: they differ by factors.
RUNS, PEER_RUNS = 1 if QUICK else 5, 3
WAYS = [PLAIN] if QUICK else [PLAIN, TLS]
# The fastest reader takes a hundred thousand a second and more, for as long as it warms up and is measured.
EVENTS = 3_000_000


def bridge() -> dict:
    """The whole bridge, plain and by TLS, in turn with what merely reads the same events."""
    with memory.bench() as standins:
        standins.define(1_000)
        standins.load(events=EVENTS)
        best = {language: min(settings, key=lambda peer: peers.read(standins, PLAIN, peer=peer).us) if not QUICK
                else settings[1] for language, settings in peers.PEERS.items()}
        # Name → what is run, which way, and how often.
        subjects: dict[str, tuple[Callable[[Standins, Way], measure.Run], Way, int]] = {}
        for way in WAYS:
            subjects[f"whole bridge, {way.name}"] = measure.bridge, way, RUNS
            subjects[f"its library merely reading, {way.name}"] = measure.reading, way, RUNS
        for peer in best.values():
            for way in WAYS:
                subjects[f"{peer}, {way.name}"] = partial(peers.read, peer=peer), way, min(RUNS, PEER_RUNS)
        runs: dict[str, list[measure.Run]] = {name: [] for name in subjects}
        for turn in range(RUNS):
            for name, (run, way, times) in subjects.items():
                if turn < times:
                    runs[name].append(run(standins, way))
        for name, of in runs.items():
            measure.show(name, of)
        return {name: measure.figures(of) for name, of in runs.items()}


def latencies() -> dict:
    with memory.bench() as standins:
        standins.define(1_000)
        return latency.measure(standins, WAYS, 1 if QUICK else 3)


ROWS = {
    "bridge": ("CPU for each event (median of interleaved runs; least to most); peers with prefetch/batch", bridge),
    "latency": (f"Latency at {latency.RATE:,} events/s", latencies),
    "memory": ("Peak of resident memory", lambda: memory.measure(QUICK)),
    "scaling": ("CPU for each event as there are more", lambda: scaling.measure_all(1 if QUICK else 3, QUICK)),
}


if __name__ == "__main__":
    sys.exit(rows.main(__doc__, ROWS, "bench.json"))
