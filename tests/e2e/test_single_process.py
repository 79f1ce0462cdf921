"""One process, no Kubernetes: a real device SDK, the connector, and back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from cluster import eventually
from fleet import Fleet
from process import Bench
from thingworx import Arrivals, device_thing, hub_thing

NETWORK = "127.0.71"


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("bench"), NETWORK)
    yield made
    for program in list(made.processes):
        made.end(program)


@pytest.fixture(scope="module")
def devices(bench: Bench) -> Iterator[Fleet]:
    names = [f"dev-{index}" for index in range(4)]
    bench.thingworx.define({"FactoryHub": hub_thing(), **{name: device_thing("FactoryHub") for name in names}})
    made = Fleet(bench.hub.register(names), bench.ca)
    yield made
    made.close()


@pytest.mark.parametrize("group", [None, "", "  "])
def test_a_routing_group_that_is_null_or_empty_on_the_platform_is_refused_and_nothing_is_bound(
    bench: Bench, group: str | None
):
    bench.thingworx.define({"FactoryHub": hub_thing(routing_group=group)})
    bench.connector()
    eventually("the refusal is told", lambda: "RoutingGroupNull" in bench.unready(), 30)
    assert not any(bench.thingworx.binders("FactoryHub").values()), "the hub Thing is bound all the same"
    assert bench.end("azure-iot-hub-connector") == 0


def test_telemetry_of_every_base_type_becomes_property_values(bench: Bench, devices: Fleet):
    bench.thingworx.define({"FactoryHub": hub_thing()})
    bench.connector()
    eventually("the connector is ready", bench.ready, 30)
    devices.send("dev-0", {
        "seq": 0, "temperature": "21.5", "name": "téxt", "count": 2**53 + 1, "on": "TRUE",
        "at": "2021-10-19T08:06:08.641Z", "place": {"latitude": 47.5, "longitude": 8.25, "elevation": 430},
        "state": {"a": [1, None]}, "no such property": 1,
    })
    devices.devices["dev-0"].sent = 1
    value = lambda name: bench.thingworx.value("dev-0", name)  # noqa: E731
    eventually("the values are there", lambda: value("seq") == 0, 20)
    assert value("temperature") == 21.5
    assert value("name") == "téxt"
    assert value("count") == 2**53 + 1
    assert value("on") is True
    assert value("at") == 1634630768641
    assert value("place")["latitude"] == 47.5 and value("place")["elevation"] == 430
    assert value("state") == {"a": [1, None]}


def test_a_property_write_reaches_the_device_and_changes_no_value(bench: Bench, devices: Fleet):
    answer = bench.thingworx.write("dev-1", "setpoint", 42)
    assert answer.ok, answer.text
    eventually("the device has the message", lambda: devices.devices["dev-1"].messages, 10)
    assert devices.devices["dev-1"].messages[0]["body"] == {"setpoint": 42}
    assert bench.thingworx.value("dev-1", "setpoint") is None


def test_a_service_is_a_direct_method_with_a_result(bench: Bench, devices: Fleet):
    answer = bench.thingworx.call("dev-2", "echo", text="hello")
    assert answer.ok and answer.body == "hello", answer
    assert devices.devices["dev-2"].methods == [{"name": "echo", "payload": {"text": "hello"}}]


def test_a_device_that_the_hub_does_not_know_is_refused_with_a_reason(bench: Bench, devices: Fleet):
    bench.thingworx.define({"ghost": device_thing("FactoryHub")})
    write, call = bench.thingworx.write("ghost", "setpoint", 1), bench.thingworx.call("ghost", "echo", text="x")
    assert not write.ok and "NOT_FOUND" in write.text and "ghost" in write.text, write
    assert not call.ok and "NOT_FOUND" in call.text, call


def test_bad_messages_are_passed_and_reported_and_good_ones_go_on(bench: Bench, devices: Fleet):
    devices.send("dev-0", b"this is no JSON")
    devices.send("dev-0", "[1, 2]")
    devices.send("dev-0", {"temperature": "warm", "name": "after"})
    eventually("what fits is written", lambda: bench.thingworx.value("dev-0", "name") == "after", 20)
    told = lambda: [one for one in bench.thingworx.events() if one["event"] == "ProtocolError"]  # noqa: E731
    eventually("all three are reported", lambda: len(told()) >= 3, 20)


def test_killed_and_started_again_nothing_is_lost(bench: Bench, devices: Fleet):
    sending = devices.telemetry(100, 100)
    time.sleep(1.5)
    bench.end("azure-iot-hub-connector", signal.SIGKILL)
    sending.wait(60)
    bench.connector()
    sent = {name: device.sent for name, device in devices.devices.items()}
    eventually("every message has arrived", lambda: Arrivals.of(bench.thingworx.values(), sent).lost == 0, 60)
    assert Arrivals.of(bench.thingworx.values(), sent).out_of_order == 0


def test_one_node_of_two_leaves_and_returns_and_nothing_is_lost(bench: Bench, devices: Fleet):
    eventually("the connector is ready", bench.ready, 30)
    sending = devices.telemetry(100, 100)
    bench.thingworx.fault(kind="leave", node=1)
    time.sleep(2)
    assert bench.thingworx.write("dev-3", "setpoint", 7).ok
    bench.thingworx.fault(kind="return", node=1)
    sending.wait(60)
    sent = {name: device.sent for name, device in devices.devices.items()}
    eventually("every message has arrived", lambda: Arrivals.of(bench.thingworx.values(), sent).lost == 0, 60)
    eventually("the node is bound again", lambda: all(bench.thingworx.binders("FactoryHub").values()), 30)


def test_sigterm_unbinds_everything_and_exits_0(bench: Bench, devices: Fleet):
    eventually("the connector is ready", bench.ready, 30)
    assert bench.end("azure-iot-hub-connector") == 0, bench.log()
    assert not any(bench.thingworx.binders("FactoryHub").values())
    assert not [name for name in bench.thingworx.things() if name.startswith("AzureIot-")], "its Thing is left"
