"""One connector while its hub is ill: links, connections, tokens, the event stream itself, other readers."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator

import machine
import pytest
from cluster import eventually
from fleet import Fleet
from foreign import OWNER_LEVEL, ForeignReader
from process import CONNECTOR, Bench
from stream import Stream, told

NETWORK = "127.0.84"
DEVICES = 8
SOAK = "SOAK" in os.environ
# An owned partition that is silent is looked after within 25 s, a question to a dead hub is given up after 30 s, and a
# link is opened again within 15 s.
WATCHDOG = 90


@pytest.fixture(scope="module")
def partition_of(bench: Bench, devices: Fleet) -> dict[str, str]:
    """Device → its partition, found by sending."""
    found = {}
    for name in devices.devices:
        def where(name: str = name) -> str | None:
            before = bench.hub.newest()
            devices.send(name, {"name": "where am I"})
            grown = [partition for partition, newest in bench.hub.newest().items() if newest != before[partition]]
            # A device that connects again just then is an event as well.
            return grown[0] if len(grown) == 1 else None

        found[name] = eventually(f"the partition of {name} is known", where, 30)
    assert set(found.values()) == set(bench.hub.newest()), "a partition has no device"
    return found


@pytest.fixture
def running(bench: Bench, devices: Fleet, partition_of: dict[str, str]) -> Iterator[Fleet]:
    """A connector that is ready and reads every partition; faults that a scenario has left end with it."""
    bench.serving()
    yield devices
    bench.hub.fault(fault="clear")


LINK_FAULTS = {
    "a_partition_is_detached": {"fault": "detach", "partition": "0"},
    "all_partitions_are_detached": {"fault": "detach"},
    "event_connections_drop": {"fault": "drop-connections", "face": "events-amqp"},
    "the_hubs_own_connections_drop": {"fault": "drop-connections", "face": "hub-amqp"},
    "readers_get_nothing_for_a_while": {"fault": "freeze-events", "seconds": 2},
    "readers_are_throttled": {"fault": "throttle-events", "seconds": 4},
}


@pytest.mark.parametrize("fault", LINK_FAULTS.values(), ids=LINK_FAULTS.keys())
def test_nothing_is_lost_or_repeated_when(bench: Bench, running: Fleet, fault: dict):
    stream = Stream(bench.thingworx, running)
    bench.hub.fault(**fault)
    stream.goes_on()
    # A link is opened again after the last event received.
    stream.end(0)


def test_tokens_refused_for_some_seconds_and_then_taken(bench: Bench, running: Fleet):
    stream = Stream(bench.thingworx, running)
    bench.hub.fault(fault="reject-tokens", seconds=3)
    bench.hub.fault(fault="drop-connections", face="events-amqp")
    stream.goes_on(seconds=WATCHDOG)
    stream.end(0)


def test_connections_that_fall_silent_for_good_are_replaced(bench: Bench, running: Fleet):
    stream = Stream(bench.thingworx, running)
    bench.hub.fault(fault="mute-events")
    # They never speak again: only a watchdog finds out.
    stream.goes_on(seconds=WATCHDOG)
    stream.end(0)


def test_one_silent_link_is_replaced_while_the_others_flow(bench: Bench, running: Fleet, partition_of: dict[str, str]):
    stream = Stream(bench.thingworx, running)
    bench.hub.fault(fault="stall-readers", partition="0")
    silent = {name for name, partition in partition_of.items() if partition == "0"}
    flowing = running.devices.keys() - silent
    sent = {name: running.devices[name].sent - stream.first[name] for name in flowing}
    eventually("the others flow", lambda: all(stream.highest()[name] > sent[name] + 30 for name in flowing), 60)
    behind = lambda name: running.devices[name].sent - stream.first[name] - stream.highest()[name]  # noqa: E731
    eventually("what the silent link should bring is missing", lambda: all(behind(name) > 20 for name in silent), 20)
    stream.goes_on(seconds=WATCHDOG)
    stream.end(0)


def test_a_hub_that_freezes_with_its_connections_open(bench: Bench, running: Fleet):
    stream = Stream(bench.thingworx, running)
    with machine.frozen(bench.processes["iothub-standin"].pid):
        time.sleep(60 if SOAK else 12)
    stream.goes_on(seconds=WATCHDOG)
    # After the long time its links count as dead. What the hub sends on them when it goes on is written, and is
    # read once more by the links that come after them: what was under way, and no more.
    stream.end(5 * len(running.devices) if SOAK else 0)


def test_writes_while_the_hubs_links_drop_are_executed_at_most_once_and_go_on(bench: Bench, running: Fleet):
    had = len(running.devices["dev-1"].messages)
    links = lambda: bench.hub.connections()["hub-amqp"]  # noqa: E731
    dropped: list[int] = []

    def write(number: int):
        if number % 25 == 12:
            dropped.append(links())
            bench.hub.fault(fault="drop-connections", face="hub-amqp")
        return bench.thingworx.write("dev-1", "setpoint", number)

    answers = bench.thingworx.many([lambda number=number: write(number) for number in range(100)], 8)
    got = lambda: [one["body"]["setpoint"] for one in running.devices["dev-1"].messages[had:]]  # noqa: E731
    taken = {number for number, answer in enumerate(answers) if answer.ok}
    eventually("every write that was answered well is at the device", lambda: taken <= set(got()), 20)
    told(f"{len(dropped)} drops, {len(taken)} of 100 writes answered well, {len(got())} at the device")
    assert any(dropped), "there was never a link to drop"
    # At most those 8 that are under way when a link drops, and no others.
    assert len(taken) >= 100 - 8 * len(dropped), f"writes fail without a drop: {sorted(set(range(100)) - taken)}"
    assert len(got()) == len(set(got())), "a write was executed twice"
    for number, answer in enumerate(answers):
        if not answer.ok and number in got():
            assert "unknown" in answer.text, f"write {number} was executed, but its answer says: {answer.text}"
    last = bench.thingworx.write("dev-1", "setpoint", 100)
    assert last.ok, f"writes do not go on: {last.text}"
    eventually("the last write is at the device", lambda: got()[-1] == 100, 20)


def test_a_stream_that_is_made_again_is_read_from_its_beginning(bench: Bench, running: Fleet):
    before = Stream(bench.thingworx, running)
    before.goes_on()
    before.end()
    refused = bench.said("no longer has the position")
    bench.hub.fault(fault="recreate-stream")
    stream = Stream(bench.thingworx, running)
    stream.goes_on()
    stream.end(0)
    assert bench.said("no longer has the position") > refused, "it is not told that the position was refused"
    # Checkpoints are the new stream's: whoever starts again goes on there.
    assert bench.end(CONNECTOR) == 0
    bench.connector()
    again = Stream(bench.thingworx, running)
    again.goes_on()
    again.end(0)


def test_events_that_retention_has_dropped_are_counted_and_what_is_left_is_read(bench: Bench, running: Fleet):
    assert bench.end(CONNECTOR) == 0
    read = bench.hub.newest()
    running.telemetry(20, 100).wait(60)
    bench.hub.fault(fault="expire", keep=5)
    kept = {one["id"]: one["begin"] for one in bench.hub.partitions()}
    gone = sum(kept[partition] - newest - 1 for partition, newest in read.items())
    assert gone > 0
    cursor = bench.thingworx.taken()
    bench.connector()
    eventually("the gap is counted", lambda: bench.total("gaps_total") == gone, 60)
    assert bench.said("events are missing"), "the gap is not told"
    left = lambda: sum(one["property"] == "seq" for one in bench.thingworx.values(cursor))  # noqa: E731
    eventually("what is left is written", lambda: left() == 5 * len(kept), 60)
    stream = Stream(bench.thingworx, running)
    stream.end(0)


def attaches(bench: Bench) -> list[dict]:
    """What the hub has told of readers that wanted to attach to partition 0, except the foreign one."""
    lines = (bench.folder / "iothub-standin.log").read_text().splitlines()
    entries = [json.loads(line) for line in lines if '"reader ' in line]
    return [entry for entry in entries if "/Partitions/0" in entry["path"] and str(OWNER_LEVEL) not in entry["epoch"]]


def test_a_foreign_reader_with_a_higher_epoch_is_told_and_not_fought(bench: Bench, running: Fleet):
    stream = Stream(bench.thingworx, running)
    # A link is opened once more when it has shown how large its events are.
    received = bench.total('events_total{partition="0"')
    eventually("the size of the events is known",
               lambda: bench.total('events_total{partition="0"') >= received + 64, 60)
    before, taken = attaches(bench), bench.said("ConsumerGroupTaken")
    foreign = ForeignReader((bench.folder / "events").read_text(), bench.folder / "ca.crt", "0")
    begun = time.monotonic()
    try:
        eventually("the foreign reader is told", lambda: "ConsumerGroupTaken" in bench.unready()
                   or bench.said("ConsumerGroupTaken") > taken, 60)
        eventually("the foreign reader gets events", lambda: foreign.read > 20, 60)
        if SOAK:
            time.sleep(130)
        held, tries = time.monotonic() - begun, attaches(bench)[len(before):]
    finally:
        foreign.close()
    # It tries again a minute after it was told that the partition is taken.
    stream.goes_on(seconds=180)
    stream.end(0)
    evicted = sum(entry["message"] == "reader attached" for entry in tries)
    told(f"held for {held:.0f} s, in which the connector tried {len(tries)} times and evicted it {evicted} times")
    assert evicted == 0, f"the connector has evicted the foreign reader: {tries}"
    # A link that ends is opened again after 0.5 s and after 1 s; the refusal ends that for a minute.
    assert len(tries) <= 3 + held // 60, f"the connector fights for the partition: {tries}"
    epochs = {entry["epoch"] for entry in attaches(bench)[len(before) - 1:]}
    assert len(epochs) == 1, f"the connector has raised its epoch: {epochs}"


def test_latest_killed_before_its_first_checkpoint_loses_nothing_after_its_first_start(
    bench: Bench, devices: Fleet, partition_of: dict[str, str]
):
    if bench.running():
        bench.end()
    read = lambda: all(one["readers"] for one in bench.hub.partitions())  # noqa: E731
    folder, away = bench.folder / "latest", bench.folder / "away"
    folder.mkdir()
    checkpoints = f"{{file: {{path: {folder}/checkpoints.json}}}}"
    latest = {"name": "latest", "start": "Latest", "checkpoints": checkpoints}
    bench.connector(**latest)
    try:
        eventually("every partition is read", read, 60)
        # From now on none can be stored; what is there is where it began.
        folder.rename(away)
        assert json.loads((away / "checkpoints.json").read_text()), "it is not stored where it began"
        stream = Stream(bench.thingworx, devices)
        bench.end(latest["name"], signal.SIGKILL)
        away.rename(folder)
        before = stream.sending.acknowledged
        eventually("messages are sent while nobody reads", lambda: stream.sending.acknowledged >= before + 200, 30)
        stream.sending.stop()
        stream.sent()
        bench.connector(**latest)
        stream.end()
    finally:
        if bench.running(latest["name"]):
            bench.end(latest["name"])
