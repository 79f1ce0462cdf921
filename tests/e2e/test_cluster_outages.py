"""The platform, the API server, claims and other readers go wrong under load: the connector goes on, and what it need
not give up stays where it is."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator

import machine
import pytest
from cluster import Stack, apply, eventually, kubectl, listed
from exposure import Exposure
from fleet import Fleet
from foreign import OWNER_LEVEL, ForeignReader
from stream import Stream
from thingworx import hub_thing

SOAK = "SOAK" in os.environ
here = pytest.mark.skipif(not machine.HERE, reason="needs the API server's process")


@pytest.fixture
def running(stack: Stack) -> Iterator[Stack]:
    """Three ready pods that share the partitions evenly; the platform's faults end with the scenario."""
    apply(stack.resource(replicas=3))
    stack.wait_ready(3, seconds=180)
    stack.settled(seconds=120)
    yield stack
    stack.thingworx.fault(kind="return")


def checkpoints_move(stack: Stack, times: int = 1, seconds: float = 90) -> None:
    """Waits until each claim's checkpoint has moved so many times."""
    for _ in range(times):
        before = {partition: claim.sequence for partition, claim in stack.claims().items()}
        eventually("checkpoints are stored again", lambda: all(
            stack.claims()[partition].sequence > sequence for partition, sequence in before.items()), seconds)


def checkpoints_failed(stack: Stack) -> list[float]:
    """Of each pod, how many checkpoints could not be stored."""
    return [stack.metrics(pod).get('azure_iot_connector_checkpoint_seconds_count{outcome="failed"}', 0)
            for pod in stack.ready_pods()]


def test_one_node_of_three_leaves_and_returns(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    epochs, exposure = running.epochs(), Exposure(running)
    running.thingworx.fault(kind="leave", node=1)
    stream.goes_on()
    most = exposure.now()
    running.thingworx.fault(kind="return", node=1)
    running.wait_ready(3)
    stream.goes_on()
    # Only what the lost node had taken and not answered is written again.
    stream.end(most)
    assert running.epochs() == epochs, "a partition has moved"


def test_all_nodes_gone_for_a_while(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    epochs, exposure = running.epochs(), Exposure(running)
    running.thingworx.fault(kind="leave")
    most = exposure.now()
    time.sleep(60 if SOAK else 15)
    running.thingworx.fault(kind="return")
    running.wait_ready(3, seconds=120)
    stream.goes_on(seconds=120)
    stream.end(most)
    assert running.epochs() == epochs, "a partition has moved"


@here
def test_the_api_server_hangs(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    epochs = running.epochs()
    seconds = 120 if SOAK else 20
    with machine.frozen(machine.program("apiserver")):
        time.sleep(seconds)
    running.wait_ready(3, seconds=120)
    # Longer than it takes to count a member as dead.
    checkpoints_move(running, 3)
    got = stream.end(0)
    assert running.epochs() == epochs, "a partition has moved"
    # Generous: one that waits for the API server stands still for nearly all of it.
    assert got.pause < seconds / 2, f"messages waited {got.pause:.1f} s for the API server"


@here
def test_the_api_server_is_gone_and_comes_back(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    epochs = running.epochs()
    with machine.gone("apiserver"):
        begun = time.monotonic()
        while time.monotonic() < begun + (120 if SOAK else 20):
            # What is sent while it is away arrives while it is away.
            stream.goes_on(30, 30)
    eventually("the API server answers", running.epochs, 120)
    running.wait_ready(3, seconds=120)
    # Longer than it takes to count a member as dead.
    checkpoints_move(running, 3)
    stream.end(0)
    assert running.epochs() == epochs, "a partition has moved"


def test_a_second_resource_on_the_consumer_group_is_told_and_the_first_is_undisturbed(running: Stack, fleet: Fleet):
    running.thingworx.define({"SecondHub": hub_thing()})
    stream = Stream(running.thingworx, fleet)
    epochs = running.epochs()
    apply(running.resource("second", replicas=1, hubThingName="SecondHub"))
    told_of = lambda: [one for one in running.status("second").get("conditions", [])  # noqa: E731
                       if one["reason"] == "DuplicateReader"]
    [condition, *_] = eventually("the second resource's status says DuplicateReader", told_of, 120)
    assert condition["status"] == "False" and "consumerGroup" in condition["message"], condition
    stream.goes_on(120)
    assert running.condition("Ready")["status"] == "True", "the first is not ready any more"
    kubectl("-n", running.namespace, "delete", "aihc", "second")
    eventually("the second's pods have gone", lambda: not listed(
        "pods", running.namespace, "app.kubernetes.io/instance=second,app.kubernetes.io/component=connector"), 90)
    stream.end(0)
    assert running.epochs() == epochs, "a partition has moved"


def test_claims_that_somebody_else_writes_to_are_kept(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    epochs = running.epochs()
    for number in range(5):
        for claim in running.claims().values():
            kubectl("-n", running.namespace, "annotate", "--overwrite", "lease", claim.lease,
                    f"somebody.example/note={number}")
        checkpoints_move(running)
    stream.end(0)
    assert running.epochs() == epochs, "a partition has moved"
    notes = [lease["metadata"]["annotations"]["somebody.example/note"]
             for lease in listed("leases", running.namespace, "app.kubernetes.io/component=claim")]
    assert set(notes) == {"4"}, "another's annotation was overwritten"


def no_lease_writes(namespace: str) -> list[dict]:
    """Objects that forbid every update of a Lease in a namespace, with the answer of missing rights."""
    name = f"no-lease-writes-{namespace}"
    api = "admissionregistration.k8s.io/v1"
    rule = {"apiGroups": ["coordination.k8s.io"], "apiVersions": ["v1"], "operations": ["UPDATE"],
            "resources": ["leases"]}
    return [
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "reason": "Forbidden", "message": "a test forbids it"}]}},
        {"apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {
            "policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}}},
    ]


def test_leases_that_cannot_be_written_for_a_while(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    exposure, forbidden = Exposure(running), no_lease_writes(running.namespace)
    epochs, failed = running.epochs(), checkpoints_failed(running)
    apply(*forbidden)
    try:
        eventually("every pod's checkpoints are refused", lambda: all(
            now > before for now, before in zip(checkpoints_failed(running), failed)), 60)
        begun = time.monotonic()
        while time.monotonic() < begun + 20:
            stream.goes_on(30, 30)
    finally:
        given = json.dumps({"apiVersion": "v1", "kind": "List", "items": forbidden})
        kubectl("delete", "-f", "-", "--ignore-not-found", given=given)
    most = exposure.now()
    checkpoints_move(running, 3)
    running.settled(seconds=120)
    got = stream.end(most)
    moved = running.epochs() != epochs
    assert not moved and got.twice == 0, f"partitions have moved: {moved}; {got.twice} arrived twice"


def test_a_resource_deleted_and_made_again(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    exposure = Exposure(running)
    kubectl("-n", running.namespace, "delete", "aihc", running.CONNECTOR)
    eventually("its pods have gone", lambda: not listed(
        "pods", running.namespace, "app.kubernetes.io/component=connector"), 120)
    # What was read after its rights had gone could not be checkpointed.
    most = exposure.now()
    apply(running.resource(replicas=3))
    running.wait_ready(3, seconds=180)
    running.settled(seconds=120)
    stream.goes_on()
    stream.end(most)


def test_a_claim_that_is_deleted_is_made_again_where_it_was(running: Stack, fleet: Fleet):
    stream = Stream(running.thingworx, fleet)
    checkpoints_move(running)
    claim = min(running.claims().values(), key=lambda claim: claim.partition)
    kubectl("-n", running.namespace, "delete", "lease", claim.lease)
    # Its reader knows where it was; a member that takes over knows at least the stored checkpoint.
    most = running.hub.newest()[claim.partition] - claim.sequence
    eventually("there is a claim again", lambda: running.claims()[claim.partition].holder, 60)
    checkpoints_move(running)
    stream.goes_on()
    stream.end(most)


def attached(stack: Stack, partition: str) -> int:
    """How often readers of a partition have attached, except foreign ones."""
    lines = kubectl("-n", stack.namespace, "logs", "deployment/hub", "--tail=-1").splitlines()
    entries = [json.loads(line) for line in lines if '"reader attached"' in line]
    return sum(entry["path"].endswith(f"/Partitions/{partition}") and str(OWNER_LEVEL) not in entry["epoch"]
               for entry in entries)


@pytest.mark.skipif(not SOAK, reason="takes two minutes; the same is tested with one process")
def test_a_foreign_reader_with_a_higher_epoch_is_told_and_not_fought(running: Stack, fleet: Fleet, tmp_path):
    stream = Stream(running.thingworx, fleet)
    epochs, partition = running.epochs(), min(running.epochs())
    (tmp_path / "ca.crt").write_text(running.ca)
    had = attached(running, partition)
    foreign = ForeignReader(f"Endpoint=sb://{running.events_ip}/;SharedAccessKeyName=service;"
                            f"SharedAccessKey={running.policy_key};EntityPath=telemetry",
                            tmp_path / "ca.crt", partition)
    try:
        eventually("ConsumerGroupTaken is in the status", lambda: any(
            one["reason"] == "ConsumerGroupTaken" for one in running.status()["conditions"]), 90)
        eventually("the foreign reader gets its events", lambda: foreign.read > 20, 30)
        evicted = attached(running, partition) - had
    finally:
        foreign.close()
    # It tries again a minute after it was told that the partition is taken.
    stream.goes_on(seconds=180)
    stream.end(0)
    assert evicted == 0, "the connector has evicted the foreign reader"
    assert running.epochs() == epochs, "the connector has raised its epoch"
