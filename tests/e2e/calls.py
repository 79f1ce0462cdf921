"""A steady stream of numbered writes and calls while pods come and go, counted at the caller and at the devices."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from fleet import Fleet
from thingworx import Answer, Thingworx, device_thing

# A method lasts so long at most, in seconds.
LONGEST = 8


@dataclass
class Count:
    """What became of them."""

    made: int
    failed: list[str]
    lost: int
    twice: int


def thing(hub: str) -> dict:
    """A device with a method that lasts as long as it is told."""
    made = device_thing(hub)
    return made | {"services": made["services"] | {"run": {"inputs": {"seconds": "NUMBER", "text": "STRING"}}}}


class Calls:
    """Half of them are property writes, half methods of 0 to 8 s; `rate` a second of all devices together."""

    def __init__(self, thingworx: Thingworx, fleet: Fleet, rate: float, seed: int = 1):
        self.thingworx, self.fleet, self.rate = thingworx, fleet, rate
        self.names = sorted(fleet.devices)
        self.before = fleet.had()
        self.dice = random.Random(seed)
        # As many as are under way at a time, and some.
        self.pool = ThreadPoolExecutor(int(rate * (LONGEST / 4 + 1)) + 16)
        self.made: list[Future[Answer]] = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        due = time.monotonic()
        while not self.stopped.is_set():
            number = len(self.made)
            self.made.append(self.pool.submit(self._one, number, self.dice.uniform(0, LONGEST)))
            due += 1 / self.rate
            time.sleep(max(0.0, due - time.monotonic()))

    def _one(self, number: int, seconds: float) -> Answer:
        name = self.names[number // 2 % len(self.names)]
        if number % 2:
            return self.thingworx.write(name, "setpoint", number)
        return self.thingworx.call(name, "run", seconds=seconds, text=str(number))

    def end(self) -> Count:
        """Ends the stream and counts."""
        self.stopped.set()
        self.thread.join(30)
        answers = [one.result(60) for one in self.made]
        self.pool.shutdown()
        messages, methods = self._received()
        got = [one["body"]["setpoint"] for one in messages] + [int(one["payload"]["text"]) for one in methods]
        failed = [answer.text for answer in answers if not answer.ok]
        return Count(len(answers), failed, len(answers) - len(set(got)), len(got) - len(set(got)))

    def _received(self) -> tuple[list[dict], list[dict]]:
        """Messages are answered when the hub has them: the last are with the devices a moment later."""
        last: tuple[list[dict], list[dict]] = ([], [])
        for _ in range(20):
            now = self.fleet.received(self.before)
            if sum(map(len, now)) == sum(map(len, last)) and sum(map(len, now)) >= len(self.made):
                return now
            last = now
            time.sleep(0.5)
        return last
