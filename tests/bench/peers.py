"""What a user would write the bridge with: Microsoft's clients in other languages, merely reading the stream."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import measure
from bridge import GROUP, MEASURED, Standins, Way, eventually
from measure import Run

HERE = Path(__file__).parent / "peers"
# Java compiles what it runs while it runs it; once it has read so many, little is left to compile. The others
# are warm at once.
WARM_EVENTS = {"Java": 500_000}


@dataclass(frozen=True)
class Peer:
    """A client with one setting of its two numbers: events that it lets the hub send ahead, and events at once."""

    language: str
    package: str
    prefetch: int
    batch: int

    def __str__(self) -> str:
        batch = f"/{self.batch}" if self.batch else ""
        return f"{self.language}, {self.package}, {self.prefetch}{batch}"


# The first of each is the client's own default.
PEERS = {
    "Python": [Peer("Python", "azure-eventhub 5.15.1", *pair) for pair in ((300, 300), (1000, 300), (4000, 1000))],
    "JavaScript": [Peer("JavaScript", "@azure/event-hubs 6.0.4", *pair)
                   for pair in ((300, 100), (1000, 300), (4000, 1000))],
    "Java": [Peer("Java", "azure-messaging-eventhubs 5.21.3", prefetch, 0) for prefetch in (500, 1000, 4000)],
}


def _environment(peer: str) -> Path:
    return Path(subprocess.run([HERE / "environment", peer], check=True, stdout=subprocess.PIPE, text=True)
                .stdout.strip())


def _command(peer: Peer, standins: Standins, way: Way) -> tuple[list, dict[str, str]]:
    folder = standins.folder
    string, ca = folder / ("events" if way.tls else "events-plain"), folder / "ca.crt"
    match peer.language:
        case "Python":
            command = [sys.executable, HERE / "read.py", string, GROUP, standins.partitions, peer.prefetch, peer.batch]
            return command + ([ca] if way.tls else []), {}
        case "JavaScript":
            return (["node", _environment("js") / "read.js", string, GROUP, peer.prefetch, peer.batch],
                    {"NODE_EXTRA_CA_CERTS": str(ca)})
        case _:
            made = _environment("java")
            trust = folder / "trust.p12"
            if not trust.exists():
                subprocess.run(["keytool", "-importcert", "-noprompt", "-alias", "bench", "-file", ca,
                                "-keystore", trust, "-storepass", "public"], check=True, capture_output=True)
            return (["java", f"-Djavax.net.ssl.trustStore={trust}", "-Djavax.net.ssl.trustStorePassword=public",
                     "-cp", f"{made}/classes:{made}/jars/*", "Read", string, GROUP, standins.partitions,
                     peer.prefetch], {})


def read(standins: Standins, way: Way, peer: Peer) -> Run:
    """The peer reads the backlog that lies in the stream."""
    command, environment = _command(peer, standins, way)
    pid = standins.processes.start("peer", command, MEASURED, **environment)

    def warm() -> bool:
        standins.processes.expect("peer")
        return standins.reading() and standins.read() >= WARM_EVENTS.get(peer.language, measure.WARM_EVENTS)

    try:
        eventually(f"{peer} is warm", warm, 120, 0.1)
        return measure.stretch(standins, pid, [standins.hub_pid], standins.read)
    finally:
        standins.processes.end("peer")
