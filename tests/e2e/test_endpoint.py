"""One connector that asks the hub where its built-in endpoint is, and follows it through a fail-over."""

from __future__ import annotations

import sys

import stream
from cluster import eventually
from fleet import Fleet
from process import CONNECTOR, Bench
from thingworx import Arrivals

NETWORK = "127.0.75"
DEVICES = 4
MOVED = "HubEndpointMoved"


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
    bench.connector(events=False)
    eventually("the connector is ready", bench.ready, 40)
    first = numbers(devices)
    devices.telemetry(20, 100).wait(60)
    arrive(bench, devices, first)
    assert not told(bench, MOVED)


def test_after_a_fail_over_under_load_everything_sent_since_arrives_in_order(bench: Bench, devices: Fleet):
    sending = devices.telemetry(150, 100)
    eventually("the stream has begun", lambda: sending.acknowledged > 80, 20)
    bench.hub.fault(fault="fail-over")
    # Read after the fail-over: what was sent before may be lost, by Azure's own doing.
    since = {name: number + 1 for name, number in numbers(devices).items()}
    sending.wait(90)
    arrive(bench, devices, since)
    assert told(bench, MOVED) and told(bench, "telemetry-after-1")
    assert bench.total("endpoint_moves_total") == 1


def test_latest_does_not_skip_what_came_while_the_hub_failed_over_and_nobody_read(bench: Bench, devices: Fleet):
    if CONNECTOR in bench.processes:
        bench.end(CONNECTOR)
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


def readers(bench: Bench) -> int:
    return sum(bool(partition["readers"]) for partition in bench.hub.partitions())


def test_a_given_endpoint_that_is_not_the_hubs_any_more_is_reported(bench: Bench, devices: Fleet):
    entity = bench.hub.entity()
    events = bench.folder / "events"
    events.write_text(events.read_text().replace("EntityPath=telemetry", f"EntityPath={entity}"))
    bench.connector(name="given")
    eventually("the connector is ready", bench.ready, 40)
    assert not told(bench, MOVED, "given")
    bench.hub.fault(fault="fail-over")
    eventually("the move is told", lambda: told(bench, MOVED, "given"), 60)
    bench.end("given")
    # And at a start: nothing can be read, and this is why.
    bench.connector(name="given")
    eventually("it is told again", lambda: told(bench, MOVED, "given") == 2, 60)
    eventually("with what to do", lambda: "leave it out" in bench.unready(), 10)
    bench.end("given")
