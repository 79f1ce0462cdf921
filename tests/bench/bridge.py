"""Source, sink and what is measured, as processes of this machine without Kubernetes.

Source and sink are the stand-ins, both on one core; what is measured has another to itself.
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import requests
import trustme

from machine import pinned

PROGRAMS = Path(os.environ["PROGRAMS"])
CONNECTOR, RELAY = "azure-iot-hub-connector", "relay"
# Networks of the scenarios are 71 to 73; all can run at the same time.
NETWORK = "127.0.74"
HUB, EVENTS, PLATFORM = (f"{NETWORK}.{last}" for last in (1, 2, 3))
GROUP = "bench"
HUB_THING = "FactoryHub"
# Of the eight keys of a body; the eighth is not known to the platform, as happens.
PROPERTIES = {
    "stamp": "NUMBER", "temperature": "NUMBER", "pressure": "NUMBER", "flow": "NUMBER", "count": "LONG",
    "on": "BOOLEAN", "state": "STRING",
}
# Cores of source and sink, and of what is measured.
STANDINS, MEASURED = 0, 1


def eventually(what: str, condition: Callable[[], object], seconds: float, every: float = 0.02):
    """Waits until `condition` gives something true."""
    until = time.monotonic() + seconds
    while not (last := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(every)
    return last


class Processes:
    """Programs that end with this."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.running: dict[str, subprocess.Popen] = {}

    def start(self, name: str, command: list, core: int, **environment: str) -> int:
        log = (self.folder / f"{name}.log").open("a")
        self.running[name] = subprocess.Popen(
            [*pinned(core), *map(str, command)], stdout=log, stderr=log, env={**os.environ, **environment})
        return self.running[name].pid

    def expect(self, name: str) -> None:
        """Fails with what it said last if it has ended."""
        if self.running[name].poll() is not None:
            raise RuntimeError(f"{name} has ended: " + (self.folder / f"{name}.log").read_text()[-2000:])

    def end(self, name: str) -> None:
        """Ends it at once: what it leaves behind is part of no measurement."""
        self._kill(self.running.pop(name))

    def close(self) -> None:
        running, self.running = self.running, {}
        for process in running.values():
            self._kill(process)

    @staticmethod
    def _kill(process: subprocess.Popen) -> None:
        process.kill()
        process.wait(30)


@dataclass(frozen=True)
class Way:
    """How source and sink are reached: plainly, or by TLS on both sides."""

    name: str
    events: str
    platform: int

    @property
    def tls(self) -> bool:
        return self.name == "TLS"


PLAIN = Way("plain", f"amqp://{EVENTS}:5672", 8443)
TLS = Way("TLS", "", 8444)


class Standins:
    """The hub and two platforms, one plain and one with TLS; the one that is not used costs nothing."""

    def __init__(self, folder: Path, *, partitions: int = 4, retention: int = 4_000_000, nodes: int = 1):
        self.folder, self.partitions, self.nodes = folder, partitions, nodes
        self.processes = Processes(folder)
        self.connectors = 0
        self.app_key = secrets.token_hex(16)
        self.http = requests.Session()
        self.http.headers["appKey"] = self.app_key
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        authority = trustme.CA()
        issued = authority.issue_cert(HUB, EVENTS, PLATFORM)
        emulator = f"Endpoint=sb://{EVENTS};SharedAccessKeyName=service;SharedAccessKey={key};" \
                   "EntityPath=telemetry;UseDevelopmentEmulator=true"
        files = {
            "ca.crt": authority.cert_pem.bytes().decode(),
            "tls.crt": "".join(one.bytes().decode() for one in issued.cert_chain_pems),
            "tls.key": issued.private_key_pem.bytes().decode(),
            "appKey": self.app_key,
            "service": f"HostName={HUB};SharedAccessKeyName=service;SharedAccessKey={key}",
            "events": f"Endpoint=sb://{EVENTS}/;SharedAccessKeyName=service;SharedAccessKey={key};"
                      "EntityPath=telemetry",
            # By this word the peers leave TLS out, and go to port 5672.
            "events-plain": emulator,
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        tls = ["--tls-cert", folder / "tls.crt", "--tls-key", folder / "tls.key"]
        try:
            self.hub_pid = self.processes.start("iothub-standin", [
                PROGRAMS / "iothub-standin", "--hub-host", HUB, "--events-host", EVENTS, "--entity", "telemetry",
                "--consumer-group", GROUP, "--policy", f"service:{key}:ServiceConnect",
                "--partitions", partitions, "--retention", retention,
                "--hub-amqp", f"{HUB}:5671", "--events-amqp", f"{EVENTS}:5671", "--events-plain", f"{EVENTS}:5672",
                "--mqtt", f"{HUB}:8883", "--https", f"{HUB}:443", "--control", f"{HUB}:8090", *tls], STANDINS)
            self.platform_pids = {
                way.name: self.processes.start(f"thingworx-standin-{way.name}", [
                    PROGRAMS / "thingworx-standin", "--node", self._nodes(way), "--rest", self._rest(way),
                    "--app-key", self.app_key, "--count-only", *(tls if way.tls else [])], STANDINS)
                for way in (PLAIN, TLS)
            }
            eventually("the stand-ins listen", self._listening, 20)
        except BaseException:
            self.processes.close()
            raise

    def _nodes(self, way: Way) -> str:
        return ",".join(f"{PLATFORM}:{way.platform + 10 * node}" for node in range(self.nodes))

    @staticmethod
    def _rest(way: Way) -> str:
        return f"{PLATFORM}:{way.platform - 400}"

    def _listening(self) -> bool:
        try:
            return self.http.get(f"http://{HUB}:8090/health", timeout=2).ok and all(
                self.http.get(f"http://{self._rest(way)}/Thingworx/ready", timeout=2).ok for way in (PLAIN, TLS))
        except requests.RequestException:
            return False

    def _ask(self, method: str, url: str, timeout: float = 60, **arguments):
        answer = self.http.request(method, url, timeout=timeout, **arguments)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    # ---- the source ----

    def load(self, seconds: float = 600, **load) -> None:
        """Appends events; returns once all are there."""
        # A session of its own: a load at a rate goes on beside other questions.
        requests.post(f"http://{HUB}:8090/load", timeout=seconds, json=load).raise_for_status()

    def loading(self, events: int, rate: int) -> threading.Thread:
        """Appends events at a rate while other things are done; ends with the stand-ins at the latest."""
        def load() -> None:
            try:
                self.load(events / rate + 60, events=events, rate=rate)
            except requests.RequestException:
                if self.processes.running:
                    raise

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        return thread

    def _partitions(self) -> list[dict]:
        return self._ask("GET", f"http://{HUB}:8090/partitions")["partitions"]

    def read(self) -> int:
        """How many events readers have been sent, from the start of the stream."""
        return sum(reader["next"] for one in self._partitions() for reader in one["readers"])

    def left(self) -> int:
        """How many events lie in the stream that readers have not been sent."""
        return sum(one["last"]["sequence"] + 1 for one in self._partitions() if one["last"]) - self.read()

    def readers(self) -> int:
        """How many links read the stream."""
        return sum(len(one["readers"]) for one in self._partitions())

    # ---- the sink ----

    def define(self, devices: int, kinds: list[dict] | None = None, prefix: str = "device-") -> None:
        """Things for `devices` devices, of the kinds in turn; on both platforms."""
        for way in (PLAIN, TLS):
            url = f"http://{self._rest(way)}/standin"
            hub = {"template": "AzureIotHubTemplate", "configuration": {}}
            self._ask("PUT", f"{url}/things", json={HUB_THING: hub})
            self._ask("POST", f"{url}/generate", timeout=300,
                      json={"prefix": prefix, "count": devices, "things": kinds or [device_thing()]})

    def tally(self, way: Way) -> dict:
        return self._ask("GET", f"http://{self._rest(way)}/standin/tally")

    def written(self, way: Way) -> float:
        """How many events have been written."""
        return self.tally(way)["values"] / len(PROPERTIES)

    def clear(self, way: Way) -> None:
        self._ask("DELETE", f"http://{self._rest(way)}/standin/tally")

    def fault(self, way: Way, **fault) -> None:
        self._ask("POST", f"http://{self._rest(way)}/standin/faults", json=fault)

    def pids(self, way: Way) -> list[int]:
        return [self.hub_pid, self.platform_pids[way.name]]

    # ---- what is measured ----

    def connector(self, way: Way, *, start: str = "Earliest", again: bool = False) -> int:
        """Starts a connector that has never read before, or `again` the one that was started last."""
        self.connectors += not again
        number = self.connectors
        scheme = "wss" if way.tls else "ws"
        endpoints = ", ".join(f"{scheme}://{node}/Thingworx/WS" for node in self._nodes(way).split(","))
        folder = self.folder
        platform_tls = f"  tls: {{ca: {{file: {folder}/ca.crt}}}}" if way.tls else ""
        settings = folder / f"connector-{number}.yaml"
        # Everything else is as it comes: what is measured is what a user gets who sets nothing.
        settings.write_text(f"""
hubThingName: {HUB_THING}
thingworx:
  endpoints: [{endpoints}]
  appKey: {{file: {folder}/appKey}}
{platform_tls}
iotHub:
  connectionString: {{file: {folder}/service}}
  eventHubs: {{connectionString: {{file: {folder}/events}}, consumerGroup: {GROUP}, start: {start}}}
  tls: {{ca: {{file: {folder}/ca.crt}}}}
checkpoints: {{file: {{path: {folder}/connector-{number}.json}}}}
""")
        # Only the way to the events differs by the environment: the hub itself has TLS in either case, and
        # next to no traffic.
        environment = {"AZURE_IOT_EVENTS_ENDPOINT": way.events} if way.events else {}
        return self.processes.start(
            CONNECTOR, [PROGRAMS / CONNECTOR, "--config", settings, "--listen", f"{PLATFORM}:9090"],
            MEASURED, **environment)

    def ready(self) -> bool:
        self.processes.expect(CONNECTOR)
        try:
            return self.http.get(f"http://{PLATFORM}:9090/readyz", timeout=2).ok
        except requests.RequestException:
            return False

    def reading(self) -> bool:
        """Every partition has its reader."""
        return self.readers() == self.partitions

    def relay(self, way: Way, *, writing: bool = True) -> int:
        """Starts the least that can carry events from the hub to the platform, or merely read them."""
        folder = self.folder
        command = ["events" if writing else "read", "--events", folder / "events", "--group", GROUP,
                   "--partitions", self.partitions, *(self._platform(way) if writing else [])]
        if way.tls:
            return self._relay(command, SSL_CERT_FILE=str(folder / "ca.crt"))
        return self._relay([*command, "--endpoint", way.events])

    def commands_relay(self, way: Way) -> int:
        """Starts the least that can carry the platform's requests to devices."""
        return self._relay(["commands", "--service", self.folder / "service", "--hub-thing", HUB_THING,
                            *self._platform(way)])

    def _relay(self, command: list, **environment: str) -> int:
        return self.processes.start(RELAY, [PROGRAMS / RELAY, *command], MEASURED, **environment)

    def _platform(self, way: Way) -> list:
        scheme = "wss" if way.tls else "ws"
        return ["--platform", f"{scheme}://{self._nodes(way).split(',')[0]}/Thingworx/WS",
                "--app-key", self.folder / "appKey", "--ca", self.folder / "ca.crt"]

    def bound(self, way: Way) -> bool:
        """The relay takes the requests for devices."""
        self.processes.expect(RELAY)
        nodes = self._ask("GET", f"http://{self._rest(way)}/standin/endpoints")
        return any(HUB_THING in endpoint["bound"] for node in nodes for endpoint in node["endpoints"])

    # ---- commands ----

    def crew(self, devices: int, prefix: str = "device-", **ways) -> None:
        """So many devices are connected, which answer and fetch at once what comes; unless `ways` say otherwise."""
        self._ask("POST", f"http://{HUB}:8090/fleet", timeout=300,
                  json={"devices": devices, "prefix": prefix, "answerMs": 0, **ways})

    def ill(self, thing: dict) -> None:
        """A device that never answers a method, and one that fetches no messages."""
        for prefix, ways in (("mute-", {"answerMs": None}), ("full-", {"fetch": False})):
            self.define(1, [thing], prefix)
            self.crew(1, prefix, **ways)

    # ---- imports ----

    def _hub_service(self, way: Way, name: str, **inputs):
        url = f"http://{self._rest(way)}/Thingworx/Things/ConnectionServicesHub/Services/{name}"
        return self._ask("POST", url, json=inputs)

    def begin_import(self, way: Way) -> str:
        """Its id. Until the connector has offered its services, it is asked again."""
        def begin():
            try:
                return self._hub_service(way, "ImportAzureIotDevices")
            except requests.HTTPError:
                return None

        rows = eventually("an import begins", begin, 30)["rows"]
        return rows[0]["result"]

    def imported(self, way: Way) -> int:
        """How many Things are ready that have the hub as gateway."""
        rows = self._ask("GET", f"http://{self._rest(way)}/standin/census")
        return sum(row["count"] for row in rows if row["enabled"] and row["gatewayThing"] == HUB_THING)

    def import_ended(self, way: Way, made: str) -> dict | None:
        """What was told of its end, if it has ended."""
        events = self._ask("GET", f"http://{self._rest(way)}/standin/log/events?after=0")["entries"]
        rows = [one["data"]["rows"][0] for one in events if one["event"] == "AzureThingImportStatusEvent"]
        return next((row for row in rows if row["importId"] == made), None)

    def command(self, way: Way, **load) -> dict:
        """Has the platform ask devices; tells what became of it once all is answered."""
        # A session of its own: other things are asked at the same time.
        answer = requests.post(f"http://{self._rest(way)}/standin/load", json=load, timeout=load["seconds"] + 60,
                               headers={"appKey": self.app_key})
        answer.raise_for_status()
        return answer.json()

    def limit(self, limits: dict | None) -> None:
        """The hub allows what a tier does; without limits, everything."""
        if limits is None:
            self._ask("DELETE", f"http://{HUB}:8090/limits")
        else:
            self._ask("PUT", f"http://{HUB}:8090/limits", json=limits)

    def operations(self) -> dict:
        """What the hub was asked for since its start: operation → accepted, refused, lost."""
        return self._ask("GET", f"http://{HUB}:8090/operations")

    def close(self) -> None:
        self.processes.close()


def device_thing(**more: dict) -> dict:
    """A device with the seven properties of a body; `more` are properties beside them."""
    properties = {name: {"baseType": base, "remote": {}} for name, base in PROPERTIES.items()}
    return {"template": "AzureIotThing", "gatewayThing": HUB_THING, "properties": {**properties, **more}}
