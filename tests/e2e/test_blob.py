"""Checkpoints in Azure Storage: where KEDA reads them, and nothing lost by it. Storage is Microsoft's Azurite."""

from __future__ import annotations

import base64
import secrets
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import machine
import pytest
from azure.core.exceptions import AzureError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient, generate_container_sas
from cluster import eventually
from fleet import Fleet
from poison import Poisoner, lines
from process import CONNECTOR, Bench
from stream import Stream, told

NETWORK = "127.0.77"
DEVICES = 4
ROOT = Path(__file__).resolve().parents[2]
AZURITE = "azurite-blob"
ACCOUNT, CONTAINER, LETTERS = "plant7", "thingworx-checkpoints", "thingworx-dead-letters"


class Storage:
    """A storage account, and what another program finds in its container."""

    def __init__(self, bench: Bench):
        self.bench = bench
        key = base64.b64encode(secrets.token_bytes(32)).decode()
        endpoint = f"https://{bench.storage}:10000/{ACCOUNT}"
        program = subprocess.run([ROOT / "tests" / "azurite"], check=True, capture_output=True, text=True).stdout
        # Microsoft's libraries are sometimes newer than its Azurite.
        bench.start(program.strip(), "--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent",
                    "--blobHost", bench.storage, "--blobPort", 10000,
                    "--cert", bench.folder / "tls.crt", "--key", bench.folder / "tls.key",
                    name=AZURITE, AZURITE_ACCOUNTS=f"{ACCOUNT}:{key}")
        (bench.folder / "storage").write_text(f"AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={endpoint}")
        wrong = base64.b64encode(secrets.token_bytes(32)).decode()
        (bench.folder / "denied").write_text(f"AccountName={ACCOUNT};AccountKey={wrong};BlobEndpoint={endpoint}")
        signature = generate_container_sas(
            ACCOUNT, CONTAINER, account_key=key, permission="rcw", expiry=datetime.now(UTC) + timedelta(hours=1))
        (bench.folder / "signature").write_text(f"BlobEndpoint={endpoint};SharedAccessSignature={signature}")
        self.hidden = [key, wrong, signature]
        service = BlobServiceClient(endpoint, {"account_name": ACCOUNT, "account_key": key},
                                    retry_total=3, retry_backoff_factor=0.2, connection_verify=str(bench.folder / "ca.crt"))
        self.container = service.get_container_client(CONTAINER)
        self.letters = service.get_container_client(LETTERS)
        eventually("storage answers", self.answers, 60)

    def answers(self) -> bool:
        try:
            return self.container.exists() is not None
        except AzureError:
            return False

    def settings(self, secret: str = "storage") -> str:
        return f"{{azureBlob: {{container: {CONTAINER}, connectionString: {{file: {self.bench.folder}/{secret}}}}}}}"

    def dead_letters(self) -> list[dict]:
        found = []
        for blob in self.letters.list_blobs(name_starts_with=f"{self.bench.hub_host}/2"):
            assert blob.name.count("/") == 5 and blob.name.endswith(".jsonl"), blob.name
            found += lines(self.letters.download_blob(blob.name).readall().decode())
        return found

    def metadata(self, partition: str) -> dict[str, str]:
        """What KEDA's `blobMetadata` reads: pkg/scalers/azure/azure_eventhub_checkpoint.go."""
        blob = f"{self.bench.events_host}/telemetry/thingworx/checkpoint/{partition}"
        try:
            return self.container.get_blob_client(blob).get_blob_properties().metadata
        except ResourceNotFoundError:
            return {}

    def behind(self) -> int:
        """What KEDA makes of it: events after the checkpoint, over all partitions."""
        last = {one["id"]: one["last"]["sequence"] for one in self.bench.hub.partitions() if one["last"]}
        assert last, "nothing was sent"
        return sum(sequence - int(self.metadata(partition)["sequencenumber"]) for partition, sequence in last.items())


@pytest.fixture(scope="module")
def storage(bench: Bench) -> Storage:
    return Storage(bench)


@pytest.fixture
def running(bench: Bench, storage: Storage, devices: Fleet) -> Fleet:
    """A connector that is ready and has its checkpoints in storage, whatever became of the one before."""
    if not storage.container.exists():
        storage.container.create_container()
    bench.serving(checkpoints=storage.settings())
    return devices


def stored(bench: Bench, storage: Storage) -> int:
    """How far the checkpoints are, all together."""
    return sum(int(storage.metadata(one["id"]).get("sequencenumber", -1)) for one in bench.hub.partitions())


def test_a_missing_container_and_a_wrong_key_are_told_and_what_is_mended_is_noticed(bench: Bench, storage: Storage):
    bench.connector(checkpoints=storage.settings("denied"))
    eventually("the refusal is told", lambda: "CheckpointStoreDenied" in bench.unready(), 40)
    assert bench.end() == 0
    bench.connector(checkpoints=storage.settings())
    eventually("the missing container is told", lambda: "CheckpointStoreNotFound" in bench.unready(), 40)
    storage.container.create_container()
    eventually("the connector is ready", bench.ready, 60)


def test_checkpoints_lie_where_keda_reads_them_and_reach_the_newest_event(
    bench: Bench, storage: Storage, running: Fleet
):
    for name in running.devices:
        running.send(name, {"name": "checkpoint"})
    eventually("all checkpoints are at the newest event", lambda: storage.behind() == 0, 40)
    for partition in bench.hub.partitions():
        # A blob for each partition, also for one without events: its absence would be all of the hub's backlog.
        found = storage.metadata(partition["id"])
        assert found["owner"].startswith("AzureIot-") and int(found["epoch"]) > 0, found
        if partition["last"]:
            assert found["offset"] == str(partition["last"]["offset"]), found
        else:
            assert found["sequencenumber"] == "-1", found


def test_killed_in_a_stream_and_started_again_nothing_is_lost_and_it_goes_on_at_the_checkpoint(
    bench: Bench, storage: Storage, running: Fleet
):
    stream = Stream(bench.thingworx, running, rate=80)
    before = stored(bench, storage)
    eventually("a checkpoint is stored in the stream", lambda: stored(bench, storage) > before, 30)
    bench.end(how=signal.SIGKILL)
    # All that is written twice is what was written after the last checkpoint.
    left = storage.behind()
    bench.connector(checkpoints=storage.settings())
    stream.goes_on()
    stream.end(left)
    eventually("all checkpoints are at the newest event", lambda: storage.behind() == 0, 40)


def test_storage_that_hangs_loses_nothing_and_is_caught_up_with(bench: Bench, storage: Storage, running: Fleet):
    stream = Stream(bench.thingworx, running, rate=40)
    with machine.frozen(bench.processes[AZURITE].pid):
        # Checkpoints would be stored every 5 s.
        stream.goes_on(100)
    stream.end()
    eventually("all checkpoints are at the newest event", lambda: storage.behind() == 0, 60)


def test_a_planned_end_stores_the_exact_position_and_a_signature_opens_it_as_well_as_a_key(
    bench: Bench, storage: Storage, running: Fleet
):
    stream = Stream(bench.thingworx, running, rate=80)
    assert bench.end() == 0, bench.log()
    bench.connector(checkpoints=storage.settings("signature"))
    stream.goes_on()
    stream.end(0)
    eventually("all checkpoints are at the newest event", lambda: storage.behind() == 0, 40)


def test_dead_letters_in_blobs_and_storage_that_hangs_for_a_while_holds_up_nothing(
    bench: Bench, storage: Storage, running: Fleet
):
    assert bench.end() == 0, bench.log()
    recovered = bench.said("recovered")
    place = f"{{azureBlob: {{container: {LETTERS}, connectionString: {{file: {bench.folder}/storage}}}}}}"
    bench.connector(checkpoints=storage.settings(), way=f"deadLetter: {place}")
    eventually("the connector is ready without the container", bench.ready, 60)
    eventually("the missing container is told", lambda: bench.said("DeadLetterUnwritable"), 20)
    storage.letters.create_container()
    eventually("that it is there is noticed", lambda: bench.said("recovered") > recovered, 30)

    outcome = lambda name: bench.total(f'dead_letters_total{{outcome="{name}"')  # noqa: E731
    stream = Stream(bench.thingworx, running)
    poisoner = Poisoner(running, stream)
    poisoner.round()
    eventually("these are stored", lambda: outcome("stored") == len(poisoner.sent), 20)
    assert poisoner.check(storage.dead_letters()) == set(poisoner.sent)

    def given_up() -> int:
        assert bench.ready(), "a place for letters is not needed to be ready"
        return outcome("lost")

    with machine.frozen(bench.processes[AZURITE].pid):
        poisoner.rounds(given_up)
    eventually("letters are stored again", lambda: bench.said("dead letters are stored again"), 30)
    back = len(poisoner.sent)
    poisoner.round()
    stream.end(0)
    eventually("each is stored or lost", lambda: outcome("stored") + outcome("lost") == len(poisoner.sent), 30)
    found = poisoner.check(storage.dead_letters())
    told(f"{len(poisoner.sent)} bad messages, {len(found)} letters, {outcome('lost')} lost while storage hung")
    # What was given up may have been stored all the same: its answer did not come.
    assert len(set(poisoner.sent) - found) <= outcome("lost")
    assert {f"poison-{number}" for number in range(back, len(poisoner.sent))} <= found
    eventually("all checkpoints are at the newest event", lambda: storage.behind() == 0, 60)


def test_neither_key_nor_signature_is_in_any_log(bench: Bench, storage: Storage):
    log = (bench.folder / f"{CONNECTOR}.log").read_text()
    assert "CheckpointStoreDenied" in log, "nothing was logged"
    assert not [secret for secret in storage.hidden if secret in log]
