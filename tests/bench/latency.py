"""How long an event takes from the hub's log to the platform, beside the least that could stand between."""

from __future__ import annotations

import statistics
import time

from bridge import CONNECTOR, RELAY, Standins, Way, eventually

# An eighth of what one core carries: a rate at which nothing queues, as most hubs are used.
RATE = 5_000
# Definitions are fetched and connections are warm by then.
WARM_SECONDS, MEASURED_SECONDS = 3.0, 10.0
SUBJECTS = (CONNECTOR, RELAY)


def once(standins: Standins, way: Way, subject: str) -> dict:
    """One stretch of events at the rate; the platform's tally of their ages."""
    if subject == CONNECTOR:
        standins.connector(way, start="Latest")
    else:
        standins.relay(way)
    try:
        if subject == CONNECTOR:
            eventually("the connector is ready", standins.ready, 30)
        eventually(f"the {subject} reads", standins.reading, 30)
        seconds = WARM_SECONDS + MEASURED_SECONDS
        load = standins.loading(int(RATE * seconds), RATE)
        time.sleep(WARM_SECONDS)
        standins.clear(way)
        load.join()
        tally = standins.tally(way)
        # Else the figures are of a queue, which is for the reader to know.
        return {**tally, "keptUp": tally["stamped"] >= 0.95 * RATE * MEASURED_SECONDS}
    finally:
        standins.processes.end(subject)


def measure(standins: Standins, ways: list[Way], runs: int) -> dict:
    """Interleaved runs of both; the middle of each."""
    result = {}
    for way in ways:
        tallies: dict[str, list[dict]] = {subject: [] for subject in SUBJECTS}
        for _ in range(runs):
            for subject in SUBJECTS:
                tallies[subject].append(once(standins, way, subject))
        middle = {
            subject: {name: statistics.median(one[name] for one in of) / 1000 for name in ("p50Us", "p99Us")}
            for subject, of in tallies.items()
        }
        for subject in SUBJECTS:
            kept_up = all(one["keptUp"] for one in tallies[subject])
            print(f"  {f'{subject}, {way.name}':56} p50 {middle[subject]['p50Us']:7.2f} ms,"
                  f" p99 {middle[subject]['p99Us']:7.2f} ms{'' if kept_up else ', but has not kept up'}", flush=True)
        ratio = middle[CONNECTOR]["p99Us"] / middle[RELAY]["p99Us"]
        print(f"  {f'p99 beside the relay, {way.name}':56} {ratio:5.1f} ×", flush=True)
        result[way.name] = {**{subject: {"p50_ms": of["p50Us"], "p99_ms": of["p99Us"]}
                               for subject, of in middle.items()}, "p99_ratio": ratio, "runs": tallies}
    return result
