// Merely reads the stream with Microsoft's JavaScript client, until it is ended.
//
// read.js CONNECTION-STRING-FILE GROUP PREFETCH BATCH
import { readFileSync } from "node:fs";
import { EventHubConsumerClient, earliestEventPosition } from "@azure/event-hubs";

const [file, group, prefetch, batch] = process.argv.slice(2);
const client = new EventHubConsumerClient(group, readFileSync(file, "utf8"));
const last = new Map();
client.subscribe(
  {
    async processEvents(events, context) {
      if (events.length > 0) last.set(context.partitionId, events[events.length - 1].sequenceNumber);
    },
    async processError(error) {
      console.error(error);
    },
  },
  {
    startPosition: earliestEventPosition,
    maxBatchSize: Number(batch),
    maxWaitTimeInSeconds: 1,
    prefetchCount: Number(prefetch),
  },
);
