"""One connector without Kubernetes and the stand-ins, as processes on loopback addresses."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import subprocess
from pathlib import Path

import trustme
from cluster import eventually, metrics
from fleet import Fleet
from hub import Hub
from thingworx import Thingworx, device_thing

PROGRAMS = Path(os.environ["PROGRAMS"])
CONNECTOR = "azure-iot-hub-connector"


class Bench:
    """Stand-ins and a connector as processes on loopback addresses."""

    def __init__(self, folder: Path, network: str):
        self.processes: dict[str, subprocess.Popen] = {}
        try:
            self._set_up(folder, network)
        except BaseException:
            self.close()
            raise

    def _set_up(self, folder: Path, network: str) -> None:
        self.hub_host, self.events_host, self.platform, self.storage = (f"{network}.{last}" for last in (1, 2, 3, 4))
        self.folder = folder
        self.app_key = secrets.token_hex(16)
        policy_key, registry_key = (base64.b64encode(secrets.token_bytes(32)).decode() for _ in range(2))
        authority = trustme.CA()
        issued = authority.issue_cert(self.hub_host, self.events_host, self.platform, self.storage)
        self.ca = authority.cert_pem.bytes().decode()
        chain = "".join(one.bytes().decode() for one in issued.cert_chain_pems)
        files = {
            "ca.crt": self.ca, "tls.crt": chain, "tls.key": issued.private_key_pem.bytes().decode(),
            "appKey": self.app_key,
            "service": f"HostName={self.hub_host};SharedAccessKeyName=service;SharedAccessKey={policy_key}",
            "registry": f"HostName={self.hub_host};SharedAccessKeyName=registry;SharedAccessKey={registry_key}",
            "events": f"Endpoint=sb://{self.events_host}/;SharedAccessKeyName=service;SharedAccessKey={policy_key};"
                      "EntityPath=telemetry",
        }
        for name, text in files.items():
            (folder / name).write_text(text)
        tls = ["--tls-cert", folder / "tls.crt", "--tls-key", folder / "tls.key"]
        self.start("thingworx-standin", "--node", f"{self.platform}:8443,{self.platform}:8444",
                   "--rest", f"{self.platform}:8080", "--app-key", self.app_key, *tls)
        hub = self.hub_host
        self.start("iothub-standin", "--hub-host", hub, "--events-host", self.events_host, "--entity", "telemetry",
                   "--consumer-group", "thingworx", "--policy", f"service:{policy_key}:ServiceConnect",
                   "--policy", f"registry:{registry_key}:RegistryWrite",
                   "--hub-amqp", f"{hub}:5671", "--events-amqp", f"{self.events_host}:5671",
                   "--mqtt", f"{hub}:8883", "--https", f"{hub}:443", "--events-https", f"{self.events_host}:443",
                   "--control", f"{hub}:8090",
                   "--route", "lifecycle,twin,connection", *tls)
        self.thingworx = Thingworx(f"http://{self.platform}:8080", self.app_key)
        self.hub = Hub(f"http://{self.hub_host}:8090", self.hub_host)
        # One that has found its addresses taken has ended, and another run's would answer in its place.
        for program, ready in (("thingworx-standin", self.thingworx.ready), ("iothub-standin", self.hub.ready)):
            eventually(f"{program} is ready", ready, 20)
            assert self.running(program), f"{program} has ended: {(folder / f'{program}.log').read_text()[-2000:]}"

    def start(self, program: str, *arguments: object, name: str = "", **variables: str) -> None:
        if (name or program) in self.processes:
            # A scenario that failed has left it.
            self.end(name or program, signal.SIGKILL)
        log = (self.folder / f"{name or program}.log").open("a")
        self.processes[name or program] = subprocess.Popen(
            [PROGRAMS / program, *map(str, arguments)], stderr=log, stdout=log, env=os.environ | variables)

    def connector(
        self, routing_group: str = "", *, name: str = CONNECTOR, port: int = 9090, start: str = "Earliest",
        events: bool = True, way: str = "", checkpoints: str = "",
        node_selection: str = "RoundRobin", platform: str = "", nodes: tuple[int, ...] = (8443, 8444),
        mapping: str = "",
    ) -> None:
        """Starts a connector; one of another name keeps checkpoints of its own. Without `events` it asks the hub
        where the built-in endpoint is; `way` are more settings of `iotHub`, `platform` of `thingworx`, whose nodes are
        reached at the ports `nodes`; `mapping` is a program in jq."""
        endpoints = ", ".join(f"wss://{self.platform}:{node}/Thingworx/WS" for node in nodes)
        given = f"connectionString: {{file: {self.folder}/events}}, " if events else ""
        mapping = f", mapping: {json.dumps(mapping)}" if mapping else ""
        checkpoints = checkpoints or f"{{file: {{path: {self.folder}/{name}.json}}}}"
        settings = self.folder / f"{name}.yaml"
        settings.write_text(f"""
hubThingName: FactoryHub
{routing_group}
thingworx:
  endpoints: [{endpoints}]
  appKey: {{file: {self.folder}/appKey}}
  nodeSelection: {node_selection}
  {platform}
  tls: {{ca: {{file: {self.folder}/ca.crt}}}}
iotHub:
  connectionString: {{file: {self.folder}/service}}
  eventHubs: {{{given}consumerGroup: thingworx, start: {start}}}
  {way}
  messages: {{time: Property, timeField: at, connectionProperty: online{mapping}}}
  tls: {{ca: {{file: {self.folder}/ca.crt}}}}
checkpoints: {checkpoints}
""")
        self.start(CONNECTOR, "--config", settings, "--listen", f"{self.platform}:{port}", name=name)

    def fleet(self, count: int) -> Fleet:
        """So many devices, registered, defined as Things and connected."""
        names = [f"dev-{index}" for index in range(count)]
        self.thingworx.define({name: device_thing("FactoryHub") for name in names})
        return Fleet(self.hub.register(names), self.ca)

    def running(self, program: str = CONNECTOR) -> bool:
        return program in self.processes and self.processes[program].poll() is None

    def end(self, program: str = CONNECTOR, how: signal.Signals = signal.SIGTERM) -> int:
        process = self.processes.pop(program)
        process.send_signal(how)
        try:
            return process.wait(70)
        finally:
            # One that stays would have the addresses of the next.
            process.kill()

    def close(self) -> None:
        """Ends every process that is still running, also those that a failure has left frozen."""
        for process in self.processes.values():
            process.terminate()
            process.send_signal(signal.SIGCONT)
        for process in self.processes.values():
            try:
                process.wait(70)
            except subprocess.TimeoutExpired:
                process.kill()
        self.processes.clear()

    def serving(self, **settings: object) -> None:
        """Waits for a connector that is ready, whatever became of the one before; starts one if there is none."""
        if not self.running():
            self.connector(**settings)
        eventually("the connector is ready", self.ready, 60)

    def unready(self) -> str:
        return self.thingworx.http.get(f"http://{self.platform}:9090/readyz", timeout=10).text

    def ready(self) -> bool:
        return self.unready() == "ready\n"

    def offered(self) -> bool:
        """Whether the services of `ConnectionServicesHub` reach the connector. It answers this without the hub."""
        return "thingName is missing" in self.thingworx.service("DescribeAzureIotDevice").text

    def metrics(self) -> dict[str, float]:
        """The connector's metrics: name and labels → value."""
        return metrics(f"http://{self.platform}:9090")

    def total(self, metric: str) -> int:
        """Sum of a metric of the connector over its labels."""
        return int(sum(value for name, value in self.metrics().items()
                       if name.startswith(f"azure_iot_connector_{metric}")))

    def said(self, words: str) -> int:
        """How often the connector's log has these words."""
        return (self.folder / f"{CONNECTOR}.log").read_text().count(words)

    def log(self) -> str:
        log = self.folder / f"{CONNECTOR}.log"
        return log.read_text()[-4000:] if log.exists() else ""
