"""The demo: three pods from one resource, telemetry up, requests down, then five pods.

Exits 0 only if every message arrived and if, pod by pod, the platform's draws, the pod's own count and what
devices received are the same number, which is more than 0.
"""

from __future__ import annotations

import os
import sys
import time
from functools import partial

import cluster
from cluster import Stack, eventually, kubectl
from fleet import Fleet
from thingworx import Arrivals

DEVICES, MESSAGES, RATE = 20, 50, 200
WRITES, CALLS = 300, 100


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def telemetry(stack: Stack, fleet: Fleet) -> None:
    """Numbered messages from every device; every one must become a value on the platform."""
    begin = {name: device.sent for name, device in fleet.devices.items()}
    stack.thingworx.new_values()
    sending = fleet.telemetry(MESSAGES, RATE)
    values: list[dict] = []

    def seen() -> int:
        values.extend(entry for entry in stack.thingworx.new_values() if entry["property"] == "seq")
        return len({(entry["thing"], entry["value"]) for entry in values})

    while sending.running():
        time.sleep(2)
        say(f"  telemetry sent {sending.acknowledged:5}, values on the platform {seen():5}")
    sending.wait(60)
    eventually("every message has become a value", lambda: seen() >= sending.total, 60)
    say(f"  telemetry sent {sending.acknowledged:5}, values on the platform {seen():5}")
    sent = {name: device.sent for name, device in fleet.devices.items()}
    earlier = [{"property": "seq", "thing": name, "value": str(number), "gateway": "", "takenMs": values[0]["takenMs"]}
               for name, count in begin.items() for number in range(count)]
    arrivals = Arrivals.of(earlier + values, sent)
    assert arrivals.lost == 0, f"{arrivals.lost} of {sending.total} messages are lost"
    assert arrivals.out_of_order == 0, f"{arrivals.out_of_order} first arrivals are out of order"
    say(f"  lost 0, twice {arrivals.twice}, first arrivals out of order 0")


def key(device: str, body: dict) -> tuple:
    return device, tuple(sorted((name, str(value)) for name, value in body.items()))


def egress(stack: Stack, fleet: Fleet, round_: int) -> list[tuple[str, int, int, int]]:
    """Writes and calls on the platform; per pod: draws, requests served, receipts at devices."""
    names = sorted(fleet.devices)
    before = {pod["metadata"]["name"]: stack.requests_served(pod) for pod in stack.ready_pods()}
    drawn, (had_messages, had_methods) = len(stack.thingworx.draws()), map(len, fleet.received())
    platform = stack.thingworx
    unique = round_ * 1_000_000
    requests = [partial(platform.write, names[n % DEVICES], "setpoint", unique + n) for n in range(WRITES)]
    requests += [partial(platform.call, names[n % DEVICES], "echo", text=f"{unique + n}") for n in range(CALLS)]
    answers = platform.many(requests)
    failed = [answer.text for answer in answers if not answer.ok]
    assert not failed, f"{len(failed)} requests failed, the first: {failed[0]}"
    wrong = [n for n in range(CALLS) if answers[WRITES + n].body != f"{unique + n}"]
    assert not wrong, f"{len(wrong)} calls came back with another result than the device gave"

    def all_received() -> bool:
        messages, methods = fleet.received()
        return len(messages) - had_messages >= WRITES and len(methods) - had_methods >= CALLS

    eventually("devices have received every write and call", all_received, 30)
    messages, methods = fleet.received()
    receipts: dict[tuple, int] = {}
    for one in messages:
        receipts[key(one["device"], one["body"])] = receipts.get(key(one["device"], one["body"]), 0) + 1
    for one in methods:
        receipts[key(one["device"], one["payload"])] = receipts.get(key(one["device"], one["payload"]), 0) + 1
    twice = sum(1 for count in receipts.values() if count > 1)
    assert twice == 0, f"{twice} requests were received twice"

    rows = []
    draws = stack.thingworx.draws(drawn)
    for pod in stack.ready_pods():
        name = pod["metadata"]["name"]
        mine = [one for one in draws if f"-{name}-" in one["gateway"]]
        received = sum(1 for one in mine if key(one["thing"], one["params"]) in receipts)
        rows.append((name, len(mine), stack.requests_served(pod) - before.get(name, 0), received))
    return rows


def table(stack: Stack, rows: list[tuple[str, int, int, int]]) -> None:
    """Prints what each pod carried, and fails unless the three counts agree."""
    owners = stack.settled()
    print(f"\n  {'pod':42} {'partitions':>10} {'draws':>7} {'served':>7} {'received':>9}")
    for name, draws, served, received in rows:
        partitions = sum(1 for owner in owners.values() if f"-{name}-" in owner)
        print(f"  {name:42} {partitions:>10} {draws:>7} {served:>7} {received:>9}")
    expected = (WRITES + CALLS) / len(rows)
    chi = sum((draws - expected) ** 2 / expected for _, draws, _, _ in rows)
    print(f"  chi-squared of the draws {chi:.2f} with {len(rows) - 1} degrees of freedom\n", flush=True)
    assert sum(draws for _, draws, _, _ in rows) == WRITES + CALLS, "draws are missing"
    for name, draws, served, received in rows:
        assert draws == served == received, f"{name}: {draws} draws, {served} served, {received} received"
        assert draws > 0, f"{name} was never drawn"


def show(stack: Stack) -> None:
    print(kubectl("-n", stack.namespace, "get", "aihc"), flush=True)


def run(stack: Stack) -> None:
    say("helm install: the operator")
    cluster.install_operator()
    say(f"kubectl apply: one resource, three pods (namespace {stack.namespace})")
    cluster.apply(stack.resource(replicas=3))
    stack.wait_ready(3)
    stack.settled()
    show(stack)
    say(f"{DEVICES} devices connect with Microsoft's device SDK")
    fleet = stack.fleet(DEVICES)
    try:
        for round_, replicas in enumerate((3, 5)):
            if replicas != 3:
                say(f"kubectl scale aihc/{stack.CONNECTOR} --replicas={replicas}")
                kubectl("-n", stack.namespace, "scale", f"aihc/{stack.CONNECTOR}", f"--replicas={replicas}")
                stack.wait_ready(replicas)
                stack.settled()
                show(stack)
            say(f"{DEVICES * MESSAGES} messages of telemetry through {replicas} pods")
            telemetry(stack, fleet)
            say(f"{WRITES} property writes and {CALLS} service calls on the platform")
            table(stack, egress(stack, fleet, round_))
    finally:
        fleet.close()


def main() -> int:
    begun = time.monotonic()
    kubectl("delete", "namespace", "demo", "--ignore-not-found", "--timeout=90s")
    say("stand-ins for ThingWorx (three nodes) and IoT Hub")
    stack = Stack("demo")
    try:
        run(stack)
    except BaseException as error:
        print(f"\ndemo: {error}\n\n{stack.logs()}", file=sys.stderr)
        if not isinstance(error, (AssertionError, KeyboardInterrupt)):
            raise
        return 1
    finally:
        if os.environ.get("KEEP"):
            print(f"""It is left running. Try next:
  export KUBECONFIG={os.environ.get("KUBECONFIG", "")}
  kubectl -n demo get aihc,pods,leases
  kubectl -n demo describe aihc demo
  kubectl explain aihc.spec
  kubectl -n demo scale aihc/demo --replicas=2
  kubectl -n demo logs -l app.kubernetes.io/instance=demo --prefix
  make cluster-down""")
        else:
            stack.delete()
    say(f"everything arrived; {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
