"""One connector on the ways that networks leave open: WebSockets on port 443, an HTTP proxy, long delays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import eventually
from fleet import Fleet
from process import CONNECTOR, Bench
from proxy import Proxy, Relay
from stream import Stream

NETWORK = "127.0.76"
DEVICES = 2


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy(f"{NETWORK}.4", 3128)
    yield made
    made.close()


def everything_works(bench: Bench, devices: Fleet, way: str, events: bool) -> None:
    """Telemetry, a message and a direct method: the hub's three ways in."""
    bench.connector(way=way, events=events)
    eventually("the connector is ready", bench.ready, 40)
    devices.send("dev-0", {"name": way})
    eventually("telemetry arrives", lambda: bench.thingworx.value("dev-0", "name") == way, 20)
    seen = len(devices.devices["dev-1"].messages)
    answer = bench.thingworx.write("dev-1", "setpoint", 7)
    assert answer.ok, answer.text
    eventually("the message arrives", lambda: len(devices.devices["dev-1"].messages) > seen, 10)
    called = bench.thingworx.call("dev-1", "echo", text=way)
    assert called.ok and called.body == way, called


@pytest.mark.parametrize("events", [True, False], ids=["given", "asked"])
def test_in_web_sockets(bench: Bench, devices: Fleet, events: bool):
    everything_works(bench, devices, "transport: WebSockets", events)
    # A reader for each partition, and the link for messages.
    links = len(bench.hub.partitions()) + 1
    eventually("all links are WebSockets", lambda: bench.hub.connections()["https"] >= links, 20)
    assert bench.end(CONNECTOR) == 0


@pytest.mark.parametrize("events", [True, False], ids=["given", "asked"])
@pytest.mark.parametrize(("transport", "port"), [("Amqp", 5671), ("WebSockets", 443)])
def test_through_a_proxy(
    bench: Bench, devices: Fleet, proxy: Proxy, transport: str, port: int, events: bool
):
    everything_works(bench, devices, f"transport: {transport}\n  proxy: {proxy.url}", events)
    assert set(proxy.targets) == {f"{bench.hub_host}:{port}", f"{bench.events_host}:{port}", f"{bench.hub_host}:443"}
    assert bench.end(CONNECTOR) == 0


def test_long_delays_to_hub_and_platform_lose_nothing(bench: Bench, devices: Fleet, proxy: Proxy):
    # Half a second there and back: the other side of the world through a satellite.
    proxy.delay = 0.25
    relays = [Relay(bench.platform, port + 10, port, 0.25) for port in (8443, 8444)]
    try:
        bench.connector(way=f"proxy: {proxy.url}", nodes=(8453, 8454))
        eventually("the connector is ready", bench.ready, 90)
        stream = Stream(bench.thingworx, devices, rate=40)
        stream.goes_on()
        # Each write is executed, and its answer comes after its time-out.
        unanswered = lambda: bench.total('write_seconds_count{outcome="unanswered"')  # noqa: E731
        before = unanswered()
        for relay in relays:
            relay.delay = 2.5
        eventually("writes are not answered in time", lambda: unanswered() >= before + 2, 90)
        for relay in relays:
            relay.delay = 0.05
        stream.goes_on()
        stream.end()
        assert bench.end(CONNECTOR) == 0
    finally:
        for relay in relays:
            relay.close()
