"""Pods that share the binds of devices: `thingworx.bindDevices`."""

from __future__ import annotations

from collections import Counter, defaultdict

from cluster import Stack, apply, eventually, kubectl
from stream import told
from thingworx import device_thing

NAMES = [f"plain-{number}" for number in range(1000)]


def shares(stack: Stack) -> dict[str, Counter]:
    """Pod → how often it has bound each of the names, on all nodes."""
    found: dict[str, Counter] = defaultdict(Counter)
    for node in stack.thingworx.endpoints():
        for one in node["endpoints"]:
            found[one["gateway"]].update(name for name in one["bound"] if name in NAMES)
    return {gateway: names for gateway, names in found.items() if names}


def is_shared(stack: Stack, pods: int) -> bool:
    found = shares(stack)
    total = sum(found.values(), Counter())
    return len(found) == pods and total == {name: stack.nodes for name in NAMES}


def test_each_device_is_bound_by_one_pod_and_by_another_when_that_one_leaves(stack: Stack):
    thing = {key: value for key, value in device_thing("").items() if key != "gatewayThing"}
    stack.thingworx.define({name: thing for name in NAMES})
    stack.hub.register(NAMES)
    resource = stack.resource(replicas=2)
    resource["spec"]["thingworx"]["bindDevices"] = True
    apply(resource)
    stack.wait_ready(2)
    eventually("two pods have shared them", lambda: is_shared(stack, 2), 120)
    told(f"shares: {[len(names) for names in shares(stack).values()]}")
    for replicas in (1, 3):
        kubectl("-n", stack.namespace, "scale", f"aihc/{stack.CONNECTOR}", f"--replicas={replicas}")
        eventually(f"{replicas} have shared them", lambda: is_shared(stack, replicas), 180)
