"""How much may arrive twice when a pod goes without handing over."""

from __future__ import annotations

from cluster import Stack


class Exposure:
    """The partitions of a pod, or of all, and where their checkpoints were before something went wrong.

    A pod that goes without handing over has written what it has read and not yet checkpointed; whoever takes over
    writes that again. So at most the events between the stored checkpoint and the newest event can arrive twice: some
    6 s of them, since checkpoints are stored every 5 s.
    """

    def __init__(self, stack: Stack, pod: dict | None = None):
        self.stack = stack
        self.pod = pod["metadata"]["name"] if pod else ""
        claims = {partition: claim for partition, claim in stack.claims().items()
                  if not pod or claim.held_by(self.pod)}
        assert claims, f"{self.pod} reads nothing"
        self.stored = {partition: claim.sequence for partition, claim in claims.items()}
        self.holders = {claim.holder for claim in claims.values()}
        self.epochs = {partition: claim.epoch for partition, claim in claims.items()}

    def now(self) -> int:
        """The most that can arrive twice if nothing more is read without being handed over."""
        newest = self.stack.hub.newest()
        return sum(newest[partition] - stored for partition, stored in self.stored.items())

    def over(self) -> bool:
        """Others have the claims."""
        claims = self.stack.claims()
        return all(claims[partition].holder not in ("", *self.holders) for partition in self.stored)

    def evicted(self) -> bool:
        """Readers with higher epochs have the partitions."""
        read = {one["id"]: max((reader["epoch"] or 0 for reader in one["readers"]), default=0)
                for one in self.stack.hub.partitions()}
        return all(read[partition] > epoch for partition, epoch in self.epochs.items())
