"""Devices that are bound by name, for Things whose template lacks `RoutedEgress`: `thingworx.bindDevices`."""

from __future__ import annotations

from collections import Counter

import pytest
from cluster import eventually
from fleet import Fleet
from process import Bench
from stream import told
from thingworx import device_thing

NETWORK = "127.0.89"
DEVICES = 2
NAMES = [f"plain-{number}" for number in range(1000)]
# Each is bound by its name and, for a Thing with an identifier, with an asterisk before it.
FORMS = {form for name in NAMES for form in (name, f"*{name}")}
# Longer than a name that was refused is left alone.
AGAIN = 100


def bound(bench: Bench) -> Counter:
    """How often each of the names is bound, on all of the platform's nodes."""
    return Counter(name for node in bench.thingworx.endpoints() for one in node["endpoints"]
                   for name in one["bound"] if name in FORMS)


def each(times: int, but: set[str] = frozenset()) -> dict[str, int]:
    return {name: times for name in FORMS - but}


@pytest.fixture
def plain(bench: Bench, devices: Fleet) -> Fleet:
    """Two devices beside the thousand, one of which has a Thing of another name."""
    thing = {key: value for key, value in device_thing("").items() if key != "gatewayThing"}
    bench.thingworx.define({name: thing for name in ["dev-0", *NAMES]} | {
        "OtherName": thing | {"identifier": "dev-1"}})
    bench.hub.register(NAMES)
    if not bench.running():
        # Before there is anybody else.
        bench.thingworx.hold("plain-7")
        bench.connector(platform="bindDevices: true")
    eventually("the connector is ready", bench.ready, 30)
    return devices


def test_all_are_bound_once_on_each_node_but_for_one_that_another_client_holds(bench: Bench, plain: Fleet):
    eventually("all others are bound", lambda: bound(bench) == each(2, {"plain-7"}), 60)
    names = {name: value for name, value in bench.metrics().items() if "bound_names" in name}
    told(f"bound: {names}")
    eventually("it is said", lambda: bench.said("refuses to bind some names"), 30)
    assert bench.said("plain-7")
    assert bench.ready(), "one name keeps nobody from working"


def test_requests_reach_things_by_name_and_by_identifier(bench: Bench, plain: Fleet):
    for name in ("dev-0", "OtherName"):
        # A device may just be connecting again.
        eventually(f"{name} answers", lambda: bench.thingworx.call(name, "echo", text=name).body == name, 30)
    assert not bench.thingworx.call("plain-1", "echo", text="x").ok, "it is not connected to the hub"


def test_the_name_is_taken_when_it_is_free_and_everything_is_let_go_of_at_the_end(bench: Bench, plain: Fleet):
    bench.thingworx.let_go("plain-7")
    eventually("all are bound", lambda: bound(bench) == each(2), AGAIN)
    assert bench.end() == 0
    assert not bound(bench)
