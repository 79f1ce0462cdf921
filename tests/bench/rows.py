"""The rows of a bench: which of them are run, and where their figures go."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from machine import cores

QUICK = os.environ.get("QUICK") == "1"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "azure-iot-hub-connector"


def main(what: str | None, rows: dict[str, tuple[str, Callable[[], dict]]], file: str) -> int:
    """Runs the rows that the command line names; each has a title, prints its part of the table, and gives figures
    for the file."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--json", type=Path, default=CACHE / file, help="where all figures go")
    parser.add_argument("rows", nargs="*", choices=[*rows, []], help="only these; all if none is named")
    arguments = parser.parse_args()
    if cores() < 2:
        print("the bench needs two cores: one for source and sink, one for what is measured", file=sys.stderr)
        return 1
    figures = {}
    for name in arguments.rows or rows:
        title, row = rows[name]
        print(f"\n{title}", flush=True)
        figures[name] = row()
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=1))
    print(f"\nall figures: {arguments.json}")
    return 0
