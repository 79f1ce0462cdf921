"""The stand-in hub's control face: registers devices, tells what they received, switches faults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import requests

TIMEOUT = 30
# Longer than any scenario, in seconds: faults last until they are ended.
LASTING = 3600


class Hub:
    """A client of the stand-in's control face."""

    def __init__(self, url: str, host: str):
        self.url = url
        self.host = host
        self.http = requests.Session()

    def _json(self, method: str, path: str, **arguments):
        answer = self.http.request(method, self.url + path, timeout=TIMEOUT, **arguments)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def ready(self) -> bool:
        """Whether it takes requests; raises while there is nobody to ask."""
        # Each time by a connection of its own: before a Service has its rules, its address leads elsewhere, and
        # whoever answers there would be asked for ever.
        self.http.get(self.url + "/partitions", timeout=2, headers={"Connection": "close"}).raise_for_status()
        return True

    def register(self, names: list[str]) -> dict[str, str]:
        """Registers devices; name → connection string."""
        made = self._json("POST", "/devices", json={"devices": names})
        return {
            one["deviceId"]: f"HostName={self.host};DeviceId={one['deviceId']};SharedAccessKey={one['key']}"
            for one in made["devices"]
        }

    def register_module(self, device: str, module: str) -> str:
        """Registers a module of a device; its connection string."""
        [made] = self._json("POST", "/devices", json={"devices": [device], "module": module})["devices"]
        return f"HostName={self.host};DeviceId={device};ModuleId={module};SharedAccessKey={made['key']}"

    def devices(self) -> set[str]:
        """All that are registered."""
        return {one["deviceId"] for one in self._json("GET", "/devices")["devices"]}

    def partitions(self) -> list[dict]:
        return self._json("GET", "/partitions")["partitions"]

    def newest(self) -> dict[str, int]:
        """Partition → sequence number of its newest event; -1 if there has been none."""
        return {one["id"]: one["last"]["sequence"] if one["last"] else -1 for one in self.partitions()}

    def connections(self) -> dict[str, int]:
        """How many are open at each face; one in a WebSocket counts at `https` as well."""
        return self._json("GET", "/connections")

    def entity(self) -> str:
        """Event Hubs-compatible name, which changes with each fail-over."""
        return self._json("GET", "/partitions")["entity"]

    def limit(self, **limits) -> None:
        """In place of the limits before; with none there are none."""
        if limits:
            self._json("PUT", "/limits", json=limits)
        else:
            self._json("DELETE", "/limits")

    def operations(self, kind: str) -> tuple[int, int]:
        """How many of a kind were let through and how many refused as too many, since the start."""
        count = self._json("GET", "/operations")[kind]
        return count["accepted"], count["refused"]

    def lost(self, kind: str) -> int:
        """How many of a kind were carried out without an answer, since the start."""
        return self._json("GET", "/operations")[kind]["lost"]

    def fault(self, **fault) -> None:
        self._json("POST", "/faults", json=fault)

    @contextlib.contextmanager
    def ill(self, **fault) -> Iterator[None]:
        """A fault that has a time lasts meanwhile; others that have one end with it."""
        self.fault(**fault, seconds=LASTING)
        try:
            yield
        finally:
            self.fault(fault="clear")
