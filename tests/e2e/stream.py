"""A steady stream of numbered messages while something goes wrong, and what of it has arrived."""

from __future__ import annotations

from cluster import eventually
from fleet import Fleet
from thingworx import Arrivals, Thingworx

# Messages a second, of all devices together: some per device while a link is down, few enough for a machine that
# builds something else meanwhile.
RATE = 120


class Stream:
    """Numbered messages from every device, `count` each or until `end`; counts these and no others.

    It is there once the first has arrived from each device.
    """

    def __init__(self, thingworx: Thingworx, fleet: Fleet, count: int | None = None, rate: float = RATE):
        self.thingworx, self.devices = thingworx, fleet.devices
        self.first = {name: device.sent for name, device in self.devices.items()}
        self.cursor = thingworx.taken()
        self.entries: list[dict] = []
        # Values of messages from before the stream: they had arrived then, and are here again.
        self.older = 0
        self.sending = fleet.telemetry(count, rate)
        eventually("the stream has begun to arrive from each device",
                   lambda: all(self.highest().get(name, -1) >= 0 for name in self.devices), 60)

    # ---- looking ----

    def counted(self) -> list[dict]:
        """The stream's entries in the platform's log, numbered from 0."""
        new, self.cursor = self.thingworx.values_from(self.cursor)
        for entry in new:
            if entry["property"] == "seq" and entry["thing"] in self.first:
                number = int(entry["value"]) - self.first[entry["thing"]]
                self.older += number < 0
                if number >= 0:
                    self.entries.append({**entry, "value": number})
        return self.entries

    def counts(self) -> Arrivals:
        sent = {name: device.sent - self.first[name] for name, device in self.devices.items()}
        result = Arrivals.of(self.counted(), sent)
        result.twice += self.older
        return result

    def highest(self, not_by: str = "\n", after: int = 0) -> dict[str, int]:
        """Device → highest number that has arrived, by others than one pod, after an entry of the log."""
        result: dict[str, int] = {}
        for entry in self.counted()[after:]:
            if f"-{not_by}-" not in entry["gateway"]:
                result[entry["thing"]] = max(result.get(entry["thing"], -1), entry["value"])
        return result

    def here(self) -> int:
        """The place in the log where it ends now."""
        return len(self.counted())

    def old_writes(self, pod: str, after: int) -> int:
        """Values that a pod has written, after a place in the log, behind what another pod had written before."""
        others: dict[str, int] = {}
        old = 0
        for place, entry in enumerate(self.counted()):
            if f"-{pod}-" not in entry["gateway"]:
                others[entry["thing"]] = max(others.get(entry["thing"], -1), entry["value"])
            elif place >= after and entry["value"] < others.get(entry["thing"], -1):
                old += 1
        return old

    # ---- waiting ----

    def goes_on(self, messages: int = 60, seconds: float = 90) -> None:
        """Waits until so many more messages, sent from now on, have arrived from each device."""
        wanted = {name: device.sent - self.first[name] + messages for name, device in self.devices.items()}
        eventually(f"{messages} more messages have arrived from each device", lambda: all(
            self.highest().get(name, -1) >= number for name, number in wanted.items()), seconds)

    def sent(self) -> None:
        """Waits until all are with the hub."""
        self.sending.wait(120)

    def end(self, most_twice: int | None = None, seconds: float = 90) -> Arrivals:
        """Ends the stream and waits until everything sent has arrived; tells the counts.

        `most_twice`: how many messages the design allows to arrive twice.
        """
        if self.sending.count is None:
            self.sending.stop()
        self.sent()
        try:
            eventually("every message has arrived", lambda: self.counts().lost == 0, seconds)
        finally:
            got = self.counts()
            allowed = "" if most_twice is None else f" (allowed {most_twice})"
            told(f"sent {self.sending.acknowledged}, lost {got.lost}, twice {got.twice}{allowed}, "
                 f"out of order {got.out_of_order}, longest pause {got.pause:.1f} s")
        assert got.out_of_order == 0, f"{got.out_of_order} first arrivals are out of order"
        if most_twice is not None:
            assert got.twice <= most_twice, f"{got.twice} messages arrived twice; {most_twice} may"
        return got


# What the running scenario has to tell of itself; shown when it ends, whichever process runs it.
TOLD: list[str] = []


def told(text: str) -> None:
    """A line about the running scenario."""
    TOLD.append(text)
