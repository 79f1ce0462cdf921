"""What an event costs as devices and partitions become more."""

from __future__ import annotations

import measure
from bridge import PLAIN
from measure import Run
from memory import bench

DEVICES = (100, 1_000, 10_000, 100_000)
PARTITIONS = (4, 8, 16, 32)
# Enough that the warm-up with the most devices and the stretch behind it find events.
EVENTS = 1_200_000


def once(devices: int, partitions: int) -> Run:
    with bench(partitions=partitions) as standins:
        standins.define(devices)
        standins.load(events=EVENTS, devices=devices)
        # Each device's definitions are fetched with its first event.
        return measure.bridge(standins, PLAIN, warm=max(measure.WARM_EVENTS, 2 * devices))


def series(label: str, points: list[tuple[int, int]], of: int, runs: int) -> dict:
    """Interleaved runs of all points; the cost of the dearest beside the cheapest."""
    measured: dict[int, list[Run]] = {point[of]: [] for point in points}
    for _ in range(runs):
        for point in points:
            measured[point[of]].append(once(*point))
    for number, found in measured.items():
        measure.show(f"{number:,} {label}", found)
    costs = [measure.median(found).us for found in measured.values()]
    print(f"  {f'dearest beside cheapest, {label}':56} {max(costs) / min(costs):5.2f} ×", flush=True)
    return {"ratio": max(costs) / min(costs), **{str(number): measure.figures(found)
                                                   for number, found in measured.items()}}


def measure_all(runs: int, quick: bool) -> dict:
    devices, partitions = (DEVICES[::3], PARTITIONS[::3]) if quick else (DEVICES, PARTITIONS)
    return {
        "devices": series("devices", [(one, 4) for one in devices], 0, runs),
        "partitions": series("partitions", [(1_000, one) for one in partitions], 1, runs),
    }
