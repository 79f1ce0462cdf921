"""Whether a device that never answers, and one whose queue is full, make the others wait."""

from __future__ import annotations

import statistics

from bridge import CONNECTOR, PLAIN
from commands import THING, Asked, failed, serving
from rows import QUICK
from throttled import at_once

# Far below what a pod carries, so that what is measured is not a queue.
OTHERS = {"writes": Asked("write", "setpoint", 500), "methods": Asked("call", "run", 200)}
# More than a device may have under way, and more than its queue holds.
ILL = {
    "calls of a device that never answers": Asked("call", "run", 20, "mute-", 1),
    "writes to a device whose queue is full": Asked("write", "setpoint", 50, "full-", 1),
}
SECONDS = 10
ROUNDS = 1 if QUICK else 3
# How much higher the others' p99 may be.
BAR_RATIO = 1.1


def measure() -> dict:
    """Rounds of the others alone and beside the ill devices, in turn; the middle of each."""
    rounds: list[dict[str, dict]] = []
    with serving(PLAIN, CONNECTOR) as (standins, _):
        standins.ill(THING)
        at_once(standins, OTHERS, 3)
        for _ in range(ROUNDS):
            rounds.append({"alone": at_once(standins, OTHERS, SECONDS),
                           "beside": at_once(standins, OTHERS | ILL, SECONDS)})
    result: dict = {"bar": BAR_RATIO, "rounds": rounds}
    for name in OTHERS:
        p99 = {when: statistics.median(one[when][name]["p99Us"] for one in rounds) / 1000 for when in ("alone", "beside")}
        lost = sum(failed(one[when][name]) for one in rounds for when in one)
        result[name] = {"p99_ms": p99, "failed": lost, "ratio": p99["beside"] / p99["alone"]}
        print(f"  {f'{name} of others':30} p99 {p99['alone']:6.2f} ms alone, {p99['beside']:6.2f} ms beside:"
              f" {result[name]['ratio']:.2f} × (bar {BAR_RATIO}), failed {lost} (bar 0)", flush=True)
    for name in ILL:
        print(f"  {name:30} {rounds[-1]['beside'][name]['outcomes']}", flush=True)
    return result
