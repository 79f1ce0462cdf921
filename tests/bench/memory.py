"""The most memory that a connector has ever had resident, under what makes it need memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bridge import PLAIN, Standins, device_thing, eventually
from machine import peak_mib, resident_mib

SOAK = os.environ.get("SOAK") == "1"
# Events behind in each partition. Bodies are shared by the stand-in; no machine could hold them otherwise.
BEHIND = 100_000
# A slow platform answers after this: some 20 times what a node of a healthy one takes.
SLOW_MS = 200
# Events a second while all nodes are gone, and by when the connector has read ahead as far as it may: 10 s.
GONE_RATE, READ_AHEAD_SECONDS = 2_000, 20
# Properties of a larger device, beside the seven that its bodies have.
MORE_PROPERTIES = 13


@contextmanager
def bench(**settings: int) -> Iterator[Standins]:
    with TemporaryDirectory(prefix="bench-") as folder:
        standins = Standins(Path(folder), **settings)
        try:
            yield standins
        finally:
            standins.close()


def behind_with_large_bodies(seconds: float) -> dict:
    """32 partitions, each far behind with bodies of 1 to 255 KB, before a platform that is slow."""
    partitions = 32
    with bench(partitions=partitions) as standins:
        standins.define(1000)
        standins.load(events=BEHIND * partitions, bytes=1024, upTo=255 * 1024)
        standins.fault(PLAIN, kind="delay", ms=SLOW_MS)
        pid = standins.connector(PLAIN)
        eventually("the connector writes", lambda: standins.written(PLAIN) > 0, 60)
        time.sleep(seconds)
        return {"peak_mib": peak_mib(pid), "written": standins.written(PLAIN), "seconds": seconds}


def kinds(templates: int, own_every: int) -> list[dict]:
    """Definitions in turn: so many templates, and now and then a device with a property of its own."""
    made = []
    for number in range(own_every):
        more = {f"more{number % templates}_{one}": {"baseType": "NUMBER", "remote": {}}
                for one in range(MORE_PROPERTIES)}
        if number == own_every - 1:
            more["own"] = {"baseType": "STRING", "remote": {}}
        made.append(device_thing(**more))
    return made


def many_devices(devices: int) -> dict:
    """Devices of ten templates with 20 properties each, one in a hundred with one of its own."""
    with bench() as standins:
        standins.define(devices, kinds(10, 100))
        standins.load(events=3 * devices, devices=devices)
        pid = standins.connector(PLAIN)
        begun = time.monotonic()
        # Every device has been written to.
        eventually("all is written", lambda: standins.written(PLAIN) >= 3 * devices, 600, 0.2)
        return {"peak_mib": peak_mib(pid), "seconds": time.monotonic() - begun}


def nodes_gone(seconds: float) -> dict:
    """All nodes leave while events go on coming."""
    with bench() as standins:
        standins.define(1000)
        pid = standins.connector(PLAIN)
        eventually("the connector is ready", standins.ready, 30)
        standins.loading(int(GONE_RATE * (seconds + 120)), GONE_RATE)
        eventually("values arrive", lambda: standins.written(PLAIN) > 10_000, 60, 0.1)
        standins.fault(PLAIN, kind="leave")
        # Reading ahead has ended by then: what grows from here on grows without end.
        time.sleep(READ_AHEAD_SECONDS)
        early = resident_mib(pid)
        time.sleep(seconds)
        late = resident_mib(pid)
        standins.fault(PLAIN, kind="return")
        before = standins.written(PLAIN)
        eventually("values arrive again", lambda: standins.written(PLAIN) > before + 1000, 60, 0.1)
        return {"early_mib": early, "late_mib": late, "peak_mib": peak_mib(pid), "seconds": seconds}


def measure(quick: bool) -> dict:
    result = {
        "behind": behind_with_large_bodies(10 if quick else 30),
        "devices": many_devices(10_000 if quick else 100_000),
        "gone": nodes_gone(600 if SOAK else 20 if quick else 60),
    }
    behind, devices, gone = result["behind"], result["devices"], result["gone"]
    print(f"  {'32 partitions far behind, 1 to 255 KB':56} {behind['peak_mib']:5.0f} MiB")
    print(f"  {f'{10_000 if quick else 100_000:,} devices of ten templates':56} {devices['peak_mib']:5.0f} MiB"
          f" (all written 3 times in {devices['seconds']:.0f} s)")
    print(f"  {f'''all nodes gone for {gone['seconds']:.0f} s''':56} {gone['early_mib']:5.0f} MiB at first,"
          f" {gone['late_mib']:.0f} MiB at the end", flush=True)
    return result
