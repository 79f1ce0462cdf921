"""Devices of the hub's registry become Things: `ImportAzureIotDevices`."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from cluster import eventually
from process import CONNECTOR, Bench
from stream import told

NETWORK = "127.0.96"
# More than two of the pages that the connector asks the hub for.
DEVICES = 2500


def named(first: int, behind: int) -> list[str]:
    return [f"import-{number:05}" for number in range(first, behind)]


@pytest.fixture(scope="module")
def ready(bench: Bench) -> Iterator[Bench]:
    bench.thingworx.derive("PumpTemplate")
    for first in range(0, DEVICES, 500):
        bench.hub.register(named(first, first + 500))
    bench.connector()
    offered(bench)
    yield bench


def offered(bench: Bench) -> None:
    eventually("the connector is ready", bench.ready, 30)
    # Answered without the hub.
    missing = lambda: bench.thingworx.service("DescribeAzureIotDevice").text  # noqa: E731
    eventually("its services are offered", lambda: "thingName is missing" in missing(), 30)


def begin(bench: Bench, **inputs: str) -> str:
    answer = bench.thingworx.service("ImportAzureIotDevices", **inputs)
    assert answer.ok, answer.text
    return answer.body


def ended(bench: Bench, made: str, seconds: float = 120) -> dict:
    return eventually("the import ends", lambda: bench.thingworx.import_ended(made), seconds)


def ready_things(bench: Bench, template: str) -> int:
    """How many Things of a template run and have the hub as gateway; there must be no others of it."""
    rows = [row for row in bench.thingworx.census() if row["template"] == template]
    return sum(row["count"] for row in rows if row["enabled"] and row["gatewayThing"] == "FactoryHub")


def all_things(bench: Bench, template: str) -> int:
    return sum(row["count"] for row in bench.thingworx.census() if row["template"] == template)


def test_devices_that_meet_a_condition_become_things_of_a_template(ready: Bench):
    condition = "deviceId >= 'import-00000' AND deviceId < 'import-00100'"
    made = begin(ready, thingTemplate="PumpTemplate", queryCondition=condition)
    event = ended(ready, made)
    assert (event["status"], event["created"], event["existing"], event["failed"]) == ("completed", 100, 0, 0), event
    assert event["context"]["queryCondition"] == condition
    assert ready_things(ready, "PumpTemplate") == all_things(ready, "PumpTemplate") == 100
    again = ended(ready, begin(ready, thingTemplate="PumpTemplate", queryCondition=condition))
    assert (again["created"], again["existing"]) == (0, 100), again
    assert ready.metrics()['azure_iot_connector_import_things_total{outcome="created"}'] == 100


def test_a_member_that_is_killed_midway_is_followed_and_no_device_is_left_out(ready: Bench):
    made = begin(ready)
    assert begin(ready, thingTemplate="PumpTemplate") == made, "the second call gets the one that runs"
    eventually("the second page is begun", lambda: all_things(ready, "AzureIotThing") > 1000, 60)
    ready.end(CONNECTOR, signal.SIGKILL)
    had = all_things(ready, "AzureIotThing")
    assert had < DEVICES - 100, "it was over already"
    ready.connector()
    event = ended(ready, made)
    told(f"killed at {had} of {DEVICES - 100} Things; {event['created']} made, {event['existing']} met again")
    assert event["status"] == "completed", event
    assert event["created"] + event["existing"] == DEVICES, event
    assert event["existing"] < 100 + 2000, f"it began again from the start: {event}"
    assert ready_things(ready, "AzureIotThing") == all_things(ready, "AzureIotThing") == DEVICES - 100
    offered(ready)
    again = begin(ready)
    assert again != made, "the next is another"
    assert ended(ready, again)["existing"] == DEVICES


@pytest.mark.parametrize(("fault", "template", "words"), [
    ({"kind": "forbid", "service": "CreateThing"}, "AzureIotThing", "Not authorized for ServiceInvoke on CreateThing"),
    (None, "NoTemplate", "ThingTemplate [NoTemplate] does not exist"),
])
def test_what_the_platform_never_does_ends_the_import_at_once(ready: Bench, fault: dict | None, template: str, words: str):
    names = [f"new-{template}-{number}" for number in range(50)]
    ready.hub.register(names)
    if fault:
        ready.thingworx.fault(**fault, on=True)
    inputs = {"thingTemplate": template, "queryCondition": f"deviceId >= 'new-{template}-' AND deviceId < 'new-{template}-x'"}
    event = ended(ready, begin(ready, **inputs), 30)
    assert event["status"] == "failed" and words in event["message"], event
    assert "EntityServices.CreateThing" in event["message"]
    assert event["failed"] == 8 and names[0] in event["context"]["refused"][0], event
    if fault:
        ready.thingworx.fault(**fault, on=False)
        event = ended(ready, begin(ready, **inputs), 30)
        assert (event["status"], event["created"]) == ("completed", len(names)), event


def test_a_hub_that_denies_and_a_condition_that_is_none_end_it_with_the_reason(ready: Bench):
    event = ended(ready, begin(ready, queryCondition="deviceId LIKES 'a'"), 30)
    assert event["status"] == "failed" and "does not understand the query" in event["message"], event
    ready.hub.fault(fault="reject-tokens", seconds=60)
    event = ended(ready, begin(ready), 30)
    ready.hub.fault(fault="clear")
    assert event["status"] == "failed" and "denies access" in event["message"], event
    assert "ServiceConnect" in event["message"], event


def test_a_member_that_is_stopped_leaves_the_import_as_it_is_and_the_next_goes_on(ready: Bench):
    ready.hub.register([f"stop-{number:04}" for number in range(1500)])
    ready.thingworx.fault(kind="delay", ms=10)
    made = begin(ready, queryCondition="deviceId >= 'stop-' AND deviceId < 'stop-x'")
    eventually("it is under way", lambda: "stop-0200" in ready.thingworx.things(), 60)
    assert ready.end(CONNECTOR) == 0, ready.log()
    ready.thingworx.fault(kind="delay", ms=0)
    assert ready.said("the import is left to others") >= 1
    ready.connector()
    event = ended(ready, made)
    assert event["status"] == "completed" and event["created"] + event["existing"] == 1500, event
