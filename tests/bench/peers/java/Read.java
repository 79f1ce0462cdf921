import com.azure.core.util.ConfigurationBuilder;
import com.azure.messaging.eventhubs.EventHubClientBuilder;
import com.azure.messaging.eventhubs.EventHubConsumerAsyncClient;
import com.azure.messaging.eventhubs.models.EventPosition;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLongArray;

/**
 * Merely reads the stream with Microsoft's Java client (asynchronous, its newer stack), until it is ended.
 *
 * <p>Read CONNECTION-STRING-FILE GROUP PARTITIONS PREFETCH
 */
public final class Read {
    private Read() {}

    public static void main(String[] args) throws Exception {
        int partitions = Integer.parseInt(args[2]);
        EventHubConsumerAsyncClient client = new EventHubClientBuilder()
            .connectionString(Files.readString(Path.of(args[0])))
            .consumerGroup(args[1])
            .prefetchCount(Integer.parseInt(args[3]))
            .configuration(new ConfigurationBuilder()
                .putProperty("com.azure.messaging.eventhubs.v2", "true")
                .putProperty("com.azure.core.amqp.cache", "true")
                .build())
            .buildAsyncConsumerClient();
        AtomicLongArray last = new AtomicLongArray(partitions);
        for (int partition = 0; partition < partitions; partition++) {
            int at = partition;
            client.receiveFromPartition(Integer.toString(partition), EventPosition.earliest())
                .subscribe(
                    event -> last.lazySet(at, event.getData().getSequenceNumber()),
                    error -> {
                        error.printStackTrace();
                        System.exit(1);
                    });
        }
        new CountDownLatch(1).await();
    }
}
