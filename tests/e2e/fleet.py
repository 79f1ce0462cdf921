"""Devices: every one is a client of Microsoft's device SDK, with a connection of its own."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from azure.iot.device import Message, MethodResponse
from azure.iot.device.aio import IoTHubDeviceClient, IoTHubModuleClient

# Connections that are being made at the same time: a handshake each, on a small machine.
CONNECTING = 4


@dataclass
class Device:
    """A device or a module, and what it has received."""

    name: str
    client: IoTHubDeviceClient | IoTHubModuleClient
    sent: int = 0
    messages: list[dict] = field(default_factory=list)
    methods: list[dict] = field(default_factory=list)


class Fleet:
    """Runs devices in a thread of their own until `close`."""

    def __init__(self, connection_strings: dict[str, str], ca: str):
        self.ca = ca
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="fleet", daemon=True)
        self.thread.start()
        self.devices: dict[str, Device] = {}
        self.sending: Telemetry | None = None
        # A numbered message → its body.
        self.body: Callable[[int], dict] = lambda number: {"seq": number, "temperature": 20 + number % 100 / 10}
        self._run(self._connect(connection_strings), 120)

    def _run(self, work, timeout: float):
        running = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return running.result(timeout)
        finally:
            running.cancel()

    async def _insist(self, ask: Callable[[], Awaitable], seconds: float = 10):
        """Asks until there is an answer: what is under way when its connection drops, the SDK never answers."""
        while True:
            try:
                return await asyncio.wait_for(ask(), seconds)
            except Exception:  # noqa: BLE001 - whatever the SDK raises, there is no answer yet
                await asyncio.sleep(0.5)

    async def _connect(self, connection_strings: dict[str, str]) -> None:
        turn = asyncio.Semaphore(CONNECTING)

        async def one(name: str, text: str) -> None:
            device = self.devices[name] = Device(name, self._client(IoTHubDeviceClient, text))
            # The SDK awaits a handler only if it can see that it is a coroutine function.
            device.client.on_message_received = partial(self._message, device)
            device.client.on_method_request_received = partial(self._method, device)
            async with turn:
                await self._insist(device.client.connect, 40)

        await asyncio.gather(*(one(name, text) for name, text in connection_strings.items()))

    def _client(self, kind: type, connection_string: str):
        return kind.create_from_connection_string(
            connection_string, server_verification_cert=self.ca, connection_retry_interval=1)

    def module(self, name: str, connection_string: str) -> None:
        """Connects a module; from then on it is one of the devices, by this name."""
        async def connect() -> None:
            module = self.devices[name] = Device(name, self._client(IoTHubModuleClient, connection_string))
            module.client.on_method_request_received = partial(self._method, module)
            await module.client.connect()

        self._run(connect(), 30)

    async def _message(self, device: Device, message: Message) -> None:
        device.messages.append({"id": message.message_id, "body": json.loads(message.data)})

    async def _method(self, device: Device, request) -> None:
        device.methods.append({"name": request.name, "payload": request.payload})
        payload = request.payload if isinstance(request.payload, dict) else {}
        # As the caller wishes: how long it takes, with which status, and what comes back.
        await asyncio.sleep(payload.get("seconds", 0))
        answer = MethodResponse.create_from_method_request(
            request, payload.get("status", 200), payload.get("answer", payload.get("text")))
        await device.client.send_method_response(answer)

    def send(self, device: str, body: dict | str | bytes, content_type: str = "application/json",
             encoding: str = "utf-8", *, message_id: str = "", **properties: str) -> None:
        """Sends one message and waits until the hub has taken it."""
        self._run(self._send(self.devices[device], body, content_type, encoding, properties, message_id), 30)

    async def _send(self, device: Device, body: dict | str | bytes, content_type: str = "application/json",
                    encoding: str = "utf-8", properties: dict[str, str] | None = None, message_id: str = "") -> None:
        message = Message(json.dumps(body) if isinstance(body, dict) else body)
        message.message_id = message_id or None
        message.content_type, message.content_encoding = content_type, encoding or None
        message.custom_properties.update(properties or {})
        await device.client.send_message(message)

    def report(self, device: str, patch: dict) -> None:
        """Reports twin properties and waits until the hub has taken them."""
        client = self.devices[device].client
        self._run(self._insist(lambda: client.patch_twin_reported_properties(patch)), 60)

    def twin(self, device: str) -> dict:
        """What the device sees of its twin."""
        return self._run(self._insist(self.devices[device].client.get_twin), 60)

    def telemetry(self, count: int | None, rate: float) -> Telemetry:
        """Begins to send `count` numbered messages from each device, or until `stop`, `rate` a second altogether."""
        if self.sending and self.sending.running():
            # Left by a scenario that has failed: two at once would number their messages alike.
            self.sending.stop()
            self.sending.wait(60)
        self.sending = Telemetry(self, count, rate)
        return self.sending

    def had(self) -> dict[str, tuple[int, int]]:
        """How many messages and methods each device has received so far."""
        return {one.name: (len(one.messages), len(one.methods)) for one in self.devices.values()}

    def received(self, since: dict[str, tuple[int, int]] | None = None) -> tuple[list[dict], list[dict]]:
        """All messages and methods that devices have received so far, or since they `had` so many."""
        devices = [(one, *(since or {}).get(one.name, (0, 0))) for one in self.devices.values()]
        messages = [{"device": one.name, **message} for one, had, _ in devices for message in one.messages[had:]]
        methods = [{"device": one.name, **method} for one, _, had in devices for method in one.methods[had:]]
        return messages, methods

    def close(self) -> None:
        async def close() -> None:
            await asyncio.gather(*(one.client.shutdown() for one in self.devices.values()))

        self._run(close(), 60)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


class Telemetry:
    """Numbered messages on their way: property `seq` counts from where the device has got to."""

    def __init__(self, fleet: Fleet, count: int | None, rate: float):
        self.fleet = fleet
        self.count = count
        self.total = (count or 0) * len(fleet.devices)
        self.acknowledged = 0
        self.stopped = False
        self.began = time.monotonic()
        interval = len(fleet.devices) / rate
        self.done = asyncio.run_coroutine_threadsafe(self._all(interval), fleet.loop)

    async def _all(self, interval: float) -> None:
        await asyncio.gather(*(self._one(device, interval) for device in self.fleet.devices.values()))

    async def _one(self, device: Device, interval: float) -> None:
        due = time.monotonic()
        last = None if self.count is None else device.sent + self.count
        while device.sent != last and not self.stopped:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += interval
            # A message is sent again until the hub has taken it, always before the next.
            while True:
                try:
                    await asyncio.wait_for(self.fleet._send(device, self.fleet.body(device.sent)), 20)
                    break
                except Exception:  # noqa: BLE001 - whatever the SDK raises, the message is not there yet
                    await asyncio.sleep(0.5)
            device.sent += 1
            self.acknowledged += 1

    def stop(self) -> None:
        """No further message is begun."""
        self.stopped = True

    def running(self) -> bool:
        return not self.done.done()

    def wait(self, timeout: float) -> None:
        self.done.result(timeout)
