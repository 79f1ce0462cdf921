"""The cluster: kubectl and Helm, and the stand-ins as pods."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
import trustme
from fleet import Fleet
from hub import Hub
from thingworx import Thingworx, device_thing, hub_thing

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "azure-iot-hub-connector"
VERSION = "0.1.0"


def kubectl(*arguments: str, given: str | None = None, check: bool = True) -> str:
    """Runs kubectl; its output, or on failure an error with its words."""
    done = subprocess.run(
        ["kubectl", *arguments], input=given, capture_output=True, text=True, timeout=180
    )
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout if done.returncode == 0 else done.stderr


def get(kind: str, name: str, namespace: str) -> dict:
    return json.loads(kubectl("-n", namespace, "get", kind, name, "-o", "json", "--show-managed-fields"))


def listed(kind: str, namespace: str, selector: str = "") -> list[dict]:
    arguments = ["-n", namespace, "get", kind, "-o", "json", "--show-managed-fields"] + (["-l", selector] if selector else [])
    return json.loads(kubectl(*arguments))["items"]


def apply(*objects: dict, check: bool = True) -> str:
    given = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    return kubectl("apply", "-f", "-", given=given, check=check)


def eventually(what: str, condition: Callable[[], object], seconds: float = 60):
    """Waits until `condition` gives something true; a failure names the promise."""
    until = time.monotonic() + seconds
    last: object = None
    while True:
        try:
            last = condition()
            if last:
                return last
        except (AssertionError, KeyError, IndexError, requests.RequestException) as error:
            last = error
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:.0f} s: {what} (last seen: {last})")
        time.sleep(0.25)


def process(pod: dict) -> Path:
    """The process of a pod's program on this machine, found by its container's id."""
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    for found in Path("/proc").glob("[0-9]*"):
        try:
            if container in (found / "cgroup").read_text():
                return found
        except OSError:  # It has ended meanwhile.
            continue
    raise LookupError(f"no process of {pod['metadata']['name']} on this machine")


def install_operator(namespace: str = "azure-iot-hub-connector") -> None:
    """`helm install`, or an upgrade if it is there, with the images built here."""
    values = [f"image.tag={VERSION}", "image.repository=localhost/azure-iot-hub-operator",
              f"connectorImage.tag={VERSION}", "connectorImage.repository=localhost/azure-iot-hub-connector"]
    done = subprocess.run(
        ["helm", "upgrade", "--install", "connector", str(CHART), "-n", namespace, "--create-namespace",
         "--wait", "--timeout", "120s", *(part for value in values for part in ("--set", value))],
        capture_output=True, text=True, timeout=180,
    )
    assert done.returncode == 0, f"helm: {done.stderr}\n{kubectl('-n', namespace, 'describe', 'pods')}"
    # The same tag may hold another program than at the last run.
    kubectl("-n", namespace, "rollout", "restart", "deployment")
    kubectl("-n", namespace, "rollout", "status", "deployment", "--timeout=90s")


def metrics(url: str) -> dict[str, float]:
    """A connector's metrics: name and labels → value."""
    text = requests.get(f"{url}/metrics", timeout=10).text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def object_(kind: str, name: str, namespace: str, api: str = "v1", **rest) -> dict:
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **rest}


def secret(name: str, namespace: str, **texts: str) -> dict:
    return object_("Secret", name, namespace, stringData=texts)


def deployment(name: str, namespace: str, image: str, arguments: list[str], mounts: list[str]) -> dict:
    return object_(
        "Deployment", name, namespace, "apps/v1",
        spec={
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "securityContext": {"sysctls": [
                        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
                    "containers": [{
                        "name": name, "image": f"localhost/{image}:{VERSION}",
                        "imagePullPolicy": "IfNotPresent", "args": arguments,
                        "volumeMounts": [{"name": one, "mountPath": f"/{one}"} for one in mounts],
                    }],
                    "volumes": [{"name": one, "secret": {"secretName": f"{name}-{one}"}} for one in mounts],
                },
            },
        },
    )


def service(name: str, namespace: str, app: str, ports: dict[str, tuple[int, int]]) -> dict:
    return object_(
        "Service", name, namespace,
        spec={"selector": {"app": app},
              "ports": [{"name": port, "port": outside, "targetPort": inside}
                        for port, (outside, inside) in ports.items()]},
    )


@dataclass
class Claim:
    """A claim as its Lease says it."""

    partition: str
    lease: str
    # The member that holds it; empty if nobody does.
    holder: str
    epoch: int
    # Sequence number of the event up to which everything is settled; -1 if nothing has been checkpointed.
    sequence: int

    @staticmethod
    def of(lease: dict) -> Claim:
        note = lambda name, otherwise="": lease["metadata"]["annotations"].get(  # noqa: E731
            f"iot-connectors.dev/{name}", otherwise)
        return Claim(note("partition"), lease["metadata"]["name"], lease["spec"].get("holderIdentity") or "",
                     int(note("epoch", "0")), int(note("sequence", "-1")))

    def held_by(self, pod: str) -> bool:
        return f"-{pod}-" in self.holder


class Stack:
    """A namespace with a platform, a hub and what a connector needs to reach them."""

    CONNECTOR = "demo"
    HUB_THING = "FactoryHub"

    def __init__(self, namespace: str, nodes: int = 3):
        self.namespace = namespace
        self.app_key = secrets.token_hex(16)
        self.policy_key = base64.b64encode(secrets.token_bytes(32)).decode()
        self.authority = trustme.CA()
        self.ca = self.authority.cert_pem.bytes().decode()
        self.nodes = nodes
        kubectl("create", "namespace", namespace)
        kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
        try:
            self._deploy()
        except BaseException:
            self.delete()
            raise

    def _certificate(self, *names: str) -> dict[str, str]:
        issued = self.authority.issue_cert(*names)
        chain = "".join(one.bytes().decode() for one in issued.cert_chain_pems)
        return {"tls.crt": chain, "tls.key": issued.private_key_pem.bytes().decode()}

    def _deploy(self) -> None:
        namespace = self.namespace
        nodes = {f"node{index}": (8443 + index, 8443 + index) for index in range(self.nodes)}
        apply(
            service("twx", namespace, "twx", {**nodes, "rest": (8080, 8080)}),
            service("hub", namespace, "hub", {"amqp": (5671, 5671), "mqtt": (8883, 8883),
                                              "https": (443, 8444), "control": (8090, 8090)}),
            service("hub-events", namespace, "hub", {"amqp": (5671, 5672)}),
        )
        self.hub_ip, self.events_ip, self.twx_ip = (
            get("service", name, namespace)["spec"]["clusterIP"] for name in ("hub", "hub-events", "twx"))
        hub_host, events_host = f"hub.{namespace}.svc", f"hub-events.{namespace}.svc"
        apply(
            secret("twx-tls", namespace, **self._certificate(f"twx.{namespace}.svc")),
            secret("hub-tls", namespace, **self._certificate(hub_host, events_host, self.hub_ip,
                                                         self.events_ip)),
            object_("ConfigMap", "authorities", namespace, data={"ca.crt": self.ca}),
            secret("thingworx", namespace, appKey=self.app_key),
            secret("iothub", namespace,
                   service=f"HostName={hub_host};SharedAccessKeyName=service;SharedAccessKey={self.policy_key}",
                   events=f"Endpoint=sb://{events_host}/;SharedAccessKeyName=service;"
                          f"SharedAccessKey={self.policy_key};EntityPath=telemetry"),
            deployment("twx", namespace, "thingworx-standin", [
                "--node", ",".join(f"0.0.0.0:{8443 + index}" for index in range(self.nodes)),
                "--rest", "0.0.0.0:8080", "--app-key", self.app_key,
                # Who was drawn may be leaving when the request is sent.
                "--draw-delay-ms", "500",
                "--tls-cert", "/tls/tls.crt", "--tls-key", "/tls/tls.key"], ["tls"]),
            deployment("hub", namespace, "iothub-standin", hub_arguments(self, hub_host, events_host), ["tls"]),
        )
        self.thingworx = Thingworx(f"http://{self.twx_ip}:8080", self.app_key)
        # Devices reach the hub by its address: names of Services mean nothing outside the cluster.
        self.hub = Hub(f"http://{self.hub_ip}:8090", self.hub_ip)
        eventually("the platform's stand-in is ready", self.thingworx.ready, 90)
        eventually("the hub's stand-in is ready", self.hub.ready, 90)
        self.thingworx.define({self.HUB_THING: hub_thing()})

    def resource(self, name: str = CONNECTOR, replicas: int = 3, **spec) -> dict:
        """A custom resource; keyword arguments replace or, with None, remove fields of its spec."""
        ca = {"configMapKeyRef": {"name": "authorities", "key": "ca.crt"}}
        key = lambda name, key: {"secretKeyRef": {"name": name, "key": key}}  # noqa: E731
        whole = {
            "replicas": replicas,
            "hubThingName": self.HUB_THING,
            "thingworx": {
                "endpoints": [f"wss://twx.{self.namespace}.svc:{8443 + index}/Thingworx/WS"
                              for index in range(self.nodes)],
                "appKey": key("thingworx", "appKey"),
                "tls": {"ca": ca},
            },
            "iotHub": {
                "connectionString": key("iothub", "service"),
                "eventHubs": {"connectionString": key("iothub", "events"), "consumerGroup": "thingworx"},
                "tls": {"ca": ca},
            },
            **spec,
        }
        return object_("AzureIotHubConnector", name, self.namespace, "iot-connectors.dev/v1alpha1",
                       spec={field: value for field, value in whole.items() if value is not None})

    # ---- looking ----

    def status(self, name: str = CONNECTOR) -> dict:
        return get("azureiothubconnectors.iot-connectors.dev", name, self.namespace).get("status", {})

    def condition(self, kind: str, name: str = CONNECTOR) -> dict:
        found = [one for one in self.status(name).get("conditions", []) if one["type"] == kind]
        return found[0] if found else {}

    def pods(self, name: str = CONNECTOR) -> list[dict]:
        selector = f"app.kubernetes.io/instance={name},app.kubernetes.io/component=connector"
        pods = listed("pods", self.namespace, selector)
        return [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]

    def ready_pods(self, name: str = CONNECTOR) -> list[dict]:
        def ready(pod: dict) -> bool:
            conditions = pod["status"].get("conditions", [])
            return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

        return [pod for pod in self.pods(name) if ready(pod)]

    def wait_ready(self, replicas: int, name: str = CONNECTOR, seconds: float = 90) -> None:
        """Exactly so many pods are ready, and every one is bound on every node."""
        def ready() -> bool:
            if len(self.pods(name)) != replicas or len(self.ready_pods(name)) != replicas:
                return False
            binders = self.thingworx.binders(self.HUB_THING)
            return all(len(gateways) == replicas for gateways in binders.values())

        eventually(f"{replicas} pods of {name} are ready and bound on every node", ready, seconds)

    def settled(self, name: str = CONNECTOR, seconds: float = 60) -> dict[str, str]:
        """Waits until every partition has an owner among the ready pods; partition → owner."""
        partitions = len(self.hub.partitions())

        def owners() -> dict[str, str] | None:
            claims = listed("leases", self.namespace, "app.kubernetes.io/component=claim")
            owned = {one["metadata"]["name"]: one["spec"].get("holderIdentity") for one in claims}
            alive = [pod["metadata"]["name"] for pod in self.ready_pods(name)]
            if len(owned) < partitions or not all(owned.values()):
                return None
            if not all(any(pod in owner for pod in alive) for owner in owned.values()):
                return None
            loads = [sum(pod in owner for owner in owned.values()) for pod in alive]
            return owned if max(loads) - min(loads) <= 1 else None

        return eventually("every partition is read by a ready pod, evenly", owners, seconds)

    def claims(self) -> dict[str, Claim]:
        """Partition → what its claim says."""
        leases = listed("leases", self.namespace, "app.kubernetes.io/component=claim")
        claims = [Claim.of(lease) for lease in leases]
        return {claim.partition: claim for claim in claims}

    def epochs(self) -> dict[str, int]:
        """Partition → epoch of its claim: grows by 1 with each move."""
        return {partition: claim.epoch for partition, claim in self.claims().items()}

    def metrics(self, pod: dict) -> dict[str, float]:
        """A pod's metrics: name and labels → value."""
        return metrics(f"http://{pod['status']['podIP']}:8080")

    def requests_served(self, pod: dict) -> int:
        """Requests for devices that a pod has served, whatever came of them."""
        return int(sum(value for name, value in self.metrics(pod).items()
                       if name.startswith("azure_iot_connector_requests_total") and 'kind="edge"' not in name))

    def fleet(self, count: int) -> Fleet:
        """So many devices, registered, defined as Things and connected."""
        names = [f"device-{index:03}" for index in range(count)]
        self.thingworx.define({name: device_thing(self.HUB_THING) for name in names})
        return Fleet(self.hub.register(names), self.ca)

    def logs(self, name: str = CONNECTOR, lines: int = 40) -> str:
        selector = f"app.kubernetes.io/instance={name}"
        return kubectl("-n", self.namespace, "logs", "-l", selector, "--prefix", f"--tail={lines}", check=False)

    def delete(self) -> None:
        kubectl("delete", "namespace", self.namespace, "--wait=false", check=False)


def hub_arguments(stack: Stack, hub_host: str, events_host: str) -> list[str]:
    return [
        "--hub-host", f"{hub_host},{stack.hub_ip},{stack.events_ip}", "--events-host", events_host,
        "--entity", "telemetry", "--consumer-group", "thingworx",
        "--policy", f"service:{stack.policy_key}:ServiceConnect",
        "--hub-amqp", "0.0.0.0:5671", "--events-amqp", "0.0.0.0:5672", "--mqtt", "0.0.0.0:8883",
        "--https", "0.0.0.0:8444", "--control", "0.0.0.0:8090",
        "--tls-cert", "/tls/tls.crt", "--tls-key", "/tls/tls.key",
    ]


@contextlib.contextmanager
def namespace(prefix: str) -> Iterator[str]:
    """A name for a namespace that no other run has."""
    yield f"{prefix}-{secrets.token_hex(3)}"
