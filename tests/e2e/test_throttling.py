"""What the hub's size allows: asked for no more than that where it is known, else until the hub itself throttles."""

from __future__ import annotations

import time
from functools import partial

from cluster import eventually
from fleet import Fleet
from process import Bench
from stream import told

NETWORK = "127.0.87"
DEVICES = 4

# Of tier S1 with one unit.
MESSAGES_A_MINUTE = 100
# The connector's budget is 3 s less.
SECONDS = 10
WRITES = 60
# The hub's own peaks are a little larger than those of the connector: what leaves it evenly may arrive together.
LIMITS = {"tier": "S1", "units": 1, "operations": ["c2d"], "burstSeconds": 12}


def write_many(bench: Bench) -> tuple[list, int, int]:
    """Answers to writes that come all at once, and what the hub counted: let through and refused."""
    before = bench.hub.operations("c2d")
    writes = [partial(bench.thingworx.write, f"dev-{number % DEVICES}", "setpoint", number)
              for number in range(WRITES)]
    answers = bench.thingworx.many(writes, WRITES)
    accepted, refused = (now - then for now, then in zip(bench.hub.operations("c2d"), before))
    return answers, accepted, refused


def started(bench: Bench, way: str) -> None:
    bench.connector(way=way, platform=f"platformRequestTimeoutSeconds: {SECONDS}")
    eventually("the connector is ready", bench.ready, 30)


def test_with_tier_and_units_the_hub_refuses_nothing_and_the_connector_says_why_it_does(bench: Bench, devices: Fleet):
    bench.hub.limit(**LIMITS)
    began = time.monotonic()
    started(bench, "tier: S1\n  units: 1")
    answers, accepted, refused = write_many(bench)
    took = time.monotonic() - began
    told(f"{WRITES} writes at once: {accepted} let through in {took:.1f} s, {refused} refused by the hub")
    assert refused == 0, "the hub had to throttle"
    assert accepted == sum(answer.ok for answer in answers)
    assert all("tier S1 and units 1" in answer.text for answer in answers if not answer.ok)
    # What is earned from its start to the end, and at least what is earned in the budget of a request.
    rate = MESSAGES_A_MINUTE / 60
    assert rate * (SECONDS - 3) - 1 <= accepted <= rate * took + 1
    assert bench.total("requests_total") >= WRITES


def test_without_them_the_hub_throttles_and_each_call_is_answered_in_its_budget(bench: Bench, devices: Fleet):
    bench.hub.limit(**LIMITS)
    started(bench, "")
    answers, accepted, refused = write_many(bench)
    told(f"{WRITES} writes at once: {accepted} let through, {refused} refused by the hub")
    assert refused > 0 and accepted == sum(answer.ok for answer in answers)
    # The platform itself would say that it has waited in vain.
    assert all("throttles" in answer.text for answer in answers if not answer.ok), {answer.text for answer in answers}
    call = bench.thingworx.call("dev-0", "echo", text="x")
    assert call.ok, f"another sort of operation is throttled too: {call.text}"
    bench.hub.limit()
    answers, accepted, refused = write_many(bench)
    assert all(answer.ok for answer in answers) and refused == 0, "the whole rate is back at once"
