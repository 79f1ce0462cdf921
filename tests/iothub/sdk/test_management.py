"""Twins, queries, jobs and feedback, as Microsoft's SDKs ask for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
import requests
import uamqp
from azure.iot.device import IoTHubDeviceClient, MethodResponse
from azure.iot.hub import IoTHubJobManager, IoTHubRegistryManager
from azure.iot.hub.models import Twin, TwinProperties
from azure.iot.hub.protocol.models import JobRequest, QuerySpecification
from msrest.exceptions import HttpOperationError
from standin import HUB, Standin, eventually
from test_sdk import method, refused, service_password


@pytest.fixture(scope="module")
def jobs(hub: Standin) -> IoTHubJobManager:
    return hub.jobs()


def wanted(tags: dict | None = None, desired: dict | None = None) -> Twin:
    properties = None if desired is None else TwinProperties(desired=desired)
    return Twin(tags=tags, properties=properties, etag="*")


# ---- twins ----


def test_a_module_hears_of_its_desired_properties_and_its_device_does_not(
    hub: Standin, service: IoTHubRegistryManager, device: IoTHubDeviceClient, request
):
    name = request.node.name
    heard: dict[str, list] = {"device": [], "module": []}
    module = hub.module(name, "pump")
    try:
        device.on_twin_desired_properties_patch_received = heard["device"].append
        module.on_twin_desired_properties_patch_received = heard["module"].append
        changed = service.update_module_twin(name, "pump", wanted({"floor": 3}, {"rate": {"low": 1, "high": 2}}))
        assert (changed.module_id, changed.tags) == ("pump", {"floor": 3})
        service.update_module_twin(name, "pump", wanted(desired={"rate": {"low": None}}))
        eventually("both patches", lambda: heard["module"] == [
            {"rate": {"low": 1, "high": 2}, "$version": 2}, {"rate": {"low": None}, "$version": 3}])
        assert module.get_twin()["desired"] == {"rate": {"high": 2}, "$version": 3}
        module.patch_twin_reported_properties({"rate": 2})
        assert service.get_module_twin(name, "pump").properties.reported["rate"] == 2
        with pytest.raises(HttpOperationError) as caught:
            service.update_module_twin(name, "pump", wanted({"floor": 4}), changed.etag)
        refused(412, "PreconditionFailed", caught.value)
        assert heard["device"] == []
    finally:
        module.shutdown()


# ---- the registry and queries ----


def test_queries_find_twins_page_by_page(hub: Standin, service: IoTHubRegistryManager, request):
    name = request.node.name
    made = [f"{name}-{number}" for number in range(7)]
    before = service.get_device_registry_statistics()
    hub.control("POST", "/devices", {"devices": made})
    after = service.get_device_registry_statistics()
    assert after.total_device_count == before.total_device_count + 7
    assert after.enabled_device_count + after.disabled_device_count == after.total_device_count
    for number, device in enumerate(made):
        service.update_twin(device, wanted({"check": name, "number": number}))
    query = QuerySpecification(query=f"SELECT * FROM devices WHERE tags.check = '{name}' AND tags.number >= 2")
    found, token, pages = [], None, 0
    while True:
        page = service.query_iot_hub(query, token, 2)
        assert page.type == "twin"
        found += [one.device_id for one in page.items]
        pages, token = pages + 1, page.continuation_token
        if not token:
            break
    assert (found, pages) == (made[2:], 3)
    for text in ("SELECT * FROM devices WHERE", "SELECT * FROM nothing", "drop table devices"):
        with pytest.raises(HttpOperationError) as caught:
            service.query_iot_hub(QuerySpecification(query=text))
        refused(400, "ArgumentInvalid", caught.value)
    # The right Service connect is enough for queries, and for nothing of the registry.
    only_service = hub.service("service")
    assert only_service.query_iot_hub(query).items
    with pytest.raises(HttpOperationError) as caught:
        only_service.get_device_registry_statistics()
    refused(401, "IotHubUnauthorizedAccess", caught.value)


# ---- jobs ----


def of_job(service: IoTHubRegistryManager, job: str) -> dict[str, object]:
    query = QuerySpecification(query=f"SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '{job}'")
    page = service.query_iot_hub(query)
    assert page.type == "deviceJob"
    return {one.device_id: one for one in page.items}


def ended(jobs: IoTHubJobManager, job: str):
    def look():
        found = jobs.get_scheduled_job(job)
        return found if found.status in ("completed", "failed", "cancelled") else None

    return eventually("the job has ended", look)


def test_a_job_changes_twins_of_connected_devices(
    service: IoTHubRegistryManager, jobs: IoTHubJobManager, device: IoTHubDeviceClient, request
):
    name = request.node.name
    patches: list[dict] = []
    device.on_twin_desired_properties_patch_received = patches.append
    made = jobs.create_scheduled_job("twin-job", JobRequest(
        job_id="twin-job", type="scheduleUpdateTwin", update_twin=wanted({"by": "job"}, {"rate": 5}),
        query_condition=f"deviceId = '{name}'", max_execution_time_in_seconds=60,
        start_time=datetime.now(timezone.utc)))
    assert made.job_id == "twin-job" and made.status in ("queued", "scheduled")
    done = ended(jobs, "twin-job")
    assert (done.status, done.type) == ("completed", "scheduleUpdateTwin")
    counts = done.device_job_statistics
    assert (counts.device_count, counts.succeeded_count, counts.failed_count) == (1, 1, 0)
    assert patches == [{"rate": 5, "$version": 2}]
    assert service.get_twin(name).tags == {"by": "job"}
    assert of_job(service, "twin-job")[name].status == "completed"
    with pytest.raises(HttpOperationError) as caught:
        jobs.create_scheduled_job("twin-job", JobRequest(
            job_id="twin-job", type="scheduleUpdateTwin", update_twin=wanted({"x": 1}), query_condition="*",
            max_execution_time_in_seconds=60))
    refused(409, "JobAlreadyExists", caught.value)


def test_a_job_calls_methods_and_keeps_what_came_of_them(
    hub: Standin, service: IoTHubRegistryManager, jobs: IoTHubJobManager, device: IoTHubDeviceClient, request
):
    name, away = request.node.name, f"{request.node.name}-away"
    hub.control("POST", "/devices", {"devices": [away]})
    device.on_method_request_received = lambda call: device.send_method_response(
        MethodResponse.create_from_method_request(call, 207, {"echo": call.payload}))
    eventually("it listens", lambda: service.invoke_device_method(name, method("ready", connect=5)).status == 207)
    jobs.create_scheduled_job("method-job", JobRequest(
        job_id="method-job", type="scheduleDeviceMethod", cloud_to_device_method=method("echo", {"a": 1}),
        query_condition=f"deviceId IN ['{name}', '{away}']", max_execution_time_in_seconds=60))
    counts = ended(jobs, "method-job").device_job_statistics
    assert (counts.device_count, counts.succeeded_count, counts.failed_count) == (2, 1, 1)
    results = of_job(service, "method-job")
    answer = results[name].additional_properties["outcome"]["deviceMethodResponse"]
    assert answer == {"status": 207, "payload": {"echo": {"a": 1}}}
    assert results[away].status == "failed"
    assert results[away].additional_properties["error"]["code"] == "404103"


def listed(hub: Standin, kind: str, status: str) -> list[str]:
    """The ids of jobs. Not by the SDK: its 2.7.0 reads an object where the service answers an array."""
    answer = requests.get(
        f"https://{HUB}/jobs/v2/query",
        params={"api-version": "2021-04-12", "jobType": kind, "jobStatus": status},
        headers={"Authorization": service_password(hub, HUB, "iothubowner")}, verify=hub.ca_file, timeout=10)
    answer.raise_for_status()
    return [job["jobId"] for job in answer.json()]


def test_a_job_that_waits_is_listed_and_cancelled(hub: Standin, jobs: IoTHubJobManager):
    jobs.create_scheduled_job("waits", JobRequest(
        job_id="waits", type="scheduleUpdateTwin", update_twin=wanted({"x": 1}), query_condition="*",
        start_time=datetime.now(timezone.utc) + timedelta(hours=1), max_execution_time_in_seconds=60))
    assert listed(hub, "scheduleUpdateTwin", "scheduled") == ["waits"]
    assert listed(hub, "scheduleDeviceMethod", "scheduled") == []
    jobs.cancel_scheduled_job("waits")
    assert jobs.get_scheduled_job("waits").status == "cancelled"
    with pytest.raises(HttpOperationError) as caught:
        jobs.cancel_scheduled_job("waits")
    assert "Job cannot be cancelled" in refused(400, "OperationNotAllowedInCurrentState", caught.value)["Message"]
    with pytest.raises(HttpOperationError) as caught:
        jobs.cancel_scheduled_job("no-such-job")
    refused(404, "JobNotFound", caught.value)
    assert jobs.get_scheduled_job("no-such-job").status == "unknown"


# ---- feedback (uAMQP, which azure-iot-hub brings) ----


@pytest.fixture
def feedback(hub: Standin) -> Iterator[uamqp.ReceiveClient]:
    login = uamqp.authentication.SASLPlain(
        HUB, f"service@sas.root.{HUB}", service_password(hub, HUB), verify=str(hub.ca_file))
    client = uamqp.ReceiveClient(
        uamqp.address.Source(f"amqps://{HUB}/messages/serviceBound/feedback"), auth=login, auto_complete=False,
        prefetch=1)
    yield client
    client.close()


def test_senders_hear_what_has_become_of_their_messages(
    hub: Standin, service: IoTHubRegistryManager, device: IoTHubDeviceClient, feedback: uamqp.ReceiveClient, request
):
    received: list = []
    device.on_message_received = received.append
    service.send_c2d_message(request.node.name, "x", {"messageId": "m-1", "iothub-ack": "full"})
    eventually("the message", lambda: received)
    given_back = eventually("the batch", lambda: feedback.receive_message_batch(max_batch_size=1, timeout=1000))[0]
    given_back.release()
    [batch] = eventually("it again", lambda: feedback.receive_message_batch(max_batch_size=1, timeout=1000))
    assert batch.properties.content_type == b"application/vnd.microsoft.iothub.feedback.json"
    [record] = json.loads(b"".join(batch.get_data()))
    assert (record["originalMessageId"], record["statusCode"], record["deviceId"]) == (
        "m-1", "Success", request.node.name)
    assert record["deviceGenerationId"] and record["enqueuedTimeUtc"]
    batch.accept()


# ---- limits ----


def test_limits_of_a_tier_refuse_what_is_too_much(hub: Standin):
    counted = lambda: hub.control("GET", "/operations")["queries"]  # noqa: E731
    service = hub.service()
    service.protocol.config.retry_policy.policy.total = 0
    query = QuerySpecification(query="SELECT * FROM devices WHERE deviceId = 'nobody'")
    before = counted()
    # 20 a minute, of which one may come at once.
    hub.control("PUT", "/limits", {"tier": "S1", "operations": ["queries"], "burstSeconds": 3})
    try:
        service.query_iot_hub(query)
        with pytest.raises(HttpOperationError) as caught:
            service.query_iot_hub(query)
    finally:
        hub.control("DELETE", "/limits")
    refused(429, "ThrottlingException", caught.value)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 3
    service.query_iot_hub(query)
    after = counted()
    assert (after["accepted"] - before["accepted"], after["refused"] - before["refused"]) == (2, 1)
