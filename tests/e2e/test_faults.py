"""One connector while its platform or itself is ill, and while messages are bad: what was sent arrives, in order."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import machine
import pytest
from cluster import eventually
from fleet import Fleet
from poison import POISON
from process import CONNECTOR, Bench
from stream import Stream, told
from thingworx import device_thing

NETWORK = "127.0.73"
DEVICES = 4
SOAK = "SOAK" in os.environ
# Longer than any scenario, in milliseconds.
LASTING = 3_600_000


@pytest.fixture
def running(bench: Bench, devices: Fleet) -> Iterator[Fleet]:
    """A connector that is ready; faults that a scenario has left end with it."""
    bench.serving()
    yield devices
    well(bench)


def well(bench: Bench) -> None:
    """Ends every fault of the platform."""
    for off in ({"kind": "return"}, {"kind": "freeze", "ms": 0}, {"kind": "delay", "ms": 0},
                {"kind": "loseAnswers", "on": False}, {"kind": "failAll", "on": False}):
        bench.thingworx.fault(**off)
    bench.thingworx.allow(bench.app_key)


def strike(bench: Bench, **fault) -> None:
    """Begins a fault of the platform and waits until the connector feels it: a node may be resting from an earlier."""
    bad = lambda: sum(bench.total(f'write_seconds_count{{outcome="{outcome}"')  # noqa: E731
                      for outcome in ("refused", "unanswered"))
    before = bad()
    bench.thingworx.fault(**fault)
    eventually("the connector feels the fault", lambda: bad() > before or not bench.ready(), 40)


ONE_NODE_FAULTS = {
    "one_node_never_answers": {"kind": "loseAnswers", "node": 0, "on": True},
    "answers_of_one_node_come_after_the_time_out": {"kind": "delay", "node": 0, "ms": 5000},
    "one_node_fails_everything": {"kind": "failAll", "node": 0, "on": True},
    "one_node_freezes_with_its_connections_open": {"kind": "freeze", "node": 0, "ms": LASTING},
}


@pytest.mark.parametrize("fault", ONE_NODE_FAULTS.values(), ids=ONE_NODE_FAULTS.keys())
def test_the_other_node_takes_everything_when(bench: Bench, running: Fleet, fault: dict):
    passed = bench.total("passed_total")
    stream = Stream(bench.thingworx, running)
    strike(bench, **fault)
    stream.goes_on()
    well(bench)
    stream.goes_on()
    stream.end()
    assert bench.total("passed_total") == passed, "messages were passed because a node was ill"


ALL_NODES_FAULTS = {
    # 3 min when there is time: longer than any message is tried for its own sake.
    "all_nodes_fail_everything": ({"kind": "failAll", "on": True}, 180 if SOAK else 15),
    "no_node_answers": ({"kind": "loseAnswers", "on": True}, 60 if SOAK else 12),
    "all_nodes_are_gone": ({"kind": "leave"}, 60 if SOAK else 12),
    "all_nodes_freeze_with_their_connections_open": ({"kind": "freeze", "ms": LASTING}, 12),
}


@pytest.mark.parametrize(("fault", "seconds"), ALL_NODES_FAULTS.values(), ids=ALL_NODES_FAULTS.keys())
def test_everything_waits_and_nothing_is_passed_when(bench: Bench, running: Fleet, fault: dict, seconds: int):
    passed = bench.total("passed_total")
    stream = Stream(bench.thingworx, running)
    strike(bench, **fault)
    time.sleep(seconds)
    well(bench)
    stream.goes_on(seconds=120)
    stream.end()
    assert bench.total("passed_total") == passed, "messages were passed because the platform was ill"


def test_an_app_key_that_loses_its_rights_and_gets_them_back(bench: Bench, running: Fleet):
    stream = Stream(bench.thingworx, running)
    bench.thingworx.revoke(bench.app_key)
    bench.thingworx.fault(kind="endSessions")
    eventually("it is told that the key has no rights", lambda: not bench.ready(), 60)
    if SOAK:
        time.sleep(60)
    bench.thingworx.allow(bench.app_key)
    stream.goes_on(seconds=120)
    stream.end()


def test_a_connector_frozen_and_thawed(bench: Bench, running: Fleet):
    stream = Stream(bench.thingworx, running)
    with machine.frozen(bench.processes[CONNECTOR].pid):
        time.sleep(30 if SOAK else 10)
    stream.goes_on(seconds=120)
    stream.end()


def test_a_thing_keeps_its_node_and_its_order_while_nodes_are_killed(bench: Bench, running: Fleet):
    assert bench.end() == 0
    bench.connector(node_selection="PerThing")
    try:
        eventually("the connector is ready", bench.ready, 60)
        stream = Stream(bench.thingworx, running)
        stream.goes_on(30)
        entries = stream.counted()
        nodes = {thing: {entry["node"] for entry in entries if entry["thing"] == thing} for thing in running.devices}
        assert all(len(of_thing) == 1 for of_thing in nodes.values()), f"a Thing has changed its node: {nodes}"
        for node in (0, 1) * (5 if SOAK else 2):
            bench.thingworx.fault(kind="leave", node=node)
            stream.goes_on(30)
            bench.thingworx.fault(kind="return", node=node)
            eventually("the node is bound again", lambda: all(bench.thingworx.binders("FactoryHub").values()), 60)
        got = stream.end()
    finally:
        # The next scenario wants the usual one.
        exit_code = bench.end()
    assert exit_code == 0
    told(f"{got.inversions} inversions in the platform's log")
    assert got.inversions == 0, f"{got.inversions} values came behind a higher one"


def test_poison_among_good_messages_is_counted_by_reason_and_holds_nothing_up(bench: Bench, running: Fleet):
    reasons = lambda: {name.partition('reason="')[2].rstrip('"}'): count  # noqa: E731
                       for name, count in bench.metrics().items() if "_passed_total" in name}
    told_of = lambda: sum(one["event"] == "ProtocolError" for one in bench.thingworx.events())  # noqa: E731
    before, reported = reasons(), told_of()
    stream = Stream(bench.thingworx, running)
    rounds = 20 if SOAK else 3
    sent = 0
    for _ in range(rounds):
        for body, encoding in POISON.values():
            # One to ten: each waits for ten good ones.
            good = stream.sending.acknowledged
            running.send(f"dev-{sent % 4}", body, encoding=encoding)
            sent += 1
            eventually("good messages are sent meanwhile", lambda: stream.sending.acknowledged >= good + 10, 30)
    stream.goes_on()
    stream.end(0)
    passed = {reason: count - before.get(reason, 0) for reason, count in reasons().items()}
    told(f"{sent} poisoned; passed by reason: {passed}")
    assert {reason: count for reason, count in passed.items() if count} == {"protocol": sent}
    # Ten a minute and Thing are told; of four Things these are at least 21.
    eventually("bad messages are reported", lambda: told_of() - reported >= min(sent, 21), 20)


def test_a_property_added_while_its_messages_flow_gets_its_later_values(bench: Bench, running: Fleet):
    running.send("dev-2", {"added": "too early"})
    thing = device_thing("FactoryHub")
    thing["properties"]["added"] = {"baseType": "STRING", "remote": {}}
    bench.thingworx.define({"dev-2": thing})

    def sent_and_there() -> bool:
        running.send("dev-2", {"added": "later"})
        return bench.thingworx.value("dev-2", "added") == "later"

    eventually("the added property has a value", sent_and_there, 40)


def test_a_flood_of_unknown_devices_leaves_others_alone(bench: Bench, running: Fleet):
    unknown = Fleet(bench.hub.register([f"unknown-{index}" for index in range(4)]), bench.ca)
    try:
        stream = Stream(bench.thingworx, running)
        flood = unknown.telemetry(150, 300)
        flood.wait(60)
        stream.goes_on()
        stream.end(0)
    finally:
        unknown.close()
    eventually("the unknown devices are reported", lambda: any(
        one["event"] == "ThingNotFoundError" for one in bench.thingworx.events()), 20)
