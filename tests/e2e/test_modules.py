"""What the platform asks of a module, with Microsoft's SDK for modules on the other side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import eventually
from fleet import Fleet
from process import Bench
from thingworx import device_thing

NETWORK = "127.0.90"
DEVICES = 1

MODULE = "dev-0/camera"
# Of the module `camera` and of one that is not there; names on the hub's side.
NAMES = ("twinDesired", "twinReported", "twinTags", "zoom")
REMOTE = [f"{module}::{name}" for module in ("camera", "none") for name in NAMES]


def thing() -> dict:
    made = device_thing("FactoryHub")
    run = {"inputs": {"text": "STRING", "status": "INTEGER"}}
    return made | {
        "properties": made["properties"] | {name: {"baseType": "JSON", "remote": {}} for name in REMOTE},
        "services": made["services"] | {f"{module}::run": run for module in ("camera", "none")},
    }


@pytest.fixture(scope="module")
def ready(bench: Bench, devices: Fleet) -> Iterator[Fleet]:
    bench.thingworx.define({"dev-0": thing()})
    devices.module(MODULE, bench.hub.register_module("dev-0", "camera"))
    bench.connector()
    eventually("the connector is ready", bench.ready, 30)
    yield devices


def test_a_service_of_a_module_is_its_direct_method_and_not_the_devices(bench: Bench, ready: Fleet):
    answer = bench.thingworx.call("dev-0", "camera::run", text="x")
    assert answer.ok and answer.body == "x", answer
    assert [one["name"] for one in ready.devices[MODULE].methods] == ["run"]
    assert ready.devices["dev-0"].methods == []
    refused = bench.thingworx.call("dev-0", "camera::run", text="out of focus", status=409)
    assert not refused.ok and "409" in refused.text and "out of focus" in refused.text, refused.text
    missing = bench.thingworx.call("dev-0", "none::run", text="x")
    assert not missing.ok and "no device or module" in missing.text, missing.text


def test_a_module_has_a_twin_of_its_own(bench: Bench, ready: Fleet):
    for patch in ({"zoom": 5, "old": 1}, {"old": None}):
        answer = bench.thingworx.write("dev-0", "camera::twinDesired", patch)
        assert answer.ok, answer.text
    desired = ready.twin(MODULE)["desired"]
    assert {key: desired[key] for key in desired if key[0] != "$"} == {"zoom": 5}
    assert "zoom" not in ready.twin("dev-0")["desired"], "the device's is another"
    ready.report(MODULE, {"zoom": 4})
    read = bench.thingworx.read("dev-0", "camera::twinReported")
    assert read.ok and read.body["zoom"] == 4, read
    zoom = bench.thingworx.read("dev-0", "camera::zoom")
    assert zoom.ok and zoom.body == 4, zoom
    tags = bench.thingworx.write("dev-0", "camera::twinTags", {"side": "left"})
    assert tags.ok, tags.text
    assert bench.thingworx.read("dev-0", "camera::twinTags").body["side"] == "left"
    missing = bench.thingworx.write("dev-0", "none::twinDesired", {"zoom": 5})
    assert not missing.ok and "no device or module" in missing.text, missing.text


def test_a_message_to_a_module_is_refused_and_the_answer_says_what_to_use(bench: Bench, ready: Fleet):
    refused = bench.thingworx.write("dev-0", "camera::zoom", {"value": 5})
    assert not refused.ok, refused
    assert "module::method" in refused.text and "module::twinDesired" in refused.text, refused.text
