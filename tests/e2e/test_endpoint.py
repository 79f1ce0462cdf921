"""One connector that asks the hub where its built-in endpoint is, and follows it through a fail-over."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import stream
from cluster import eventually
from fleet import Fleet
from process import CONNECTOR, Bench
from thingworx import Arrivals

NETWORK = "127.0.75"
DEVICES = 4
MOVED = "HubEndpointMoved"


@pytest.fixture(autouse=True)
def alone(bench: Bench) -> Iterator[None]:
    """Connectors of scenarios that fail do not stay: all have the same port."""
    yield
    for name in ("latest", "given"):
        if bench.running(name):
            bench.end(name)


def told(bench: Bench, text: str, name: str = CONNECTOR) -> int:
    return (bench.folder / f"{name}.log").read_text().count(text)


def arrivals(bench: Bench, devices: Fleet, first: dict[str, int]) -> Arrivals:
    """What has arrived of the messages that each device has sent from number `first` on."""
    sent = {name: device.sent - first[name] for name, device in devices.devices.items()}
    return Arrivals.of([
        {**entry, "value": int(entry["value"]) - first[entry["thing"]]}
        for entry in bench.thingworx.values()
        if entry["property"] == "seq" and int(entry["value"]) >= first.get(entry["thing"], sys.maxsize)
    ], sent)


def numbers(devices: Fleet) -> dict[str, int]:
    return {name: device.sent for name, device in devices.devices.items()}


def arrive(bench: Bench, devices: Fleet, first: dict[str, int], seconds: float = 60) -> None:
    try:
        eventually("every message has arrived", lambda: arrivals(bench, devices, first).lost == 0, seconds)
    finally:
        got = arrivals(bench, devices, first)
        stream.told(f"lost {got.lost}, twice {got.twice}, out of order {got.out_of_order}")
    assert got.out_of_order == 0


def test_without_a_connection_string_of_the_endpoint_telemetry_flows(bench: Bench, devices: Fleet):
    asking(bench)
    moved = told(bench, MOVED)
    first = numbers(devices)
    devices.telemetry(20, 100).wait(60)
    arrive(bench, devices, first)
    assert told(bench, MOVED) == moved


def test_after_a_fail_over_under_load_everything_sent_since_arrives_in_order(bench: Bench, devices: Fleet):
    asking(bench)
    moved = bench.total("endpoint_moves_total")
    sending = devices.telemetry(None, 100)
    eventually("the stream has begun", lambda: sending.acknowledged > 80, 30)
    bench.hub.fault(fault="fail-over")
    # Read after the fail-over: what was sent before may be lost, by Azure's own doing.
    since = {name: number + 1 for name, number in numbers(devices).items()}
    eventually("the stream goes on", lambda: all(
        device.sent >= since[name] + 100 for name, device in devices.devices.items()), 90)
    sending.stop()
    sending.wait(60)
    arrive(bench, devices, since)
    assert told(bench, MOVED) and told(bench, bench.hub.entity())
    assert bench.total("endpoint_moves_total") == moved + 1


def test_latest_does_not_skip_what_came_while_the_hub_failed_over_and_nobody_read(bench: Bench, devices: Fleet):
    if bench.running():
        bench.end()
    latest = {"name": "latest", "start": "Latest", "events": False}
    bench.connector(**latest)
    eventually("every partition is read", lambda: readers(bench) == len(bench.hub.partitions()), 40)
    first = numbers(devices)
    devices.telemetry(5, 100).wait(60)
    arrive(bench, devices, first)
    bench.end("latest")
    bench.hub.fault(fault="fail-over")
    since = numbers(devices)
    devices.telemetry(20, 100).wait(60)
    bench.connector(**latest)
    arrive(bench, devices, since)
    bench.end("latest")


def asking(bench: Bench) -> None:
    """A connector that asks the hub where the endpoint is."""
    bench.serving(events=False)


def readers(bench: Bench) -> int:
    return sum(bool(partition["readers"]) for partition in bench.hub.partitions())


def test_a_given_endpoint_that_is_not_the_hubs_any_more_is_reported(bench: Bench, devices: Fleet):
    if bench.running():
        bench.end()
    events = bench.folder / "events"
    events.write_text(f"{events.read_text().partition('EntityPath=')[0]}EntityPath={bench.hub.entity()}")
    bench.connector(name="given")
    eventually("the connector is ready", bench.ready, 40)
    assert not told(bench, MOVED, "given")
    bench.hub.fault(fault="fail-over")
    eventually("the move is told", lambda: told(bench, MOVED, "given"), 60)
    bench.end("given")
    before = told(bench, MOVED, "given")
    # And at a start: nothing can be read, and this is why.
    bench.connector(name="given")
    eventually("it is told again", lambda: told(bench, MOVED, "given") > before, 60)
    eventually("with what to do", lambda: "leave it out" in bench.unready(), 10)
    bench.end("given")
