"""The stand-in as a process on loopback addresses, and the SDKs pointed at it."""

from __future__ import annotations

import base64
import os
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import certifi
import requests
import trustme
from azure.eventhub import EventData, EventHubConsumerClient, TransportType
from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager

PROGRAMS = Path(os.environ["PROGRAMS"])
# SDKs always dial 8883, 443 and 5671, so the two AMQP faces have an address each. The end-to-end scenarios use
# others: both can run at the same time.
HUB, EVENTS = "127.0.72.1", "127.0.72.2"
GROUP = "checks"


def eventually(what: str, condition: Callable[[], object], seconds: float = 15):
    """Waits until `condition` gives something true."""
    until = time.monotonic() + seconds
    while not (last := condition()):
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return last


class Standin:
    """The process, and what one needs to reach it."""

    def __init__(self, folder: Path):
        self.key = base64.b64encode(secrets.token_bytes(32)).decode()
        authority = trustme.CA()
        issued = authority.issue_cert(HUB, EVENTS)
        self.ca = authority.cert_pem.bytes().decode()
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_text(self.ca)
        (folder / "tls.crt").write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
        (folder / "tls.key").write_bytes(issued.private_key_pem.bytes())
        self._trust(folder)
        self.log = folder / "log"
        self.process = subprocess.Popen(
            [PROGRAMS / "iothub-standin", "--hub-host", HUB, "--events-host", EVENTS,
             "--entity", "telemetry", "--consumer-group", GROUP, "--feedback-seconds", "0.2",
             "--policy", f"iothubowner:{self.key}:all", "--policy", f"service:{self.key}:ServiceConnect",
             "--policy", f"registry:{self.key}:RegistryRead",
             "--hub-amqp", f"{HUB}:5671", "--events-amqp", f"{EVENTS}:5671", "--mqtt", f"{HUB}:8883",
             "--https", f"{HUB}:443", "--events-https", f"{EVENTS}:443", "--control", f"{HUB}:8090",
             "--tls-cert", folder / "tls.crt", "--tls-key", folder / "tls.key"],
            stderr=self.log.open("w"),
        )
        eventually("the stand-in listens", self._listens)

    def _listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"http://{HUB}:8090/health", timeout=2).ok
        except requests.ConnectionError:
            return False

    def _trust(self, folder: Path) -> None:
        """azure-iot-hub takes no CA: its REST half (requests) reads a variable, its AMQP half (uamqp) certifi's
        bundle; so both get a bundle of ours."""
        bundle = folder / "bundle.pem"
        bundle.write_text(Path(certifi.where()).read_text() + self.ca)
        os.environ["REQUESTS_CA_BUNDLE"] = str(bundle)
        certifi.where = lambda: str(bundle)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10)

    # ---- the control face ----

    def control(self, method: str, path: str, body: dict | None = None) -> dict:
        answer = requests.request(method, f"http://{HUB}:8090{path}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json() if answer.content else {}

    def fault(self, fault: str, **rest) -> None:
        self.control("POST", "/faults", {"fault": fault, **rest})

    def last(self) -> dict[str, dict | None]:
        """Partition → its newest event."""
        return {one["id"]: one["last"] for one in self.control("GET", "/partitions")["partitions"]}

    def readers(self, partition: str) -> list[dict]:
        return self.control("GET", "/partitions")["partitions"][int(partition)]["readers"]

    # ---- the SDKs ----

    def service(self, policy: str = "iothubowner", key: str | None = None) -> IoTHubRegistryManager:
        return IoTHubRegistryManager.from_connection_string(
            f"HostName={HUB};SharedAccessKeyName={policy};SharedAccessKey={key or self.key}")

    def jobs(self, policy: str = "iothubowner") -> IoTHubJobManager:
        return IoTHubJobManager.from_connection_string(
            f"HostName={HUB};SharedAccessKeyName={policy};SharedAccessKey={self.key}")

    def module(self, device: str, name: str) -> IoTHubModuleClient:
        """A module of a registered device, registered and connected."""
        keys = [base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2)]
        self.service().create_module_with_sas(device, name, "", *keys)
        client = IoTHubModuleClient.create_from_connection_string(
            f"HostName={HUB};DeviceId={device};ModuleId={name};SharedAccessKey={keys[0]}",
            server_verification_cert=self.ca, connection_retry_interval=1)
        client.connect()
        return client

    def device(self, name: str, key: str | None = None, **options) -> IoTHubDeviceClient:
        """A device, registered and connected."""
        made = self.control("POST", "/devices", {"devices": [name]})["devices"][0]["key"]
        client = IoTHubDeviceClient.create_from_connection_string(
            f"HostName={HUB};DeviceId={name};SharedAccessKey={key or made}",
            server_verification_cert=self.ca, connection_retry_interval=1, **options)
        client.connect()
        return client

    def events(self, key: str | None = None, group: str = GROUP, **options) -> EventHubConsumerClient:
        return EventHubConsumerClient.from_connection_string(
            f"Endpoint=sb://{EVENTS}/;SharedAccessKeyName=service;SharedAccessKey={key or self.key};"
            "EntityPath=telemetry",
            group, connection_verify=str(self.ca_file), **options)

    def read(self, partition: str, **options) -> Reader:
        """Reads a partition; `group`, `retry_total` and `transport_type` go to the client, the rest to `receive`."""
        client = self.events(group=options.pop("group", GROUP), retry_total=options.pop("retry_total", 3),
                             transport_type=options.pop("transport_type", TransportType.Amqp))
        return Reader(client, partition, options)


class Reader:
    """Reads a partition in a thread until `close`."""

    def __init__(self, client: EventHubConsumerClient, partition: str, options: dict):
        self.client = client
        self.events: list[EventData] = []
        self.errors: list[Exception] = []
        self.thread = threading.Thread(target=self._run, args=(partition, options), daemon=True)
        self.thread.start()

    def _run(self, partition: str, options: dict) -> None:
        self.client.receive(
            lambda _, event: self.events.append(event), partition_id=partition,
            on_error=lambda _, error: self.errors.append(error), **options)

    def bodies(self) -> list[str]:
        return [event.body_as_str() for event in self.events]

    def close(self) -> None:
        self.client.close()
        self.thread.join(10)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_) -> None:
        self.close()
