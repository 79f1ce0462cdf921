"""What a user would write the bridge with: Microsoft's clients in other languages, merely reading the stream."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from bridge import GROUP, MEASURED, PLAIN, TLS, Standins, Way, eventually
from measure import Run, stretch

HERE = Path(__file__).parent / "peers"
# Java compiles what it runs while it runs it; by then little is left to compile.
WARM_SECONDS = 4.0


@dataclass(frozen=True)
class Peer:
    """A client with one setting of its two numbers: events that it lets the hub send ahead, and events at once."""

    language: str
    package: str
    prefetch: int
    batch: int

    def __str__(self) -> str:
        batch = f", batches of {self.batch}" if self.batch else ""
        return f"{self.package} ({self.language}), prefetch {self.prefetch}{batch}"


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
        if not standins.processes.alive("peer"):
            raise RuntimeError(f"{peer} has ended: " + standins.processes.tail("peer"))
        return standins.reading() and standins.read() > 0

    try:
        eventually(f"{peer} reads", warm, 60)
        time.sleep(WARM_SECONDS)
        return stretch(standins, pid, [standins.hub_pid], standins.read)
    finally:
        standins.processes.end("peer")
