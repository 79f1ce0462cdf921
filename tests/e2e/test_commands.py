"""What the platform asks of devices and of the hub, with Microsoft's device SDK on the other side."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster import eventually
from fleet import Fleet
from process import Bench
from stream import told
from thingworx import device_thing

NETWORK = "127.0.86"
DEVICES = 4

HUB = "ConnectionServicesHub"
# The services of a device's Thing, beside `echo`.
SERVICES = {"run": {"inputs": {"seconds": "NUMBER", "status": "INTEGER", "answer": "JSON"}}}


def thing() -> dict:
    made = device_thing("FactoryHub")
    return made | {"services": made["services"] | SERVICES}


@pytest.fixture(scope="module")
def ready(bench: Bench, devices: Fleet) -> Iterator[Fleet]:
    bench.thingworx.define({name: thing() for name in devices.devices})
    bench.connector(way=f"""registryConnectionString: {{file: {bench.folder}/registry}}
  commands: {{feedback: true, messageExpirySeconds: 60}}""")
    eventually("the connector is ready", bench.ready, 30)
    eventually("its services are offered", bench.offered, 30)
    yield devices


# ---- devices ----


def test_many_values_reach_a_device_in_one_message(bench: Bench, ready: Fleet):
    had = len(ready.devices["dev-0"].messages)
    fields = {name: {"name": name, "baseType": kind, "ordinal": place} for place, (name, kind) in
              enumerate({"setpoint": "INTEGER", "name": "STRING"}.items())}
    payload = {"dataShape": {"fieldDefinitions": fields}, "rows": [{"setpoint": 7, "name": "x"}]}
    answer = bench.thingworx.service("AzureIotSendMessage", thingName="dev-0", payload=payload)
    assert answer.ok, answer.text
    eventually("the device has it", lambda: len(ready.devices["dev-0"].messages) > had, 10)
    assert ready.devices["dev-0"].messages[had]["body"] == {"setpoint": 7, "name": "x"}


def test_a_methods_result_has_the_form_that_came_back_and_its_errors_are_told(bench: Bench, ready: Fleet):
    for answer in (5, "text", True, {"a": [1]}, [1, 2], None):
        got = bench.thingworx.call("dev-1", "run", answer=answer)
        assert got.ok, got.text
        body = json.loads(got.body) if isinstance(got.body, str) and answer not in ("text",) else got.body
        assert body == answer, f"{answer!r} came back as {got.body!r}"
    refused = bench.thingworx.call("dev-1", "run", status=418, answer={"why": "teapot"})
    assert not refused.ok and "418" in refused.text and "teapot" in refused.text, refused.text


def test_a_device_that_is_away_is_told_at_once_and_its_message_waits_and_its_loss_is_reported(
    bench: Bench, ready: Fleet
):
    bench.hub.register(["away"])
    bench.thingworx.define({"away": thing()})
    begun = time.monotonic()
    call = bench.thingworx.call("away", "echo", text="x")
    assert not call.ok and "not connected" in call.text, call.text
    assert time.monotonic() - begun < 10, "nobody waits for a device that is away"
    for number in range(50):
        answer = bench.thingworx.write("away", "setpoint", number)
        assert answer.ok, answer.text
    full = bench.thingworx.write("away", "setpoint", 51)
    assert not full.ok and "queue" in full.text and "full" in full.text, full.text
    reported = lambda: [  # noqa: E731
        one["data"]["rows"][0] for one in bench.thingworx.events()
        if one["event"] == "EdgeError" and one["data"]["rows"][0]["ThingName"] == "away"]
    # The messages expire after a minute.
    eventually("each message that expired is reported", lambda: len(reported()) >= 50, 120)
    assert reported()[0]["context"]["property"] == "setpoint", reported()[0]
    assert "not fetched" in reported()[0]["message"]


# ---- twins ----


def test_twins_are_read_on_demand_and_changed_by_merging(bench: Bench, ready: Fleet):
    answer = bench.thingworx.write("dev-2", "twinDesired", {"rate": 5, "old": 1})
    assert answer.ok, answer.text
    answer = bench.thingworx.write("dev-2", "twinDesired", {"old": None, "mode": {"fast": True}})
    assert answer.ok, answer.text
    desired = ready.twin("dev-2")["desired"]
    assert {key: desired[key] for key in desired if key[0] != "$"} == {"rate": 5, "mode": {"fast": True}}
    ready.report("dev-2", {"rate": 4})
    read = bench.thingworx.read("dev-2", "twinReported")
    assert read.ok and read.body["rate"] == 4, read
    rate = bench.thingworx.read("dev-2", "rate")
    assert rate.ok and rate.body == 4, rate
    missing = bench.thingworx.read("dev-2", "temperature")
    assert not missing.ok and "does not report temperature" in missing.text, missing.text
    refused = bench.thingworx.write("dev-2", "twinReported", {"rate": 3})
    assert not refused.ok and "twinDesired" in refused.text, refused.text
    tags = bench.thingworx.write("dev-2", "twinTags", {"site": "a"})
    assert tags.ok, tags.text
    assert bench.thingworx.read("dev-2", "twinTags").body["site"] == "a"


def test_what_was_read_is_written_back_only_if_nobody_has_changed_it(bench: Bench, ready: Fleet):
    bench.thingworx.write("dev-2", "twinDesired", {"rate": 1})
    read = bench.thingworx.read("dev-2", "twinDesired").body
    first = bench.thingworx.write("dev-2", "twinDesired", read | {"rate": 2})
    assert first.ok, first.text
    second = bench.thingworx.write("dev-2", "twinDesired", read | {"rate": 3})
    assert not second.ok and "changed" in second.text, second.text
    assert bench.thingworx.read("dev-2", "twinDesired").body["rate"] == 2


# ---- the hub ----


def test_devices_are_made_shown_and_removed_and_neither_twice_is_an_error(bench: Bench, ready: Fleet):
    service = bench.thingworx.service
    for _ in range(2):
        assert (made := service("CreateAzureIotDevice", thingName="made")).ok, made.text
    shown = service("DescribeAzureIotDevice", thingName="made").rows[0]
    assert (shown["deviceId"], shown["status"], shown["c2dMessageCount"]) == ("made", "enabled", 0)
    assert not any("key" in name.lower() for name in shown), "a device's keys stay with the hub"
    for _ in range(2):
        assert (gone := service("DeleteAzureIotDevice", thingName="made")).ok, gone.text
    absent = service("DescribeAzureIotDevice", thingName="made")
    assert not absent.ok and "no device" in absent.text, absent.text
    assert "made" not in bench.thingworx.things(), "a Thing is another matter"


def test_a_thing_that_comes_up_without_a_device_gets_one(bench: Bench, ready: Fleet):
    # The platform's own call, made by hand.
    made = thing() | {"services": {"NotifyPropertyUpdate": {}, "SynchronizeModelState": {}}}
    bench.thingworx.define({"newcomer": made, "other": made | {"identifier": "SN-7"}})
    assert bench.thingworx.call("newcomer", "NotifyPropertyUpdate").ok
    assert bench.thingworx.call("other", "SynchronizeModelState").ok
    for device in ("newcomer", "SN-7"):
        eventually(f"the hub has {device}",
                   lambda: bench.thingworx.service("DescribeAzureIotDevice", thingName=device).ok, 20)


def test_jobs_change_twins_and_call_methods_and_tell_of_each_device(bench: Bench, ready: Fleet):
    bench.hub.register(["absent"])
    service = bench.thingworx.service
    state = lambda job: service("AzureIotDeviceJobGetJob", jobId=job).rows[0]  # noqa: E731
    made = service("AzureIotDeviceJobScheduleTwinUpdateJob", queryCondition="deviceId IN ['dev-0', 'dev-1']",
                   patch={"properties": {"desired": {"batch": 1}, "reported": {"x": 1}}, "tags": {"lot": "a"}})
    assert made.ok, made.text
    eventually("the job is done", lambda: state(made.body)["status"] == "completed", 30)
    for name in ("dev-0", "dev-1"):
        assert ready.twin(name)["desired"]["batch"] == 1
    assert state(made.body)["succeededCount"] == 2
    had = len(ready.devices["dev-3"].methods)
    called = service("AzureIotDeviceJobScheduleDeviceMethodJob", methodName="echo", payload={"text": "job"},
                     queryCondition="deviceId IN ['dev-3', 'absent']")
    assert called.ok, called.text
    eventually("the job has ended", lambda: state(called.body)["status"] in ("completed", "failed"), 60)
    assert len(ready.devices["dev-3"].methods) == had + 1
    results = {row["deviceId"]: row for row in service("QueryJobResults", jobId=called.body).rows}
    assert json.loads(json.dumps(results["dev-3"]["outcome"]))["payload"] == "job", results
    assert results["absent"]["errorCode"], results
    found = {row["jobId"] for row in service("AzureIotDeviceJobFindJobs").rows}
    assert {made.body, called.body} <= found
    later = service("AzureIotDeviceJobScheduleDeviceMethodJob", methodName="echo",
                    startTime=int((time.time() + 600) * 1000))
    assert service("AzureIotDeviceJobCancelJob", jobId=later.body).ok
    assert state(later.body)["status"] == "cancelled"
    late = service("AzureIotDeviceJobCancelJob", jobId=made.body)
    assert not late.ok, "a job that has ended cannot be cancelled"


# ---- the connector's own Thing ----


def test_the_connector_shows_what_it_is_how_it_fares_and_what_it_logs(bench: Bench, ready: Fleet):
    own = next(one["gateway"] for node in bench.thingworx.endpoints() for one in node["endpoints"])
    call = lambda service, **inputs: bench.thingworx.call(own, service, **inputs)  # noqa: E731
    rows = lambda service: {row["name"]: row for row in call(service).rows}  # noqa: E731
    assert rows("GetSystemInformation")["hubThing"]["value"] == "FactoryHub"
    assert all(row["isRunning"] for row in rows("GetSystemStatus").values())
    assert {own, "FactoryHub", HUB} <= rows("GetBoundEntities").keys()
    assert any("requests_total" in name for name in rows("GetPerformanceMetrics"))
    lines = call("GetLogEntries").rows
    assert any("logged in" in line["content"] for line in lines), lines
    assert lines == sorted(lines, key=lambda line: -line["timestamp"])


# ---- what goes wrong ----


def test_an_answer_that_is_lost_executes_nothing_twice(bench: Bench, ready: Fleet):
    device = ready.devices["dev-3"]
    methods = len(device.methods)
    with bench.hub.ill(fault="lose-answers", operation="methods"):
        answers = [bench.thingworx.call("dev-3", "echo", text=str(number)) for number in range(6)]
    told(f"{sum(answer.ok for answer in answers)} of 6 methods answered, {len(device.methods) - methods} run")
    assert not any(answer.ok for answer in answers), "there was nothing to lose"
    assert all("unknown" in answer.text for answer in answers), answers
    assert len(device.methods) - methods == 6, "a method was run twice, or not at all"
    lost = bench.hub.lost("registry")
    with bench.hub.ill(fault="lose-answers", operation="registry", count=1):
        made = bench.thingworx.service("CreateAzureIotDevice", thingName="lost")
    assert bench.hub.lost("registry") == lost + 1
    assert made.ok, f"what does no harm twice is repeated: {made.text}"


def test_a_device_that_never_answers_and_one_with_a_full_queue_hold_up_no_other(bench: Bench, ready: Fleet):
    slow = [lambda: bench.thingworx.call("dev-0", "run", seconds=60) for _ in range(48)]
    had = len(ready.devices["dev-0"].methods)
    with ThreadPoolExecutor(len(slow)) as pool:
        waiting = [pool.submit(one) for one in slow]
        eventually("they wait", lambda: len(ready.devices["dev-0"].methods) > had + 20, 20)
        answers = bench.thingworx.many(
            [lambda: bench.thingworx.call("dev-1", "echo", text="x") for _ in range(100)], 8)
        assert all(answer.ok for answer in answers), [answer.text for answer in answers if not answer.ok][:3]
        results = [one.result() for one in waiting]
    assert not any(answer.ok for answer in results)
    at_once = sum("under way already" in answer.text for answer in results)
    told(f"100 methods of another device done; of 48 for a silent one {at_once} were refused at once")
    assert at_once == 48 - 32
