"""Messages that can never be written, and their letters."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cluster import eventually
from fleet import Fleet
from stream import Stream

# What no message may do: hold up others, pass in silence, or be taken for another. Each is one ProtocolError.
# Name → body and content encoding.
POISON = {
    "not JSON": (b"no JSON", ""),
    "256 KB": (b"x" * (255 << 10), ""),
    "deep nesting": (b'{"state": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", ""),
    "wrong types": (b'{"temperature": "warm", "at": true}', ""),
    "invalid UTF-8": (b'{"name": "\xff\xfe"}', ""),
    "gzip bomb": (gzip.compress(b" " * (64 << 20)), "gzip"),
    "no gzip at all": (b"{}", "gzip"),
}

# How long letters cannot be stored at least, in seconds: longer than one is tried.
GONE = 25


@dataclass
class Poisoner:
    """Sends bad messages among good ones, each with an id of its own, and knows what their letters must say."""

    fleet: Fleet
    stream: Stream
    # Id → body.
    sent: dict[str, bytes] = field(default_factory=dict)

    def round(self, good: int = 10) -> None:
        """One of each kind; each waits for so many good ones."""
        for body, encoding in POISON.values():
            before = self.stream.sending.acknowledged
            number = len(self.sent)
            device = f"dev-{number % len(self.fleet.devices)}"
            identity = f"poison-{number}"
            self.fleet.send(device, body, encoding=encoding, message_id=identity, number=str(number))
            self.sent[identity] = body
            eventually("good messages are sent meanwhile",
                       lambda: self.stream.sending.acknowledged >= before + good, 30)

    def rounds(self, lost: Callable[[], int]) -> None:
        """Rounds while letters cannot be stored: for a while, and until some are given up, which `lost` counts.

        Good messages go on, at least once without any letter being given up meanwhile: nothing waits for letters.
        """
        begun, first, flowed = time.monotonic(), lost(), False
        while not flowed or lost() == first or time.monotonic() - begun < GONE:
            assert time.monotonic() - begun < 10 * GONE, "messages wait for letters" if not flowed else "none is given up"
            self.round()
            before = lost()
            self.stream.goes_on(10)
            flowed |= lost() == before

    def check(self, letters: list[dict]) -> set[str]:
        """Letters say what was sent; gives the ids of those that are there."""
        for letter in letters:
            assert letter["messageId"] in self.sent, f"a good message has a letter: {letter}"
            assert body(letter) == self.sent[letter["messageId"]]
            assert [why["reason"] for why in letter["why"]] == ["protocol"], letter["why"]
            assert letter["device"] == letter["thing"] == f"dev-{int(letter['properties']['number']) % len(self.fleet.devices)}"
            assert letter["connector"].startswith("AzureIot-")
        return {letter["messageId"] for letter in letters}


def body(letter: dict) -> bytes:
    """The body as the device has sent it."""
    if "bodyBase64" in letter:
        return base64.b64decode(letter["bodyBase64"])
    return letter["body"].encode()


def lines(text: str) -> list[dict]:
    """Letters; half of one, which is being written or which a kill has left, is none."""
    letters = []
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            letters.append(json.loads(line))
    return letters
