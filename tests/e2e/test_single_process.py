"""One process, no Kubernetes: a real device SDK, the connector, and back."""

from __future__ import annotations

import gzip
import json
import signal
from collections.abc import Iterator

import pytest
from cluster import eventually
from fleet import Fleet
from process import Bench
from stream import Stream
from thingworx import device_thing, hub_thing

NETWORK = "127.0.71"
DEVICES = 4


@pytest.fixture
def running(bench: Bench, devices: Fleet) -> Iterator[Fleet]:
    """A connector that is ready, whatever became of the one before."""
    bench.serving()
    yield devices
    bench.thingworx.fault(kind="return")


def errors(bench: Bench, device: str) -> list[str]:
    """What was told of a device's messages."""
    rows = [one["data"]["rows"][0] for one in bench.thingworx.events() if one["event"] == "ProtocolError"]
    return [row["message"] for row in rows if row["ThingName"] == device]


@pytest.mark.parametrize("group", [None, "", "  "])
def test_a_routing_group_that_is_null_or_empty_on_the_platform_is_refused_and_nothing_is_bound(
    bench: Bench, group: str | None
):
    bench.thingworx.define({"FactoryHub": hub_thing(routing_group=group)})
    try:
        bench.connector()
        eventually("the refusal is told", lambda: "RoutingGroupNull" in bench.unready(), 30)
        assert not any(bench.thingworx.binders("FactoryHub").values()), "the hub Thing is bound all the same"
        assert bench.end() == 0
    finally:
        bench.thingworx.define({"FactoryHub": hub_thing()})


def test_telemetry_of_every_base_type_becomes_property_values(bench: Bench, running: Fleet):
    running.send("dev-0", {
        "seq": running.devices["dev-0"].sent, "temperature": "21.5", "name": "téxt", "count": 2**53 + 1, "on": "TRUE",
        "at": "2021-10-19T08:06:08.641Z", "place": {"latitude": 47.5, "longitude": 8.25, "elevation": 430},
        "state": {"a": [1, None]}, "no such property": 1, "picture": "iVBORw==", "point": [1, 2.5, 3],
        "note": "a\nb", "tags": "Site:A;Site:B", "table": {
            "dataShape": {"fieldDefinitions": {"x": {"name": "x", "baseType": "NUMBER", "ordinal": 1}}},
            "rows": [{"x": "1.5"}, {"x": None}],
        },
    })
    running.devices["dev-0"].sent += 1
    value = lambda name: bench.thingworx.value("dev-0", name)  # noqa: E731
    eventually("the values are there", lambda: value("name") == "téxt", 20)
    assert value("temperature") == 21.5
    assert value("count") == 2**53 + 1
    assert value("on") is True
    assert value("at") == 1634630768641
    assert value("place")["latitude"] == 47.5 and value("place")["elevation"] == 430
    assert value("state") == {"a": [1, None]}
    assert value("picture") == "iVBORw=="
    assert value("point") == {"x": 1, "y": 2.5, "z": 3}
    assert value("note") == "a\nb"
    assert value("tags") == "Site:A;Site:B"
    assert [row.get("x") for row in value("table")["rows"]] == [1.5, None]


def test_arrays_compressed_bodies_and_charsets_are_read_and_a_property_gives_the_time(
    bench: Bench, running: Fleet
):
    seen, told = len(bench.thingworx.values()), len(errors(bench, "dev-1"))
    many = json.dumps([{"name": "one"}, {"name": "two"}, 7]).encode()
    running.send("dev-1", gzip.compress(many), encoding="gzip", at="1000")
    running.send("dev-1", '{"name":"drei ü"}'.encode("iso-8859-1"),
                 content_type="application/json; charset=iso-8859-1", encoding="", at="1970-01-01T00:00:05Z")
    # A bomb: 2 MiB in 2 KiB. It is passed, and what follows is not held up.
    running.send("dev-1", gzip.compress(b" " * (2 << 20)), encoding="gzip")
    running.send("dev-1", "\ufeff{\"name\":\"last\"}".encode("utf-16-be"), encoding="", at="6000")
    eventually("the last is written", lambda: bench.thingworx.value("dev-1", "name") == "last", 20)
    # In order of first arrivals: a device that loses its connection sends again what the hub has already.
    written = dict.fromkeys(
        (one["value"], one["timeMs"]) for one in bench.thingworx.values(seen)
        if one["thing"] == "dev-1" and one["property"] == "name"
    )
    assert [(json.loads(value), time) for value, time in written] == [
        ("one", 1000), ("two", 1001), ("drei ü", 5000), ("last", 6000)]
    for what, words in (("element", "[2]"), ("bomb", "inflated")):
        eventually(f"the {what} is told", lambda: any(words in text for text in errors(bench, "dev-1")[told:]), 20)


def test_what_a_device_reports_of_itself_becomes_the_whole_twin_on_its_thing(bench: Bench, running: Fleet):
    reported = lambda: bench.thingworx.value("dev-2", "twinReported")  # noqa: E731
    running.report("dev-2", {"fw": {"version": 1, "ok": True}, "gone": 1})
    eventually("the twin is written", lambda: reported() == {"fw": {"version": 1, "ok": True}, "gone": 1}, 20)
    running.report("dev-2", {"fw": {"version": 2}, "gone": None})
    eventually("a change is merged", lambda: reported() == {"fw": {"version": 2, "ok": True}}, 20)


def test_devices_that_are_made_and_connect_are_told_to_the_platform(bench: Bench, running: Fleet):
    eventually("a device that is connected shows so", lambda: bench.thingworx.value("dev-3", "online") is True, 20)
    bench.hub.register(["newcomer"])
    told = lambda: [  # noqa: E731
        one["data"]["rows"][0] for one in bench.thingworx.events() if one["event"] == "AzureThingLifecycleEvent"
    ]
    eventually("the newcomer is told", lambda: any(one["deviceId"] == "newcomer" for one in told()), 20)
    row = next(one for one in told() if one["deviceId"] == "newcomer")
    assert row["status"] == "createDeviceIdentity"
    assert row["twin"]["deviceId"] == "newcomer"


def test_a_property_write_reaches_the_device_and_changes_no_value(bench: Bench, running: Fleet):
    messages = running.devices["dev-1"].messages
    had = len(messages)
    answer = bench.thingworx.write("dev-1", "setpoint", 42)
    assert answer.ok, answer.text
    eventually("the device has the message", lambda: len(messages) > had, 20)
    assert messages[had]["body"] == {"setpoint": 42}
    assert bench.thingworx.value("dev-1", "setpoint") is None


def test_a_service_is_a_direct_method_with_a_result(bench: Bench, running: Fleet):
    methods = running.devices["dev-2"].methods
    had = len(methods)
    answer = bench.thingworx.call("dev-2", "echo", text="hello")
    assert answer.ok and answer.body == "hello", answer
    assert methods[had:] == [{"name": "echo", "payload": {"text": "hello"}}]


def test_a_right_that_the_policy_lacks_is_named(bench: Bench, running: Fleet):
    eventually("its services are offered", bench.offered, 30)
    made = bench.thingworx.service("CreateAzureIotDevice", thingName="made")
    assert not made.ok and "FORBIDDEN" in made.text and "RegistryWrite" in made.text, made.text


def test_a_device_that_the_hub_does_not_know_is_refused_with_a_reason(bench: Bench, running: Fleet):
    bench.thingworx.define({"ghost": device_thing("FactoryHub")})
    write, call = bench.thingworx.write("ghost", "setpoint", 1), bench.thingworx.call("ghost", "echo", text="x")
    assert not write.ok and "NOT_FOUND" in write.text and "ghost" in write.text, write
    assert not call.ok and "NOT_FOUND" in call.text, call


def test_bad_messages_are_passed_and_reported_and_good_ones_go_on(bench: Bench, running: Fleet):
    told = len(errors(bench, "dev-0"))
    running.send("dev-0", b"this is no JSON")
    running.send("dev-0", "[1, 2]")
    running.send("dev-0", {"temperature": "warm", "name": "after"})
    eventually("what fits is written", lambda: bench.thingworx.value("dev-0", "name") == "after", 20)
    eventually("all three are reported", lambda: len(errors(bench, "dev-0")) >= told + 3, 20)


def test_killed_and_started_again_nothing_is_lost(bench: Bench, running: Fleet):
    stream = Stream(bench.thingworx, running)
    bench.end(how=signal.SIGKILL)
    bench.connector()
    stream.goes_on()
    stream.end()


def test_one_node_of_two_leaves_and_returns_and_nothing_is_lost(bench: Bench, running: Fleet):
    stream = Stream(bench.thingworx, running)
    bench.thingworx.fault(kind="leave", node=1)
    eventually("the node has no binders", lambda: not bench.thingworx.binders("FactoryHub")[1], 20)
    assert bench.thingworx.write("dev-3", "setpoint", 7).ok
    stream.goes_on()
    bench.thingworx.fault(kind="return", node=1)
    eventually("the node is bound again", lambda: all(bench.thingworx.binders("FactoryHub").values()), 60)
    stream.goes_on()
    stream.end()


def test_sigterm_unbinds_everything_and_exits_0(bench: Bench, running: Fleet):
    assert bench.end() == 0, bench.log()
    assert not any(bench.thingworx.binders("FactoryHub").values())
    assert not [name for name in bench.thingworx.things() if name.startswith("AzureIot-")], "its Thing is left"


@pytest.mark.parametrize("service", [
    "UpdateSubscribedPropertyValues", "UpdateSubscribedPropertyValuesBatched", "UpdatePropertyValues"])
def test_values_are_written_by_the_service_of_the_settings(bench: Bench, devices: Fleet, service: str):
    if bench.running():
        bench.end()
    thing = device_thing("FactoryHub")
    thing["properties"]["Speed"] = {"baseType": "NUMBER", "remote": {"name": "spd"}}
    bench.thingworx.define({"dev-3": thing})
    name = f"by-{service}"
    bench.connector(name=name, platform=f"writeService: {service}", start="Latest")
    try:
        eventually("the connector is ready", bench.ready, 30)
        eventually("every partition is read", lambda: all(one["readers"] for one in bench.hub.partitions()), 30)
        devices.send("dev-3", json.dumps([{"spd": 1.5, "temperature": 20}, {"spd": 2.5}]))
        eventually("the last value is there", lambda: bench.thingworx.value("dev-3", "Speed") == 2.5, 20)
        written = [one["value"] for one in bench.thingworx.values() if (one["thing"], one["property"]) == ("dev-3", "Speed")]
        assert [float(one) for one in written][-2:] == [1.5, 2.5], written
    finally:
        bench.end(name)
