"""What the egress river costs: CPU for each write and method, how long they take beside a bare relay, what becomes of
them while the hub throttles and beside devices that do not answer, and what an import takes.

Platform and hub run on one core, what is measured on another. Prints a table with the bars beside, and writes all
figures as JSON. `QUICK=1` takes a run of each where there are three, and leaves TLS out.
"""

from __future__ import annotations

import sys
from functools import partial

import beside
import commands
import importing
import rows
import throttled
from commands import DEVICES, METHODS, WRITES

ROWS = {
    "writes": (f"{WRITES.rate:,} property writes/s over {DEVICES:,} devices", partial(commands.measure, WRITES)),
    "methods": (f"{METHODS.rate:,} direct methods/s over {DEVICES:,} devices", partial(commands.measure, METHODS)),
    "throttled": (f"The hub throttled to {throttled.UNIT}", throttled.measure),
    "beside": ("Beside a device that never answers and one whose queue is full", beside.measure),
    "import": ("Import of the hub's devices", importing.measure),
}


if __name__ == "__main__":
    sys.exit(rows.main(__doc__, ROWS, "egress.json"))
