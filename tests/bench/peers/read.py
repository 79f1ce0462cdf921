"""Merely reads the stream with Microsoft's Python client, until it is ended.

read.py CONNECTION-STRING-FILE GROUP PARTITIONS PREFETCH BATCH [CA]
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from azure.eventhub import EventHubConsumerClient


def main() -> None:
    string, group, partitions, prefetch, batch = sys.argv[1:6]
    trust = {"connection_verify": sys.argv[6]} if len(sys.argv) > 6 else {}
    last: dict[str, int] = {}

    def read(partition: str) -> None:
        client = EventHubConsumerClient.from_connection_string(
            Path(string).read_text(), consumer_group=group, **trust)

        def taken(context, events) -> None:
            if events:
                last[context.partition_id] = events[-1].sequence_number

        client.receive_batch(taken, partition_id=partition, starting_position="-1", prefetch=int(prefetch),
                             max_batch_size=int(batch), max_wait_time=1)

    threads = [threading.Thread(target=read, args=(str(one),), daemon=True) for one in range(int(partitions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
