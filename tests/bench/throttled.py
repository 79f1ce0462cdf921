"""What becomes of requests while the hub allows no more than one unit of its smallest tier, and when it allows all
again.

What a unit allows is documented by the minute (tests/iothub/src/meter.rs); that the first ten seconds of it may come
at once is the stand-in's assumption. A write that the hub throttles waits in the connector for as long as its time
lasts, so a load of `SECONDS` is decided once the last of it has waited for `BUDGET`.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from bridge import CONNECTOR, PLAIN, Standins
from commands import DONE, WARM_SECONDS, WRITES, Asked, failed, serving
from rows import QUICK

UNIT = "one unit of S1"
LIMITS = {"tier": "S1", "units": 1, "burstSeconds": 10}
# Messages that a unit of S1 takes in a minute.
A_MINUTE = 100
SECONDS = 10 if QUICK else 30
# What the connector takes for a request where nothing is set, in seconds.
BUDGET = 27
# Writes a second: somewhat more than may wait in a pod at once (256 of one sort), and far more.
OFFERED = (15, 200)
# Other operations, each far below what a unit allows of it.
OTHERS = {"methods": Asked("call", "run", 10), "twin reads": Asked("read", "twinReported", 10)}
# How the outcome of one begins that was not taken.
REFUSED = "SERVICE_UNAVAILABLE"
# How far counts may be from the predicted.
BAR_SHARE = 0.1
# The rate that comes back is looked at before and after the limits are lifted for so many seconds.
LIFT_SECONDS = 5


def predicted(offered: int) -> tuple[int, int]:
    """Writes that the hub accepts and refuses in the end."""
    allowed = int(A_MINUTE / 60 * (LIMITS["burstSeconds"] + SECONDS + BUDGET))
    accepted = min(offered * SECONDS, allowed)
    return accepted, offered * SECONDS - accepted


def at_once(standins: Standins, loads: dict[str, Asked], seconds: int = SECONDS) -> dict[str, dict]:
    """Several loads beside each other."""
    with ThreadPoolExecutor(len(loads)) as pool:
        told = {name: pool.submit(load.of, standins, PLAIN, seconds) for name, load in loads.items()}
        return {name: one.result() for name, one in told.items()}


def others(told: dict[str, dict]) -> dict[str, dict]:
    return {name: {"failed": failed(told[name]), "p99_ms": told[name]["p99Us"] / 1000,
                   "outcomes": told[name]["outcomes"]} for name in OTHERS}


def neither(told: dict) -> dict[str, int]:
    """What writes came to that were not done, nor refused in so many words."""
    return {name: count for name, count in told["outcomes"].items()
            if name != DONE and not name.startswith(REFUSED)}


def counted(standins: Standins, offered: int) -> dict:
    """Writes at a rate, and other operations before and beside it."""
    at_once(standins, OTHERS, WARM_SECONDS)
    before = others(at_once(standins, OTHERS))
    standins.limit(LIMITS)
    asked = standins.operations()["c2d"]
    told = at_once(standins, {**OTHERS, "writes": Asked("write", WRITES.target, offered)})
    meanwhile = others(told)
    tries = standins.operations()["c2d"]["refused"] - asked["refused"]
    standins.limit(None)
    writes = told["writes"]
    refused = sum(count for name, count in writes["outcomes"].items() if name.startswith(REFUSED))
    return {"offered": offered, "accepted": writes["outcomes"].get(DONE, 0), "refused": refused,
            "predicted": predicted(offered), "neither": neither(writes), "longest_s": writes["maxUs"] / 1e6,
            "tries_refused": tries, "outcomes": writes["outcomes"],
            "others": {"before": before, "meanwhile": meanwhile}}


def lifted(standins: Standins) -> dict:
    """The full rate under a throttle that is lifted in its middle."""
    standins.limit(LIMITS)
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(WRITES.of, standins, PLAIN, 2 * LIFT_SECONDS)
        time.sleep(LIFT_SECONDS)
        standins.limit(None)
        at = time.monotonic()
        told = load.result()
    first = int((at * 1e6 - told["beganUs"]) / 1e5) + 1
    done = told["done"] + [0] * 2 * LIFT_SECONDS * 10
    return {"rate": WRITES.rate, "neither": neither(told), "outcomes": told["outcomes"],
            "seconds_after": [sum(done[first + 10 * n:first + 10 * n + 10]) for n in range(LIFT_SECONDS - 1)]}


def share(count: int, of: int) -> str:
    return f"{count:,} of {of:,} predicted ({count / of - 1:+.0%}, bar ±{BAR_SHARE:.0%})" if of else f"{count:,} of 0"


def show_neither(writes: str, outcomes: dict[str, int]) -> None:
    which = f": {outcomes}" if outcomes else ""
    print(f"  {f'{writes}: neither done nor refused':56} {sum(outcomes.values()):,} (bar 0){which}")


def show(figures: dict) -> None:
    accepted, refused = figures["predicted"]
    writes = f"{figures['offered']} writes/s"
    print(f"  {f'{writes}: accepted':56} {share(figures['accepted'], accepted)}")
    print(f"  {f'{writes}: refused':56} {share(figures['refused'], refused)}")
    show_neither(writes, figures["neither"])
    print(f"  {f'{writes}: longest':56} {figures['longest_s']:.2f} s (bar {BUDGET} s and the way back);"
          f" the hub was asked in vain {figures['tries_refused']:,} times")
    of = figures["others"]
    for name in OTHERS:
        before, meanwhile = of["before"][name], of["meanwhile"][name]
        print(f"  {f'{writes}: {name} meanwhile':56} {meanwhile['failed']} failed (bar 0), p99"
              f" {meanwhile['p99_ms']:.2f} ms beside {before['p99_ms']:.2f} ms before", flush=True)


def measure() -> dict:
    result: dict = {"loads": []}
    for offered in OFFERED:
        with serving(PLAIN, CONNECTOR) as (standins, _):
            figures = counted(standins, offered)
        show(figures)
        result["loads"].append(figures)
    with serving(PLAIN, CONNECTOR) as (standins, _):
        result["lifted"] = lifted(standins)
    after = ", ".join(f"{count:,}" for count in result["lifted"]["seconds_after"])
    writes = f"{WRITES.rate:,} writes/s, limits lifted"
    print(f"  {f'{writes}: done in each second after':56} {after} (bar {WRITES.rate:,} in the first)")
    show_neither(writes, result["lifted"]["neither"])
    return result
