"""Devices of the hub's registry become Things: `ImportAzureIotDevices`."""

from __future__ import annotations

import json
import signal
from contextlib import nullcontext

import pytest
from cluster import eventually
from halfway import halfway
from process import CONNECTOR, Bench
from stream import told

NETWORK = "127.0.96"
# More than two of the pages that the connector asks the hub for.
DEVICES = 2500
# More than are under way at once, and far fewer than a page.
FEW = 100


@pytest.fixture
def ready(bench: Bench) -> Bench:
    """A connector that offers its services and has no import, whatever became of the one before."""
    bench.serving()
    eventually("its services are offered", bench.offered, 30)
    eventually("no import is under way", lambda: stored(bench).get("state") != "running", 120)
    return bench


def stored(bench: Bench) -> dict:
    """What the connector has written down of its import."""
    path = bench.folder / f"{CONNECTOR}.import.json"
    return json.loads(path.read_text()) if path.exists() else {}


def register(bench: Bench, prefix: str, count: int) -> list[str]:
    names = [f"{prefix}-{number:05}" for number in range(count)]
    for first in range(0, count, 500):
        bench.hub.register(names[first:first + 500])
    return names


def begin(bench: Bench, **inputs: str) -> str:
    answer = bench.thingworx.service("ImportAzureIotDevices", **inputs)
    assert answer.ok, answer.text
    return answer.body


def ended(bench: Bench, made: str) -> dict:
    return eventually("the import ends", lambda: bench.thingworx.import_ended(made), 120)


def ready_things(bench: Bench, template: str) -> int:
    """How many Things of a template run and have the hub as gateway; there must be no others of it."""
    rows = [row for row in bench.thingworx.census() if row["template"] == template]
    return sum(row["count"] for row in rows if row["enabled"] and row["gatewayThing"] == "FactoryHub")


def all_things(bench: Bench, template: str) -> int:
    return sum(row["count"] for row in bench.thingworx.census() if row["template"] == template)


def test_devices_that_meet_a_condition_become_things_of_a_template(ready: Bench):
    ready.thingworx.derive("PumpTemplate")
    register(ready, "pump", 150)
    condition = "deviceId >= 'pump-00000' AND deviceId < 'pump-00100'"
    counted = lambda: ready.total('import_things_total{outcome="created"')  # noqa: E731
    had = counted()
    made = begin(ready, thingTemplate="PumpTemplate", queryCondition=condition)
    event = ended(ready, made)
    assert (event["status"], event["created"], event["existing"], event["failed"]) == ("completed", 100, 0, 0), event
    assert event["context"]["queryCondition"] == condition
    assert ready_things(ready, "PumpTemplate") == all_things(ready, "PumpTemplate") == 100
    again = ended(ready, begin(ready, thingTemplate="PumpTemplate", queryCondition=condition))
    assert (again["created"], again["existing"]) == (0, 100), again
    assert counted() - had == 100


def test_a_member_that_is_killed_midway_is_followed_and_no_device_is_left_out(ready: Bench):
    register(ready, "import", DEVICES)
    devices = ready.hub.devices()
    things = lambda: len(devices.intersection(ready.thingworx.things()))  # noqa: E731
    had = things()
    with halfway(ready.thingworx, ready.hub, lambda: begin(ready), things) as made:
        assert begin(ready, queryCondition="deviceId = ''") == made, "the second call gets the one that runs"
        eventually("the end of the first page is stored", lambda: "page" in stored(ready)["progress"]["place"], 30)
        ready.end(CONNECTOR, signal.SIGKILL)
        killed = things()
    ready.connector()
    event = ended(ready, made)
    again = event["existing"] - had
    told(f"killed at {killed} of {len(devices)} Things; {event['created']} made, {again} met again")
    assert event["status"] == "completed", event
    assert event["created"] + event["existing"] == len(devices), event
    assert 0 < again < FEW, f"it did not go on at the second page: {event}"
    assert ready_things(ready, "AzureIotThing") == all_things(ready, "AzureIotThing")
    assert things() == len(devices)
    eventually("its services are offered", ready.offered, 30)
    after = begin(ready)
    assert after != made, "the next is another"
    assert ended(ready, after)["existing"] == len(devices)


@pytest.mark.parametrize(("fault", "template", "words"), [
    ({"kind": "forbid", "service": "CreateThing"}, "AzureIotThing", "Not authorized for ServiceInvoke on CreateThing"),
    (None, "NoTemplate", "ThingTemplate [NoTemplate] does not exist"),
])
def test_what_the_platform_never_does_ends_the_import_at_once(ready: Bench, fault: dict | None, template: str, words: str):
    names = register(ready, f"new-{template}", 50)
    inputs = {"thingTemplate": template, "queryCondition": f"deviceId >= 'new-{template}-' AND deviceId < 'new-{template}-x'"}
    with ready.thingworx.ill(**fault) if fault else nullcontext():
        event = ended(ready, begin(ready, **inputs))
    assert event["status"] == "failed" and words in event["message"], event
    assert "EntityServices.CreateThing" in event["message"]
    assert event["failed"] == 8 and names[0] in event["context"]["refused"][0], event
    if fault:
        event = ended(ready, begin(ready, **inputs))
        assert (event["status"], event["created"]) == ("completed", len(names)), event


def test_a_hub_that_denies_and_a_condition_that_is_none_end_it_with_the_reason(ready: Bench):
    event = ended(ready, begin(ready, queryCondition="deviceId LIKES 'a'"))
    assert event["status"] == "failed" and "does not understand the query" in event["message"], event
    with ready.hub.ill(fault="reject-tokens"):
        event = ended(ready, begin(ready))
    assert event["status"] == "failed" and "denies access" in event["message"], event
    assert "ServiceConnect" in event["message"], event


def test_a_member_that_is_stopped_leaves_the_import_as_it_is_and_the_next_goes_on(ready: Bench):
    names = set(register(ready, "stop", 1500))
    condition = "deviceId >= 'stop-' AND deviceId < 'stop-x'"
    things = lambda: len(names.intersection(ready.thingworx.things()))  # noqa: E731
    left = ready.said("the import is left to others")
    with halfway(ready.thingworx, ready.hub, lambda: begin(ready, queryCondition=condition), things) as made:
        assert ready.end() == 0, ready.log()
    assert ready.said("the import is left to others") == left + 1
    ready.connector()
    event = ended(ready, made)
    told(f"{event['created']} made, {event['existing']} met again")
    assert event["status"] == "completed" and event["created"] + event["existing"] == len(names), event
    assert 0 < event["existing"] < FEW, f"it did not go on at the second page: {event}"
