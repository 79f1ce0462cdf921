"""Least privilege. The platform's stand-in gives the connector's user the rights of docs/commands.md and no others, so
that every scenario proves them to be enough; here one after the other is missing, and what is said is looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cluster import eventually
from fleet import Fleet
from process import Bench
from thingworx import Answer

NETWORK = "127.0.88"
DEVICES = 3

HUB = "ConnectionServicesHub"


@contextmanager
def without(bench: Bench, right: str) -> Iterator[None]:
    """Takes a right away for a while."""
    rights = bench.thingworx.rights()
    assert right in rights
    bench.thingworx.grant(rights - {right})
    try:
        yield
    finally:
        bench.thingworx.grant(rights)


def started(bench: Bench, way: str = "") -> None:
    bench.connector(way=way)
    eventually("the connector is ready", bench.ready, 30)


def own(bench: Bench, service: str) -> Answer:
    """Calls a service of the connector's own Thing."""
    gateways = [one["gateway"] for node in bench.thingworx.endpoints() for one in node["endpoints"] if one["gateway"]]
    assert gateways, "it is not bound"
    return bench.thingworx.call(gateways[0], service)


def part(bench: Bench, name: str) -> dict:
    """What the connector says of a part of itself."""
    status = own(bench, "GetSystemStatus")
    assert status.ok, status.text
    return {row["name"]: row for row in status.rows}[name]


def says(bench: Bench, name: str, *words: str):
    """Whether it says these words of the part."""
    def check() -> bool:
        row = part(bench, name)
        return not row["isRunning"] and all(word in row["description"] for word in words)
    return check


@pytest.mark.parametrize("right, words", [
    ("Resources/EntityServices/Services/AddShapeToThing", "run EntityServices.AddShapeToThing"),
    ("ThingTemplates/ConnectionServicesHub/DesignTime/Read", "read the template"),
])
def test_services_that_cannot_be_offered_are_said_and_all_else_works(
    bench: Bench, devices: Fleet, right: str, words: str
):
    with without(bench, right):
        started(bench)
        eventually("it is said", says(bench, "Services", words), 20)
        answer = bench.thingworx.call("dev-0", "echo", text="x")
        assert answer.ok, answer.text


def test_a_hub_thing_that_may_not_be_asked_for_its_configuration_keeps_the_connector_from_starting(
    bench: Bench, devices: Fleet
):
    with without(bench, "ThingTemplates/AzureIotHubTemplate/Services/GetConfiguration"):
        bench.connector()
        eventually("it is said", lambda: "HubThingUnreadable" in bench.unready(), 30)
        assert "may run this service of it, or set spec.routingGroup" in bench.unready()
        # The remedy that is named.
        bench.connector("routingGroup: FactoryHub")
        eventually("the connector is ready", bench.ready, 30)


@pytest.mark.parametrize("service", ["UpdateSubscribedPropertyValues"])
def test_values_that_may_not_be_written_wait_for_the_right(bench: Bench, devices: Fleet, service: str):
    started(bench)
    with without(bench, f"ThingTemplates/AzureIotThing/Services/{service}"):
        for name in devices.devices:
            devices.send(name, {"seq": 1})
        eventually("it is said", says(bench, "Rights", f"may not run {service} of Thing dev-"), 30)
        assert not any(bench.thingworx.value(name, "seq") == 1 for name in devices.devices)
    eventually("what had waited is written", lambda: all(
        bench.thingworx.value(name, "seq") == 1 for name in devices.devices), 60)
    eventually("nothing is wrong any more", lambda: part(bench, "Rights")["isRunning"], 20)


@pytest.mark.parametrize("service", ["GetPropertyDefinitions", "GetPropertySubscriptions"])
def test_definitions_that_may_not_be_read_are_said(bench: Bench, devices: Fleet, service: str):
    with without(bench, f"ThingTemplates/AzureIotThing/Services/{service}"):
        # What it has asked for before it would not ask for again.
        started(bench)
        devices.send("dev-0", {"seq": 2})
        eventually("it is said", says(bench, "Rights", f"may not run {service} of Thing dev-"), 30)


def test_events_that_may_not_be_fired_are_said_and_the_connector_stays_ready(bench: Bench, devices: Fleet):
    started(bench)
    with without(bench, f"Things/{HUB}/Events/*"):
        devices.send("dev-1", {"seq": "no number"})
        eventually("it is said", says(bench, "Rights", "may not fire", HUB), 30)
        assert bench.ready()
    devices.send("dev-2", {"seq": "no number"})
    eventually("nothing is wrong any more", lambda: part(bench, "Rights")["isRunning"], 20)


def test_a_policy_without_rights_on_the_registry_is_named(bench: Bench, devices: Fleet):
    started(bench)
    service = bench.thingworx.service
    eventually("its services are offered", bench.offered, 30)
    assert not service("DescribeAzureIotDevice", thingName="dev-0").ok
    assert says(bench, "RegistryRead", "policy service (iotHub.connectionString)", "right RegistryRead")()
    assert not service("CreateAzureIotDevice", thingName="new").ok
    assert says(bench, "RegistryWrite", "policy service (iotHub.connectionString)", "right RegistryWrite")()
    assert bench.ready(), "everything else works"
    started(bench, f"registryConnectionString: {{file: {bench.folder}/registry}}")
    eventually("its services are offered", bench.offered, 30)
    assert service("CreateAzureIotDevice", thingName="new").ok
    assert part(bench, "RegistryWrite")["isRunning"]
