"""An import of a whole registry: how long it takes and how much memory, through a kill in its middle, and how long
with a hub of the smallest size."""

from __future__ import annotations

import time

from bridge import CONNECTOR, PLAIN, Standins, eventually
from machine import peak_mib
from memory import bench
from rows import QUICK

DEVICES = 5_000 if QUICK else 50_000
# With a hub of S1: as many pages as take a quarter of a minute.
SMALL_DEVICES = 5_000
# Queries of a unit of S1 in a minute, and how many devices the connector asks for with one.
A_MINUTE, PAGE = 20, 1_000
BAR_MIB = 100


def ready(standins: Standins, *, again: bool = False) -> int:
    pid = standins.connector(PLAIN, start="Latest", again=again)
    eventually("the connector is ready", standins.ready, 30)
    return pid


def ended(standins: Standins, made: str) -> dict:
    return eventually("the import ends", lambda: standins.import_ended(PLAIN, made), 1800, 0.2)


def killed_midway() -> dict:
    """Half of it by one process, the rest by the next."""
    with bench() as standins:
        standins.define(0)
        standins.crew(DEVICES, "import-")
        pid = ready(standins)
        begun = time.monotonic()
        made = standins.begin_import(PLAIN)
        eventually("half is done", lambda: standins.imported(PLAIN) > DEVICES / 2, 900, 0.1)
        first, had, used = peak_mib(pid), standins.imported(PLAIN), time.monotonic() - begun
        standins.processes.end(CONNECTOR)
        pid = ready(standins, again=True)
        again = time.monotonic()
        event = ended(standins, made)
        return {"seconds": used + time.monotonic() - again, "peak_mib": max(first, peak_mib(pid)), "killed_at": had,
                "things": standins.imported(PLAIN), "event": event}


def at_s1() -> dict:
    """With no more queries than a unit of S1 allows: the first page at once, each other in its turn."""
    with bench() as standins:
        standins.define(0)
        standins.crew(SMALL_DEVICES, "import-")
        ready(standins)
        standins.limit({"tier": "S1", "units": 1, "operations": ["queries"], "burstSeconds": 60 / A_MINUTE})
        begun = time.monotonic()
        event = ended(standins, standins.begin_import(PLAIN))
        return {"seconds": time.monotonic() - begun, "predicted": (SMALL_DEVICES / PAGE - 1) * 60 / A_MINUTE,
                "event": event}


def measure() -> dict:
    whole, small = killed_midway(), at_s1()
    event = whole["event"]
    what = f"{DEVICES:,} devices, killed in the middle"
    print(f"  {what:56} {whole['seconds']:5.0f} s, {whole['peak_mib']:4.0f} MiB (bar {BAR_MIB}); {whole['things']:,} Things,"
          f" {event['created']:,} made after the kill and {event['existing']:,} met again, {event['failed']} failed",
          flush=True)
    what = f"{SMALL_DEVICES:,} devices, {A_MINUTE} queries a minute"
    print(f"  {what:56} {small['seconds']:5.1f} s beside {small['predicted']:.1f} s predicted", flush=True)
    return {"whole": whole, "s1": small, "bar_mib": BAR_MIB}
