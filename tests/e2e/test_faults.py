"""One connector while its hub, its platform or itself is ill: what was sent arrives, in order."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator

import pytest
from cluster import eventually
from fleet import Fleet
from process import CONNECTOR, Bench
from thingworx import Arrivals, device_thing, hub_thing

NETWORK = "127.0.73"
SOAK = "SOAK" in os.environ


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Iterator[Bench]:
    made = Bench(tmp_path_factory.mktemp("faults"), NETWORK)
    made.thingworx.define({"FactoryHub": hub_thing()})
    yield made
    made.close()


@pytest.fixture(scope="module")
def devices(bench: Bench) -> Iterator[Fleet]:
    made = bench.fleet(4)
    yield made
    made.close()


@pytest.fixture
def running(bench: Bench, devices: Fleet) -> Iterator[Fleet]:
    """A connector that is ready; faults that a scenario has left end with it."""
    if CONNECTOR not in bench.processes:
        bench.connector()
    eventually("the connector is ready", bench.ready, 40)
    yield devices
    bench.hub.fault(fault="clear")
    for off in ({"kind": "return"}, {"kind": "delay", "ms": 0}, {"kind": "loseAnswers", "on": False},
                {"kind": "failAll", "on": False}):
        bench.thingworx.fault(**off)
    bench.thingworx.allow(bench.app_key)


class Stream:
    """A steady stream of numbered messages of which the first have arrived; counts no others."""

    def __init__(self, bench: Bench, devices: Fleet, count: int = 75):
        self.bench, self.devices = bench, devices.devices
        self.first = {name: device.sent for name, device in self.devices.items()}
        self.sending = devices.telemetry(count, 100)
        eventually("the stream has begun to arrive", lambda: self.counts().by_pod, 40)

    def counts(self) -> Arrivals:
        sent = {name: device.sent - self.first[name] for name, device in self.devices.items()}
        return Arrivals.of([
            {**entry, "value": int(entry["value"]) - self.first[entry["thing"]]}
            for entry in self.bench.thingworx.values()
            if entry["property"] == "seq" and entry["thing"] in sent
            and int(entry["value"]) >= self.first[entry["thing"]]
        ], sent)

    def sent(self) -> None:
        self.sending.wait(90)

    def arrives(self, seconds: float = 60) -> None:
        """Everything sent arrives, in order; tells the counts."""
        self.sent()
        try:
            eventually("every message has arrived", lambda: self.counts().lost == 0, seconds)
        finally:
            got = self.counts()
            sys.__stdout__.write(f"\n  sent {self.sending.total}, lost {got.lost}, twice {got.twice}, "
                                 f"out of order {got.out_of_order}")
        assert got.out_of_order == 0, f"{got.out_of_order} first arrivals are out of order"


HUB_FAULTS = {
    "a_partition_is_detached": {"fault": "detach", "partition": "0"},
    "all_partitions_are_detached": {"fault": "detach"},
    "event_connections_drop": {"fault": "drop-connections", "face": "events-amqp"},
    "the_hubs_own_connections_drop": {"fault": "drop-connections", "face": "hub-amqp"},
    "readers_get_nothing_for_a_while": {"fault": "freeze-events", "seconds": 2},
}


@pytest.mark.parametrize("fault", HUB_FAULTS.values(), ids=HUB_FAULTS.keys())
def test_nothing_is_lost_when(bench: Bench, running: Fleet, fault: dict):
    stream = Stream(bench, running)
    bench.hub.fault(**fault)
    stream.arrives()


def test_tokens_refused_for_some_seconds_lose_nothing(bench: Bench, running: Fleet):
    stream = Stream(bench, running)
    bench.hub.fault(fault="reject-tokens", seconds=3)
    bench.hub.fault(fault="drop-connections", face="events-amqp")
    stream.arrives()


def test_a_hub_that_is_silent_for_longer_than_the_watchdog_loses_nothing(bench: Bench, running: Fleet):
    stream = Stream(bench, running)
    bench.hub.fault(fault="silence", face="events-amqp", seconds=60 if SOAK else 25)
    stream.arrives(120)


def test_writes_while_the_hubs_links_drop_are_executed_at_most_once(bench: Bench, running: Fleet):
    def write(number: int):
        if number % 25 == 12:
            bench.hub.fault(fault="drop-connections", face="hub-amqp")
        return bench.thingworx.write("dev-1", "setpoint", number)

    answers = bench.thingworx.many([lambda number=number: write(number) for number in range(100)], 8)
    got = lambda: [one["body"]["setpoint"] for one in running.devices["dev-1"].messages]  # noqa: E731
    taken = {number for number, answer in enumerate(answers) if answer.ok}
    eventually("every write that was answered well is at the device", lambda: taken <= set(got()), 20)
    assert len(got()) == len(set(got())), "a write was executed twice"
    for number, answer in enumerate(answers):
        if not answer.ok and number in got():
            assert "unknown" in answer.text, f"write {number} was executed, but its answer says: {answer.text}"


PLATFORM_FAULTS = {
    "one_node_never_answers": ({"kind": "loseAnswers", "node": 0, "on": True}, {"kind": "loseAnswers", "node": 0, "on": False}),
    "answers_come_after_the_time_out": ({"kind": "delay", "node": 0, "ms": 5000}, {"kind": "delay", "node": 0, "ms": 0}),
    "one_node_fails_everything": ({"kind": "failAll", "node": 0, "on": True}, {"kind": "failAll", "node": 0, "on": False}),
    "all_nodes_fail_everything": ({"kind": "failAll", "on": True}, {"kind": "failAll", "on": False}),
}


@pytest.mark.parametrize(("begin", "end"), PLATFORM_FAULTS.values(), ids=PLATFORM_FAULTS.keys())
def test_nothing_is_passed_when(bench: Bench, running: Fleet, begin: dict, end: dict):
    stream = Stream(bench, running)
    bench.thingworx.fault(**begin)
    stream.sent()
    bench.thingworx.fault(**end)
    stream.arrives()


def test_all_nodes_gone_for_a_while_lose_nothing(bench: Bench, running: Fleet):
    stream = Stream(bench, running)
    bench.thingworx.fault(kind="leave")
    time.sleep(60 if SOAK else 15)
    bench.thingworx.fault(kind="return")
    stream.arrives(120)


def test_an_app_key_that_loses_its_rights_and_gets_them_back_loses_nothing(bench: Bench, running: Fleet):
    stream = Stream(bench, running)
    bench.thingworx.revoke(bench.app_key)
    bench.thingworx.fault(kind="endSessions")
    stream.sent()
    bench.thingworx.allow(bench.app_key)
    stream.arrives(90)


def test_frozen_and_thawed_nothing_is_lost(bench: Bench, running: Fleet):
    stream = Stream(bench, running)
    bench.processes[CONNECTOR].send_signal(signal.SIGSTOP)
    try:
        time.sleep(30 if SOAK else 10)
    finally:
        bench.processes[CONNECTOR].send_signal(signal.SIGCONT)
    stream.arrives()


def test_poison_among_good_messages_is_reported_and_holds_nothing_up(bench: Bench, running: Fleet):
    poison = [b"no JSON", "[" * 500 + "]" * 500, '{"temperature": "warm"}', b"\xff\xfe{", b"x" * 200_000]
    told = lambda: sum(one["event"] == "ProtocolError" for one in bench.thingworx.events())  # noqa: E731
    reported = told()
    stream = Stream(bench, running)
    for index in range(30):
        running.send(f"dev-{index % 4}", poison[index % len(poison)])
    stream.arrives()
    eventually("each bad message is reported", lambda: told() - reported >= 30, 20)


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
        stream = Stream(bench, running)
        flood = unknown.telemetry(150, 300)
        stream.arrives()
        flood.wait(60)
    finally:
        unknown.close()
    eventually("the unknown devices are reported", lambda: any(
        one["event"] == "ThingNotFoundError" for one in bench.thingworx.events()), 20)


def readers(bench: Bench) -> int:
    return sum(bool(partition["readers"]) for partition in bench.hub.partitions())


def test_another_reader_of_the_consumer_group_is_reported_and_not_fought(bench: Bench, running: Fleet):
    partitions = len(bench.hub.partitions())
    told = lambda: (bench.folder / f"{CONNECTOR}.log").read_text().count("ConsumerGroupTaken")  # noqa: E731
    bench.connector(name="foreign", port=9091)
    try:
        eventually("the other reader is reported", lambda: told() or "ConsumerGroupTaken" in bench.unready(), 40)
        stream = Stream(bench, running)
        stream.arrives()
        assert told() <= partitions, "the connector fights for the consumer group"
    finally:
        bench.end("foreign")
        bench.end(CONNECTOR)


def test_latest_killed_before_its_first_checkpoint_loses_nothing_after_its_first_start(
    bench: Bench, devices: Fleet
):
    if CONNECTOR in bench.processes:
        bench.end(CONNECTOR)
    latest = {"name": "latest", "start": "Latest"}
    bench.connector(**latest)
    eventually("every partition is read", lambda: readers(bench) == len(bench.hub.partitions()), 40)
    stream = Stream(bench, devices)
    bench.end("latest", signal.SIGKILL)
    stream.sent()
    bench.connector(**latest)
    stream.arrives()
    bench.end("latest")
