"""What the system says of a process: CPU time and memory; and where a process may run."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """CPU seconds that a process has used, at a moment."""

    user: float
    system: float
    at: float

    @staticmethod
    def of(pid: int) -> Cpu:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return Cpu(int(fields[11]) / TICKS, int(fields[12]) / TICKS, time.monotonic())

    def since(self, earlier: Cpu) -> Cpu:
        """What was used since then; `at` is how long that was."""
        return Cpu(self.user - earlier.user, self.system - earlier.system, self.at - earlier.at)

    @property
    def total(self) -> float:
        return self.user + self.system


def peak_mib(pid: int) -> float:
    """The most memory that was ever resident since the start, or since `forget_peak`."""
    return _status(pid, "VmHWM")


def resident_mib(pid: int) -> float:
    return _status(pid, "VmRSS")


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field + ":"))


def pinned(core: int) -> list[str]:
    """What to put before a command line so that it runs on one core and nowhere else."""
    return ["taskset", "-c", str(core)]


def cores() -> int:
    return len(os.sched_getaffinity(0))
