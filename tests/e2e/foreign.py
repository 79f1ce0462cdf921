"""Another program that reads the connector's consumer group: Microsoft's own reader, with an owner level."""

from __future__ import annotations

import threading
from pathlib import Path

from azure.eventhub import EventHubConsumerClient

# Above the connector's epochs, which begin at Unix seconds.
OWNER_LEVEL = 1 << 40


class ForeignReader:
    """Reads one partition in a thread of its own until `close`."""

    def __init__(self, events: str, ca: Path, partition: str, group: str = "thingworx"):
        self.client = EventHubConsumerClient.from_connection_string(events, group, connection_verify=str(ca))
        self.read = 0
        self.thread = threading.Thread(target=self._run, args=(partition,), daemon=True)
        self.thread.start()

    def _run(self, partition: str) -> None:
        self.client.receive(self._take, partition_id=partition, owner_level=OWNER_LEVEL, starting_position="@latest")

    def _take(self, _, event) -> None:
        self.read += event is not None

    def close(self) -> None:
        self.client.close()
        self.thread.join(30)
