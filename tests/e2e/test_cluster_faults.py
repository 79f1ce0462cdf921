"""Pods that die, freeze, are cut off or replaced under load: nothing is lost, first arrivals stay in order, and no more
arrives twice than had been read since the last stored checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import machine
import pytest
from cluster import Stack, apply, eventually, get, kubectl
from exposure import Exposure
from fleet import Fleet
from halfway import halfway
from stream import Stream, told

pytestmark = pytest.mark.skipif(not machine.HERE, reason="needs the processes of the cluster's machine")

SOAK = "SOAK" in os.environ
# How long a pod is frozen or cut off at least. The short form outlasts a request of the platform and the time-outs of
# links; the long one all that anybody waits for.
AWAY = 30 if SOAK else 12


@pytest.fixture
def running(stack: Stack) -> Iterator[Stack]:
    """Three ready pods that share the partitions evenly."""
    apply(stack.resource(replicas=3))
    stack.wait_ready(3, seconds=180)
    stack.settled(seconds=120)
    yield stack


def reader(stack: Stack) -> dict:
    """A pod that reads as many partitions as any other."""
    claims = stack.claims().values()
    return max(stack.ready_pods(), key=lambda pod: sum(claim.held_by(pod["metadata"]["name"]) for claim in claims))


def written_again(stream: Stream, pod: str, since: int) -> None:
    """Waits until every device's messages are written by other pods; tells after how long."""
    begun = time.monotonic()
    eventually("every partition is written again",
               lambda: stream.highest(pod, since).keys() == stream.devices.keys(), 30)
    told(f"written again {time.monotonic() - begun:.1f} s after the kill (15 are allowed)")


def test_a_pod_killed_and_kept_from_restarting(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    pod = reader(running)
    exposure = Exposure(running, pod)
    # Without the kubelet nothing restarts it, and nobody is told that it has gone.
    with machine.frozen(machine.program("kubelet")):
        machine.kill(pod)
        since, most = stream.here(), exposure.now()
        written_again(stream, exposure.pod, since)
        stream.goes_on()
    stream.end(most)


def test_a_container_killed_and_restarted_takes_its_claims_again(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    pod = reader(running)
    exposure = Exposure(running, pod)
    machine.kill(pod)
    most = exposure.now()
    mine = lambda: [claim for partition, claim in running.claims().items()  # noqa: E731
                    if partition in exposure.stored and claim.held_by(exposure.pod)]
    eventually("the pod's container was restarted", lambda: get("pod", exposure.pod, running.namespace)[
        "status"]["containerStatuses"][0]["restartCount"] > pod["status"]["containerStatuses"][0]["restartCount"], 60)
    eventually("no claim names the process that was killed", lambda: all(
        claim.holder not in exposure.holders for claim in running.claims().values()), 60)
    told(f"{len(mine())} of {len(exposure.stored)} claims were taken by the same pod again")
    stream.goes_on()
    stream.end(most)


def test_an_import_whose_pod_is_killed_goes_on_elsewhere_and_leaves_no_device_out(running: Stack, fleet: Fleet):
    count, things = 3000, lambda: [row for row in running.thingworx.census() if row["template"] == "AzureIotThing"]
    for first in range(0, count, 500):
        running.hub.register([f"import-{number:04}" for number in range(first, first + 500)])
    whole = lambda: sum(row["count"] for row in things())  # noqa: E731
    had = whole()
    condition = "deviceId >= 'import-' AND deviceId < 'import-x'"
    ask = lambda: running.thingworx.service("ImportAzureIotDevices", queryCondition=condition)  # noqa: E731
    begin = lambda: eventually("an import is begun", lambda: (answer := ask()).ok and answer.body, 60)  # noqa: E731
    lease = lambda: get("lease", f"{running.CONNECTOR}-connector-import", running.namespace)  # noqa: E731
    with halfway(running.thingworx, running.hub, begin, whole) as made:
        eventually("the end of the first page is stored",
                   lambda: '"page"' in lease()["metadata"]["annotations"]["iot-connectors.dev/import"], 30)
        holder = lease()["spec"]["holderIdentity"]
        pod = next(pod for pod in running.ready_pods() if f"-{pod['metadata']['name']}-" in holder)
        machine.kill(pod)
        begun = time.monotonic()
    event = eventually("the import ends", lambda: running.thingworx.import_ended(made), 120)
    told(f"ended {time.monotonic() - begun:.1f} s after the kill; {event['created']} made, {event['existing']} met again")
    assert event["status"] == "completed" and event["created"] + event["existing"] == count, event
    # As many as were under way, and far fewer than a page.
    assert 0 < event["existing"] < 100, f"it did not go on at the second page: {event}"
    ready = sum(row["count"] for row in things() if row["enabled"] and row["gatewayThing"] == running.HUB_THING)
    assert ready == whole() == had + count, things()


def test_a_pod_force_deleted(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    exposure = Exposure(running, reader(running))
    kubectl("-n", running.namespace, "delete", "pod", exposure.pod, "--force", "--grace-period=0")
    eventually("no claim names the pod", lambda: exposure.over(), 60)
    most = exposure.now()
    running.wait_ready(3, seconds=120)
    stream.goes_on()
    stream.end(most)


def test_a_pod_frozen_is_taken_over_and_writes_nothing_old_when_thawed(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    pod = reader(running)
    exposure = Exposure(running, pod)
    with machine.frozen(machine.pid(pod)):
        begun = time.monotonic()
        since, most = stream.here(), exposure.now()
        eventually("others have its claims", exposure.over, 60)
        written_again(stream, exposure.pod, since)
        time.sleep(max(0.0, begun + AWAY - time.monotonic()))
        thawed = stream.here()
    eventually("the thawed pod answers", lambda: running.metrics(pod), 30)
    stream.goes_on(150)
    running.settled(seconds=120)
    old = stream.old_writes(exposure.pod, thawed)
    told(f"{old} old values written by the thawed pod")
    stream.end(most)
    assert old == 0, f"the thawed pod wrote {old} values that others had written, and written past, before"


def test_a_pod_cut_from_the_api_server_is_taken_over_and_comes_back(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    pod = reader(running)
    exposure = Exposure(running, pod)
    api = get("service", "kubernetes", "default")["spec"]["clusterIP"]
    with machine.cut(pod, api):
        begun = time.monotonic()
        eventually("others have its claims", exposure.over, 90)
        eventually("others have evicted it", exposure.evicted, 60)
        most, since = exposure.now(), stream.here()
        written_again(stream, exposure.pod, since)
        time.sleep(max(0.0, begun + AWAY - time.monotonic()))
        healed = stream.here()
    running.settled(seconds=120)
    stream.goes_on(150)
    old = stream.old_writes(exposure.pod, healed)
    told(f"{old} old values written by the pod that was cut off")
    stream.end(most)
    assert old == 0, f"the pod wrote {old} values that others had written, and written past, before"


def test_a_pod_cut_from_the_hub_reads_on_where_it_was(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    epochs, pod = running.epochs(), reader(running)
    with machine.cut(pod, running.hub_ip, running.events_ip):
        time.sleep(AWAY)
    stream.goes_on(seconds=120)
    # A link that is opened again begins after the last event received.
    stream.end(0)
    assert running.epochs() == epochs, "a partition has moved"


def test_a_pod_cut_from_the_platform_repeats_only_what_was_unanswered(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    epochs, pod = running.epochs(), reader(running)
    exposure = Exposure(running, pod)
    with machine.cut(pod, running.twx_ip):
        time.sleep(AWAY)
        most = exposure.now()
    stream.goes_on(seconds=120)
    stream.end(most)
    assert running.epochs() == epochs, "a partition has moved"
