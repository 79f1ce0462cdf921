"""Nested payloads through a program in jq, and messages that the program does not survive."""

from __future__ import annotations

import json

from cluster import eventually
from fleet import Fleet
from process import CONNECTOR, Bench
from stream import Stream, told

NETWORK = "127.0.78"
DEVICES = 4
# Each costs a quarter of a second of processor time, and is one of ten.
POISONED = 40

PROGRAM = """
# Rounds of measurements, each value under its own name
def flat: map({(.name): .value}) | add;
if .loop then last(repeat(.))
elif .eat then "x" * 1000000000
elif .rounds then .rounds[] | flat + {name: "\\($device) \\($properties.line)"}
else .machine.values | flat end
"""


def nested(number: int) -> dict:
    """The stream's message, as devices of another maker send it."""
    values = [{"name": "seq", "value": number}, {"name": "temperature", "value": 20 + number % 100 / 10}]
    return {"machine": {"id": "m-1", "values": values}}


def test_nested_payloads_are_mapped_and_a_message_in_ten_that_loops_for_ever_takes_no_other_with_it(
    bench: Bench, devices: Fleet
):
    bench.connector(mapping=PROGRAM)
    eventually("the connector is ready", bench.ready, 60)
    rounds = [[{"name": "temperature", "value": value}] for value in (1.5, 2.5)]
    devices.send("dev-0", {"rounds": rounds}, at="1000", line="L7")
    eventually("both rounds are written", lambda: bench.thingworx.value("dev-0", "temperature") == 2.5, 30)
    assert bench.thingworx.value("dev-0", "name") == "dev-0 L7"
    written = [(json.loads(one["value"]), one["timeMs"]) for one in bench.thingworx.values()
               if (one["thing"], one["property"]) == ("dev-0", "temperature")]
    assert written[-2:] == [(1.5, 1000), (2.5, 1001)], written

    devices.body = nested
    stream = Stream(bench.thingworx, devices)
    for number in range(POISONED):
        good = stream.sending.acknowledged
        devices.send(f"dev-{number % 4}", {"eat": 1} if number % 8 == 7 else {"loop": number})
        eventually("good messages are sent meanwhile", lambda: stream.sending.acknowledged >= good + 10, 30)
    stream.goes_on()
    stream.end(0)
    ended = {cause: bench.total(f'mapping_restarts_total{{cause="{cause}"') for cause in ("time", "memory", "unclear")}
    told(f"{POISONED} poisoned; processes ended by {ended}")
    assert bench.total("passed_total") == POISONED
    assert ended == {"time": POISONED * 7 // 8, "memory": POISONED // 8, "unclear": 0}
    reports = [one["data"]["rows"][0]["message"] for one in bench.thingworx.events() if one["event"] == "ProtocolError"]
    assert any("processor time" in text for text in reports), reports
    assert any("MiB of memory" in text for text in reports), reports
    assert bench.end(CONNECTOR) == 0, bench.log()
