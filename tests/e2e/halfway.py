"""An import of devices that is held midway, however fast the machine is."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from cluster import eventually
from hub import Hub
from thingworx import Thingworx


@contextlib.contextmanager
def halfway(
    thingworx: Thingworx, hub: Hub, begin: Callable[[], str], things: Callable[[], int]
) -> Iterator[str]:
    """Begins an import of at least two pages and holds it in the second; gives its id.

    Every device of the first page has its Thing. Of the second, those that are under way have one as well, but the
    platform's answers are lost. `things` counts what the import makes; nothing else may ask the hub queries.
    """
    accepted, refused = hub.operations("queries")
    answers = {"kind": "loseAnswers"}
    try:
        with contextlib.ExitStack() as throttled:
            with thingworx.ill(**answers):
                made = begin()
                # It tries the first of its devices until the platform answers.
                eventually("it has the first page", lambda: hub.operations("queries")[0] > accepted, 60)
                throttled.enter_context(hub.ill(fault="throttle-operations", operation="queries"))
            eventually("it asks for the second page", lambda: hub.operations("queries")[1] > refused, 120)
            first = things()
            thingworx.fault(**answers, on=True)
        eventually("it is in the second page", lambda: things() > first, 60)
        yield made
    finally:
        thingworx.fault(**answers, on=False)
