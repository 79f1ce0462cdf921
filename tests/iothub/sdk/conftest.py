"""One stand-in for all checks; each uses devices of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from standin import Standin  # noqa: E402


@pytest.fixture(scope="session")
def hub(tmp_path_factory) -> Iterator[Standin]:
    made = Standin(tmp_path_factory.mktemp("standin"))
    yield made
    assert made.end() == 0, made.log.read_text()


@pytest.fixture(scope="session")
def service(hub: Standin):
    return hub.service()


@pytest.fixture
def device(hub: Standin, request) -> Iterator:
    """A connected device, named after the check."""
    client = hub.device(request.node.name)
    yield client
    client.shutdown()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call):
    outcome = yield
    report = outcome.get_result()
    hub = item.funcargs.get("hub") if hasattr(item, "funcargs") else None
    if report.failed and hub is not None:
        report.sections.append(("the stand-in's log", hub.log.read_text()[-4000:]))
