"""What a user of the platform does, and what a test wants to know of it: the stand-in's REST face."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import requests
from requests.adapters import HTTPAdapter

# Longer than the platform's own time-out for a request to an edge (30 s).
TIMEOUT = 40


@dataclass
class Answer:
    """The answer to a write or a call."""

    ok: bool
    text: str
    body: object = None
    rows: list[dict] = field(default_factory=list)


class Thingworx:
    """A client of the stand-in's REST face."""

    def __init__(self, url: str, app_key: str):
        self.url = url
        self.http = requests.Session()
        self.http.headers["appKey"] = app_key
        self.http.mount("http://", HTTPAdapter(pool_maxsize=64))
        self.cursor = 0

    def _json(self, method: str, path: str, **arguments):
        answer = self.http.request(method, self.url + path, timeout=TIMEOUT, **arguments)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def ready(self) -> bool:
        """Whether a node takes requests; raises while there is nobody to ask."""
        # Each time by a connection of its own: before a Service has its rules, its address leads elsewhere, and
        # whoever answers there would be asked for ever.
        self.http.get(self.url + "/Thingworx/ready", timeout=2, headers={"Connection": "close"}).raise_for_status()
        return True

    # ---- the model ----

    def define(self, things: dict) -> None:
        self._json("PUT", "/standin/things", json=things)

    def thing(self, name: str) -> dict:
        return self._json("GET", f"/Thingworx/Things/{name}")

    def things(self) -> list[str]:
        return self._json("GET", "/standin/things")

    def derive(self, template: str) -> None:
        """Makes a template of `AzureIotThing`."""
        self._json("PUT", f"/standin/templates/{template}")

    def census(self) -> list[dict]:
        """How many Things there are of each template, enabled or not, and of each gateway."""
        return self._json("GET", "/standin/census")

    def value(self, thing: str, name: str):
        return self.thing(thing)["values"].get(name)

    # ---- rights ----

    def rights(self) -> set[str]:
        """What the connector's user may do."""
        return set(self._json("GET", "/standin/rights"))

    def grant(self, rights: set[str]) -> None:
        """In place of the rights before."""
        self._json("PUT", "/standin/rights", json=sorted(rights))

    def hold(self, name: str) -> None:
        """A client of which nothing else is known binds a name on every node."""
        self._json("PUT", f"/standin/foreign/{name}")

    def let_go(self, name: str) -> None:
        self._json("DELETE", f"/standin/foreign/{name}")

    # ---- requests to devices ----

    def write(self, thing: str, name: str, value) -> Answer:
        path = f"{self.url}/Thingworx/Things/{thing}/Properties/{name}"
        answer = self.http.put(path, json={name: value}, timeout=TIMEOUT)
        return Answer(answer.ok, answer.text)

    def call(self, thing: str, service: str, **inputs) -> Answer:
        path = f"{self.url}/Thingworx/Things/{thing}/Services/{service}"
        answer = self.http.post(path, json=inputs, timeout=TIMEOUT)
        if not answer.ok:
            return Answer(False, answer.text)
        table = answer.json()
        rows = table["rows"] if table else []
        return Answer(True, answer.text, rows[0].get("result") if rows else None, rows)

    def read(self, thing: str, name: str) -> Answer:
        """Reads a property from the edge, not the value that the platform has."""
        answer = self.http.get(f"{self.url}/standin/remote/{thing}/{name}", timeout=TIMEOUT)
        if not answer.ok:
            return Answer(False, answer.text)
        return Answer(True, answer.text, answer.json()["rows"][0][name])

    def service(self, name: str, **inputs) -> Answer:
        """Calls one of the connector's services on `ConnectionServicesHub`."""
        return self.call("ConnectionServicesHub", name, **inputs)

    def many(self, requests_: list, at_once: int = 16) -> list[Answer]:
        """Does many writes or calls, `at_once` at a time, in the order of the list."""
        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(lambda request: request(), requests_))

    # ---- logs ----

    def _log(self, which: str, after: int) -> tuple[list[dict], int]:
        entries: list[dict] = []
        while True:
            page = self._json("GET", f"/standin/log/{which}?after={after}")
            assert page["dropped"] == 0, f"the platform's log of {which} is full"
            entries += page["entries"]
            after = page["next"]
            if after >= page["total"]:
                return entries, after

    def values_from(self, after: int) -> tuple[list[dict], int]:
        """Values taken from a place in the log on, and the place where it ends now."""
        return self._log("values", after)

    def taken(self) -> int:
        """The place where the log of values ends now."""
        return self._json("GET", "/standin/log/values?limit=0")["total"]

    def values(self, after: int = 0) -> list[dict]:
        return self._log("values", after)[0]

    def new_values(self) -> list[dict]:
        entries, self.cursor = self._log("values", self.cursor)
        return entries

    def draws(self, after: int = 0) -> list[dict]:
        return self._log("draws", after)[0]

    def events(self) -> list[dict]:
        return self._log("events", 0)[0]

    def import_ended(self, made: str) -> dict | None:
        """What was told of an import's end: the last, since whoever goes on after another may tell it again."""
        rows = [one["data"]["rows"][0] for one in self.events() if one["event"] == "AzureThingImportStatusEvent"]
        return next((row for row in reversed(rows) if row["importId"] == made), None)

    def endpoints(self) -> list[dict]:
        return self._json("GET", "/standin/endpoints")

    def binders(self, name: str) -> dict[int, set[str]]:
        """Node → gateway Things of the endpoints that have bound this name."""
        return {
            node["node"]: {
                endpoint["gateway"] for endpoint in node["endpoints"] if name in endpoint["bound"]
            }
            for node in self.endpoints()
        }

    # ---- switches ----

    def fault(self, **fault) -> None:
        self._json("POST", "/standin/faults", json=fault)

    @contextlib.contextmanager
    def ill(self, **fault) -> Iterator[None]:
        """A fault that is on or off lasts meanwhile."""
        self.fault(**fault, on=True)
        try:
            yield
        finally:
            self.fault(**fault, on=False)

    def revoke(self, key: str) -> None:
        self._json("DELETE", f"/standin/keys/{key}")

    def allow(self, key: str) -> None:
        self._json("PUT", f"/standin/keys/{key}")


def hub_thing(routing_group=..., **more) -> dict:
    """The Thing that stands for the hub; `routing_group` as its configuration says."""
    configuration = {} if routing_group is ... else {"routingGroup": routing_group}
    return {"template": "AzureIotHubTemplate", "configuration": configuration, **more}


def device_thing(hub: str) -> dict:
    """A device with a property of every base type that telemetry can have, and one remote service."""
    types = {
        "seq": "INTEGER", "temperature": "NUMBER", "name": "STRING", "count": "LONG", "on": "BOOLEAN",
        "at": "DATETIME", "place": "LOCATION", "state": "JSON", "setpoint": "INTEGER", "note": "TEXT",
        "tags": "TAGS", "picture": "IMAGE", "point": "VEC3", "table": "INFOTABLE", "online": "BOOLEAN",
        "twinReported": "JSON", "twinDesired": "JSON", "twinTags": "JSON",
    }
    return {
        "template": "AzureIotThing",
        "gatewayThing": hub,
        "properties": {name: {"baseType": base, "remote": {}} for name, base in types.items()},
        "services": {"echo": {"inputs": {"text": "STRING"}}},
    }


@dataclass
class Arrivals:
    """What of a numbered sequence has arrived on the platform."""

    lost: int = 0
    twice: int = 0
    out_of_order: int = 0
    # Values behind a higher one of the same Thing, be they arrivals of what had been there before.
    inversions: int = 0
    # The longest time in seconds that any Thing was without a new message.
    pause: float = 0.0
    by_pod: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of(values: list[dict], sent: dict[str, int], name: str = "seq") -> Arrivals:
        """`sent` tells how many were sent by each device, numbered from 0. Order is that of first arrivals.

        A device that lost its connection sends again what the hub had taken already: the hub has that message
        twice, at different times. Only one of the same time has arrived twice.
        """
        result = Arrivals()
        seen: dict[str, list[tuple[int, int]]] = {thing: [] for thing in sent}
        newest: dict[str, tuple[int, int]] = {}
        for entry in values:
            if entry["property"] != name or entry["thing"] not in seen:
                continue
            number = int(entry["value"])
            seen[entry["thing"]].append((number, entry["timeMs"]))
            highest, at = newest.get(entry["thing"], (-1, entry["takenMs"]))
            if number > highest:
                result.pause = max(result.pause, (entry["takenMs"] - at) / 1000)
                newest[entry["thing"]] = (number, entry["takenMs"])
            elif number < highest:
                result.inversions += 1
            pod = entry["gateway"]
            result.by_pod[pod] = result.by_pod.get(pod, 0) + 1
        for thing, count in sent.items():
            first = list(dict.fromkeys(number for number, _ in seen[thing]))
            result.lost += count - len(set(first) & set(range(count)))
            result.twice += len(seen[thing]) - len(set(seen[thing]))
            result.out_of_order += sum(1 for a, b in zip(first, first[1:]) if b < a)
        return result
