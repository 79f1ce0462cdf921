"""Dead letters of a single process in a file: each message that can never be written is in it, and no other."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from cluster import eventually
from fleet import Fleet
from poison import Poisoner, lines
from process import CONNECTOR, Bench
from stream import Stream, told

NETWORK = "127.0.85"
DEVICES = 4


@pytest.fixture
def letters(bench: Bench) -> Path:
    """The file, in a folder that can be taken away, and a connector that writes it and has nothing left to do."""
    folder = bench.folder / "letters"
    folder.mkdir(exist_ok=True)
    if not bench.running():
        start(bench, folder / "dead.jsonl")
    eventually("the connector is ready", bench.ready, 60)
    # After a kill messages are read again, and have letters again.
    eventually("all there was is read and settled", lambda: settled(bench), 60)
    return folder / "dead.jsonl"


def start(bench: Bench, path: Path) -> None:
    bench.connector(way=f"deadLetter: {{file: {{path: {path}}}}}")


def read(path: Path) -> list[dict]:
    return lines(path.read_text()) if path.exists() else []


def outcomes(bench: Bench) -> tuple[int, int]:
    """Letters stored and lost."""
    return tuple(bench.total(f'dead_letters_total{{outcome="{outcome}"') for outcome in ("stored", "lost"))


def settled(bench: Bench) -> bool:
    """Nothing is left of any partition. A lag is told once the partition has a reader."""
    lags = [lag for name, lag in bench.metrics().items() if name.startswith("azure_iot_connector_partition_lag_events{")]
    return lags == [0] * len(bench.hub.partitions())


def test_a_file_that_cannot_be_opened_ends_the_start_with_64(bench: Bench):
    bench.connector(way="deadLetter: {file: {path: /nowhere/letters}}")
    assert bench.processes.pop(CONNECTOR).wait(60) == 64
    assert "iotHub.deadLetter.file.path /nowhere/letters" in bench.log()


def test_one_bad_message_in_ten_each_has_its_letter_and_no_good_one_is_lost(
    bench: Bench, devices: Fleet, letters: Path
):
    stored, lost = outcomes(bench)
    before = len(read(letters))
    stream = Stream(bench.thingworx, devices)
    poisoner = Poisoner(devices, stream)
    for _ in range(3):
        poisoner.round()
    stream.end(0)
    eventually("each bad message has its letter", lambda: outcomes(bench) == (stored + len(poisoner.sent), lost), 20)
    found = read(letters)[before:]
    assert len(found) == len(poisoner.sent)
    assert poisoner.check(found) == set(poisoner.sent)


def test_messages_of_unknown_devices_have_letters(bench: Bench, devices: Fleet, letters: Path):
    before = len(read(letters))
    # That it has connected is told to its Thing as well, which is not there.
    said = lambda: [one for one in read(letters)[before:] if one["source"] == "Telemetry"]  # noqa: E731
    unknown = Fleet(bench.hub.register([f"unknown-{before}"]), bench.ca)
    try:
        unknown.telemetry(200, 200).wait(60)
    finally:
        unknown.close()
    eventually("each has its letter", lambda: len(said()) == 200, 20)
    assert {one["why"][0]["reason"] for one in read(letters)[before:]} == {"thing_not_found"}
    in_order = sorted(said(), key=lambda one: one["sequenceNumber"])
    assert [one["body"] for one in in_order] == [f'{{"seq": {n}, "temperature": {20 + n % 100 / 10}}}' for n in range(200)]


def test_killed_among_bad_messages_and_started_again_each_has_its_letter(bench: Bench, devices: Fleet, letters: Path):
    stream = Stream(bench.thingworx, devices)
    poisoner = Poisoner(devices, stream)
    before = len(read(letters))
    poisoner.round()
    bench.end(CONNECTOR, signal.SIGKILL)
    poisoner.round(good=0)
    start(bench, letters)
    poisoner.round()
    stream.end()
    # At least once: what was stored after the last checkpoint is there twice.
    eventually("each bad message has its letter", lambda: len(
        {one["messageId"] for one in read(letters)[before:] if "messageId" in one}) == len(poisoner.sent), 30)
    assert poisoner.check([one for one in read(letters)[before:] if "messageId" in one]) == set(poisoner.sent)


def test_a_place_that_is_gone_for_a_while_holds_up_nothing_and_every_loss_is_counted(
    bench: Bench, devices: Fleet, letters: Path
):
    stored, lost = outcomes(bench)
    before = len(read(letters))
    stream = Stream(bench.thingworx, devices)
    poisoner = Poisoner(devices, stream)
    poisoner.round()
    eventually("these are stored", lambda: outcomes(bench)[0] == stored + len(poisoner.sent), 20)
    away, trouble = letters.parent.with_name("away"), bench.said("DeadLetterUnwritable")

    def given_up() -> int:
        assert bench.ready(), "a place for letters is not needed to be ready"
        return outcomes(bench)[1]

    letters.parent.rename(away)
    try:
        poisoner.rounds(given_up)
        assert bench.said("DeadLetterUnwritable") > trouble
    finally:
        away.rename(letters.parent)
    back = len(poisoner.sent)
    poisoner.round()
    stream.end(0)
    eventually("each is stored or lost", lambda: sum(outcomes(bench)) - stored - lost == len(poisoner.sent), 30)
    found = poisoner.check(read(letters)[before:])
    gone = outcomes(bench)[1] - lost
    told(f"{len(poisoner.sent)} bad messages, {len(found)} letters, {gone} lost while the place was gone")
    assert len(found) == len(poisoner.sent) - gone
    assert {f"poison-{number}" for number in range(back, len(poisoner.sent))} <= found
    assert bench.end(CONNECTOR) == 0
