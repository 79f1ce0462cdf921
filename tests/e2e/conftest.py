"""Every scenario prints its seconds; a failure shows what the connector's pods said last."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import cluster  # noqa: E402
from fleet import Fleet  # noqa: E402
from process import Bench  # noqa: E402
from stream import TOLD  # noqa: E402
from thingworx import hub_thing  # noqa: E402

# What a scenario has counted, as a section of its report.
COUNTS = "counts"


def pytest_configure(config: pytest.Config) -> None:
    # Of the device SDK's own making; hundreds of them hide what matters.
    config.addinivalue_line("filterwarnings", "ignore:ssl.PROTOCOL_TLSv1_2:DeprecationWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scenarios on the cluster and those of processes by themselves mostly wait, each for their own: with
    `-n 2 --dist loadgroup` they go on beside each other."""
    networks = {item.path.name: item.module.NETWORK for item in items if hasattr(item.module, "NETWORK")}
    assert len({*networks.values()}) == len(networks), f"two files have the same addresses: {networks}"
    for item in items:
        of_cluster = item.path.name.startswith("test_cluster")
        item.add_marker(pytest.mark.xdist_group("cluster" if of_cluster else "processes"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tells each scenario as it ends; where there are workers, they tell nothing themselves."""
    if report.when != "call" or "PYTEST_XDIST_WORKER" in os.environ:
        return
    name = report.nodeid.rpartition("::")[2].partition("@")[0].removeprefix("test_").replace("_", " ")
    lines = [f"{report.duration:6.1f} s  {name}", *(text for title, text in report.sections if title == COUNTS)]
    print("".join(f"\n  {line}" for line in lines), end=" ", file=sys.__stdout__, flush=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call):
    outcome = yield
    report = outcome.get_result()
    if call.when == "call":
        report.sections.extend((COUNTS, f"           {line}") for line in TOLD)
        TOLD.clear()
    stack = item.funcargs.get("stack") if hasattr(item, "funcargs") else None
    if report.failed and stack is not None:
        report.sections.append(("connector's pods", stack.logs()))
        report.sections.append(("resource", cluster.kubectl(
            "-n", stack.namespace, "describe", "aihc", check=False)))
    bench = item.funcargs.get("bench") if hasattr(item, "funcargs") else None
    if report.failed and bench is not None:
        report.sections.append(("connector's log", bench.log()))


@pytest.fixture(scope="session")
def operator() -> None:
    cluster.install_operator()


@pytest.fixture(scope="module")
def stack(operator) -> Iterator[cluster.Stack]:
    """A platform of three nodes and a hub, in a namespace of their own."""
    made = cluster.Stack(f"e2e-{secrets.token_hex(3)}")
    yield made
    made.delete()


@pytest.fixture(scope="module")
def fleet(stack: cluster.Stack) -> Iterator[Fleet]:
    # A device may have 32 requests under way in each pod; the long form has 400 of all.
    made = stack.fleet(32 if "SOAK" in os.environ else 8)
    yield made
    made.close()


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest, tmp_path_factory) -> Iterator[Bench]:
    """Stand-ins as processes in the module's `NETWORK` of loopback addresses."""
    made = Bench(tmp_path_factory.mktemp("bench"), request.module.NETWORK)
    made.thingworx.define({"FactoryHub": hub_thing()})
    yield made
    made.close()


@pytest.fixture(scope="module")
def devices(request: pytest.FixtureRequest, bench: Bench) -> Iterator[Fleet]:
    """The module's `DEVICES`, connected."""
    made = bench.fleet(request.module.DEVICES)
    yield made
    made.close()
