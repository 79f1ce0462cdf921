"""Promises of operator and pods together, on a real Kubernetes."""

from __future__ import annotations

import os
import time
from functools import partial

import calls
import cluster
import pytest
import requests
from calls import Calls
from cluster import Stack, apply, eventually, kubectl, listed
from fleet import Fleet
from stream import Stream, told
from thingworx import Arrivals

# `make soak` sends more.
MESSAGES = int(os.environ.get("MESSAGES", "2000"))
# Calls a second, of all devices together.
CALLS = 200 if "SOAK" in os.environ else 40


def moves(stack: Stack, before: dict[str, int]) -> dict[str, int]:
    """Partition → how often it has changed hands."""
    return {partition: epoch - before[partition] for partition, epoch in stack.epochs().items()}


def sent_by(fleet: Fleet) -> dict[str, int]:
    return {name: device.sent for name, device in fleet.devices.items()}


def nothing_lost(stack: Stack, fleet: Fleet, seconds: float = 60) -> Arrivals:
    arrivals = lambda: Arrivals.of(stack.thingworx.values(), sent_by(fleet))  # noqa: E731
    eventually("every message has arrived on the platform", lambda: arrivals().lost == 0, seconds)
    result = arrivals()
    assert result.out_of_order == 0, f"{result.out_of_order} first arrivals out of order"
    return result


def test_apply_gives_pods_that_are_ready_and_a_status_that_says_so(stack: Stack):
    kubectl("-n", stack.namespace, "get", "aihc")
    apply(stack.resource(replicas=3))
    stack.wait_ready(3)
    stack.settled()
    eventually("Ready=True", lambda: stack.condition("Ready").get("status") == "True", 30)
    status = stack.status()
    assert status["replicas"] == 3 and status["selector"], status
    assert {one["type"]: one["status"] for one in status["conditions"]}.items() >= {
        "ConfigValid": "True", "ReferencesResolved": "True", "Available": "True", "Ready": "True"}.items()
    columns = kubectl("-n", stack.namespace, "get", "aihc")
    assert "True" in columns and stack.HUB_THING in columns, columns


def test_telemetry_of_real_devices_becomes_property_values(stack: Stack, fleet: Fleet):
    fleet.telemetry(50, 200).wait(60)
    arrivals = nothing_lost(stack, fleet)
    assert len(arrivals.by_pod) == 3, f"every pod should have carried some: {arrivals.by_pod}"


def test_requests_are_spread_over_the_pods_and_none_fails(stack: Stack, fleet: Fleet):
    names = sorted(fleet.devices)
    drawn, before = len(stack.thingworx.draws()), [len(part) for part in fleet.received()]
    served = {pod["metadata"]["name"]: stack.requests_served(pod) for pod in stack.ready_pods()}
    writes = [partial(stack.thingworx.write, names[n % len(names)], "setpoint", n) for n in range(90)]
    calls = [partial(stack.thingworx.call, names[n % len(names)], "echo", text=str(n)) for n in range(30)]
    failed = [answer for answer in stack.thingworx.many(writes + calls) if not answer.ok]
    assert not failed, f"{len(failed)} failed: {failed[0].text}"
    eventually("devices have received each once",
               lambda: [len(part) - had for part, had in zip(fleet.received(), before)] == [90, 30], 20)
    draws = stack.thingworx.draws(drawn)
    for pod in stack.ready_pods():
        name = pod["metadata"]["name"]
        mine = sum(1 for one in draws if f"-{name}-" in one["gateway"])
        assert mine == stack.requests_served(pod) - served[name] > 0, name


def test_scaling_up_and_down_under_load_loses_and_repeats_nothing(stack: Stack, fleet: Fleet):
    stream = Stream(stack.thingworx, fleet)
    for replicas in (5, 2):
        before = stack.epochs()
        kubectl("-n", stack.namespace, "scale", f"aihc/{stack.CONNECTOR}", f"--replicas={replicas}")
        stack.wait_ready(replicas)
        stack.settled()
        told(f"to {replicas} pods: moves by partition {moves(stack, before)}")
        stream.goes_on()
    stream.end(0)


def test_a_rolling_restart_under_load_loses_and_repeats_nothing(stack: Stack, fleet: Fleet):
    kubectl("-n", stack.namespace, "scale", f"aihc/{stack.CONNECTOR}", "--replicas=3")
    stack.wait_ready(3)
    stack.settled()
    before = stack.epochs()
    stream = Stream(stack.thingworx, fleet, rate=200)
    name = listed("deployments", stack.namespace, f"app.kubernetes.io/instance={stack.CONNECTOR}")[0]["metadata"]["name"]
    kubectl("-n", stack.namespace, "rollout", "restart", f"deployment/{name}")
    kubectl("-n", stack.namespace, "rollout", "status", f"deployment/{name}", "--timeout=170s")
    stack.wait_ready(3, seconds=120)
    stack.settled()
    moved = moves(stack, before)
    left = (MESSAGES - stream.sending.acknowledged) // len(fleet.devices)
    stream.goes_on(max(60, left), 600)
    told(f"moves by partition {moved}")
    stream.end(0)
    assert max(moved.values()) <= 2, f"partitions have moved more than twice: {moved}"


def test_no_call_fails_is_lost_or_done_twice_while_pods_come_and_go(stack: Stack, fleet: Fleet):
    stack.thingworx.define({name: calls.thing(stack.HUB_THING) for name in fleet.devices})
    old = {pod["metadata"]["uid"] for pod in stack.pods()}
    stream = Calls(stack.thingworx, fleet, rate=CALLS)
    kubectl("-n", stack.namespace, "annotate", f"aihc/{stack.CONNECTOR}", "--overwrite",
            f"iot-connectors.dev/restart={time.time()}")
    eventually("all pods are replaced", lambda: not old & {pod["metadata"]["uid"] for pod in stack.pods()}, 240)
    for replicas in (5, 2, 5, 3) if "SOAK" in os.environ else (5, 2, 3):
        kubectl("-n", stack.namespace, "scale", f"aihc/{stack.CONNECTOR}", f"--replicas={replicas}")
        stack.wait_ready(replicas, seconds=150)
    time.sleep(80 if "SOAK" in os.environ else 0)
    got = stream.end()
    told(f"{got.made} calls, {len(got.failed)} failed, {got.lost} lost, {got.twice} done twice")
    assert (len(got.failed), got.lost, got.twice) == (0, 0, 0), got.failed[:3]


def test_a_wrong_app_key_is_told_and_good_pods_go_on_undisturbed(stack: Stack, fleet: Fleet):
    stack.settled()
    stream = Stream(stack.thingworx, fleet)
    epochs = stack.epochs()
    good = {pod["metadata"]["name"] for pod in stack.ready_pods()}
    apply(cluster.secret("thingworx", stack.namespace, appKey="wrong"))
    try:
        reason = lambda: stack.condition("Ready").get("reason")  # noqa: E731
        eventually("Ready=False says that ThingWorx denies the key", lambda: reason() == "PlatformDenied", 60)
        assert "application key" in stack.condition("Ready")["message"]
        # Longer than it takes to plan and to hand over.
        time.sleep(10)
        assert stack.epochs() == epochs, "a pod that cannot join was given partitions"
        ready = {pod["metadata"]["name"] for pod in stack.ready_pods()}
        assert good <= ready, f"good pods were touched: {good - ready}"
        stream.goes_on()
    finally:
        apply(cluster.secret("thingworx", stack.namespace, appKey=stack.app_key))
    stack.wait_ready(3, seconds=150)
    eventually("Ready=True again", lambda: stack.condition("Ready").get("status") == "True", 60)
    stream.goes_on()
    stream.end(0)


@pytest.mark.parametrize(("broken", "reason"), [("missing", "SecretNotFound"), ("without key", "KeyNotFound")])
def test_a_missing_or_broken_secret_is_told_and_good_pods_are_untouched(stack: Stack, broken: str, reason: str):
    good = {pod["metadata"]["uid"] for pod in stack.ready_pods()}
    whole = cluster.get("secret", "iothub", stack.namespace)
    whole["metadata"] = {"name": "iothub", "namespace": stack.namespace}
    kubectl("-n", stack.namespace, "delete", "secret", "iothub")
    try:
        if broken == "without key":
            apply(cluster.secret("iothub", stack.namespace, other="x"))
        eventually("ReferencesResolved=False says why",
                   lambda: stack.condition("ReferencesResolved").get("reason") == reason, 30)
        assert "iothub" in stack.condition("ReferencesResolved")["message"]
        assert {pod["metadata"]["uid"] for pod in stack.ready_pods()} == good, "good pods were touched"
    finally:
        apply(whole)
    eventually("resolved again", lambda: stack.condition("ReferencesResolved").get("status") == "True", 30)
    assert {pod["metadata"]["uid"] for pod in stack.ready_pods()} == good, "good pods were touched"


def test_a_routing_group_that_is_null_is_refused_and_good_pods_are_untouched(stack: Stack):
    good = {pod["metadata"]["uid"] for pod in stack.ready_pods()}
    resource = stack.resource(replicas=3)
    resource["spec"]["routingGroup"] = None
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=__import__("json").dumps(resource))
    try:
        eventually("ConfigValid=False, RoutingGroupNull",
                   lambda: stack.condition("ConfigValid").get("reason") == "RoutingGroupNull", 30)
        assert {pod["metadata"]["uid"] for pod in stack.ready_pods()} == good, "good pods were touched"
    finally:
        kubectl("-n", stack.namespace, "patch", "aihc", stack.CONNECTOR, "--type=json",
                "-p", '[{"op": "remove", "path": "/spec/routingGroup"}]')
    eventually("ConfigValid=True again", lambda: stack.condition("ConfigValid").get("status") == "True", 30)


@pytest.mark.parametrize(("group", "words"), [("", "routingGroup"), ("Other", "replicas")])
def test_a_routing_group_that_is_empty_or_changed_is_refused_by_the_api_server(stack: Stack, group: str, words: str):
    said = apply(stack.resource(replicas=3, routingGroup=group), check=False)
    assert "is invalid" in said and words in said, said


def test_no_secret_is_told_anywhere(stack: Stack):
    ours = ["-l", f"app.kubernetes.io/instance={stack.CONNECTOR}"]
    told = {
        "children": kubectl("-n", stack.namespace, "get", "-o", "yaml",
                            "deployments,replicasets,pods,configmaps,leases", *ours),
        "resource and Events": kubectl("-n", stack.namespace, "get", "-o", "yaml", "aihc,events"),
        "pods' logs": stack.logs(lines=-1),
        "operators' logs": kubectl("-n", "azure-iot-hub-connector", "logs", "--tail=-1", "-l",
                                   "app.kubernetes.io/component=operator"),
        "metrics": "".join(requests.get(f"http://{pod['status']['podIP']}:8080/metrics", timeout=10).text
                           for pod in stack.ready_pods()),
    }
    assert all(told.values()), "nothing to look at"
    for where, text in told.items():
        for what, secret in (("application key", stack.app_key), ("hub's key", stack.policy_key)):
            assert secret not in text, f"the {what} stands in the {where}"


def test_deleting_the_resource_leaves_nothing_but_retained_claims(stack: Stack):
    kubectl("-n", stack.namespace, "delete", "aihc", stack.CONNECTOR)
    kinds = "deployments,replicasets,pods,configmaps,serviceaccounts,roles,rolebindings,leases"
    selector = f"app.kubernetes.io/instance={stack.CONNECTOR}"

    def left() -> list[str]:
        found = listed(kinds, stack.namespace, selector)
        return [f"{one['kind']}/{one['metadata']['name']}" for one in found]

    def only_claims() -> bool:
        claims = listed("leases", stack.namespace, "app.kubernetes.io/component=claim")
        return left() == [f"Lease/{one['metadata']['name']}" for one in claims]

    eventually("only claims are left", only_claims, 90)
    claims = listed("leases", stack.namespace, "app.kubernetes.io/component=claim")
    assert len(claims) == len(stack.hub.partitions())
    assert not any(stack.thingworx.binders(stack.HUB_THING).values()), "something is still bound"


def test_a_resource_made_again_goes_on_where_the_claims_say(stack: Stack, fleet: Fleet):
    fleet.telemetry(20, 200).wait(60)
    apply(stack.resource(replicas=2))
    stack.wait_ready(2)
    stack.settled()
    nothing_lost(stack, fleet)
