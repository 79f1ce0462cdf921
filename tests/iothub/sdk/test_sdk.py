"""The stand-in is what Microsoft's SDKs take for an IoT Hub."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

import pytest
import uamqp
from azure.eventhub import TransportType
from azure.eventhub.exceptions import AuthenticationError, ConnectionLostError, EventHubError
from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties
from azure.iot.hub.protocol.models import Device
from msrest.exceptions import HttpOperationError
from standin import EVENTS, GROUP, HUB, Standin, eventually

WRONG_KEY = base64.b64encode(b"not the key").decode()


def refused(status: int, code: str, error: HttpOperationError) -> dict:
    """Checks a refusal of the REST face; its body."""
    assert error.response.status_code == status, error.response.text
    assert error.response.headers["iothub-errorcode"] == code
    return error.response.json()


def send_numbered(device: IoTHubDeviceClient, numbers: range) -> None:
    for number in numbers:
        device.send_message(Message(str(number)))


def sent_to(hub: Standin, device: IoTHubDeviceClient, numbers: range) -> str:
    """Sends; the partition that the messages went to."""
    before = hub.last()
    send_numbered(device, numbers)
    changed = [name for name, last in hub.last().items() if last != before[name]]
    assert len(changed) == 1, "all messages of a device go to one partition"
    return changed[0]


def method(name: str, payload: object = None, response: int = 5, connect: int = 0) -> CloudToDeviceMethod:
    """A call; times in seconds."""
    return CloudToDeviceMethod(method_name=name, payload=payload, response_timeout_in_seconds=response,
                               connect_timeout_in_seconds=connect)


# ---- devices (azure-iot-device) and readers (azure-eventhub) ----


def test_telemetry_arrives_with_its_properties_and_the_hubs(hub: Standin, device: IoTHubDeviceClient, request):
    before = hub.last()
    message = Message(json.dumps({"temperature": 21.5, "name": "téxt"}))
    message.message_id, message.correlation_id = "id 1", "corr/1"
    message.content_type, message.content_encoding = "application/json", "utf-8"
    message.custom_properties.update({"kind": "a&b=c", "päth": "x/y z"})
    device.send_message(message)
    [(partition, last)] = [one for one in hub.last().items() if one[1] != before[one[0]]]
    with hub.read(partition, starting_position=last["sequence"], starting_position_inclusive=True) as reader:
        [event] = eventually("the event", lambda: reader.events)
    assert json.loads(event.body_as_str()) == {"temperature": 21.5, "name": "téxt"}
    assert event.properties == {b"kind": b"a&b=c", "päth".encode(): b"x/y z"}
    assert (event.message_id, event.correlation_id) == ("id 1", "corr/1")
    assert (event.content_type, event.raw_amqp_message.properties.content_encoding) == ("application/json", b"utf-8")
    system = event.system_properties
    assert system[b"iothub-connection-device-id"] == request.node.name.encode()
    assert system[b"iothub-message-source"] == b"Telemetry"
    assert json.loads(system[b"iothub-connection-auth-method"])["type"] == "sas"
    assert system[b"iothub-connection-auth-generation-id"]
    taken = datetime.fromtimestamp(system[b"iothub-enqueuedtime"] / 1000, timezone.utc)
    assert abs(datetime.now(timezone.utc) - taken) < timedelta(seconds=30)
    assert (event.sequence_number, event.offset) == (last["sequence"], str(last["offset"]))


def test_readers_start_where_they_ask_to(hub: Standin, device: IoTHubDeviceClient):
    partition = sent_to(hub, device, range(5))
    time.sleep(0.01)  # enqueued times are milliseconds
    then = datetime.now(timezone.utc)
    time.sleep(0.01)
    send_numbered(device, range(5, 8))
    with hub.read(partition, starting_position="-1") as reader:
        eventually("all events", lambda: reader.bodies()[-8:] == [*map(str, range(8))])
    third = reader.events[-6]
    assert third.body_as_str() == "2"
    for position, inclusive, first in [
        (third.offset, False, 3), (third.offset, True, 2),
        (third.sequence_number, False, 3), (third.sequence_number, True, 2), (then, False, 5),
    ]:
        with hub.read(partition, starting_position=position, starting_position_inclusive=inclusive) as reader:
            eventually(f"from {position!r}", lambda: reader.bodies()[-1:] == ["7"])
            assert reader.bodies() == [*map(str, range(first, 8))], (position, inclusive)
    with hub.read(partition, starting_position="@latest") as reader:
        eventually("the reader is open", lambda: hub.readers(partition))
        send_numbered(device, range(8, 10))
        eventually("only what is new", lambda: reader.bodies() == ["8", "9"])
    assert not reader.errors


def test_events_are_read_in_web_sockets(hub: Standin, device: IoTHubDeviceClient):
    partition = sent_to(hub, device, range(3))
    with hub.read(partition, starting_position="-1", transport_type=TransportType.AmqpOverWebsocket) as reader:
        eventually("the events", lambda: reader.bodies()[-3:] == ["0", "1", "2"])
        send_numbered(device, range(3, 5))
        eventually("what comes later", lambda: reader.bodies()[-2:] == ["3", "4"])
    assert not reader.errors


def test_a_position_of_another_stream_is_refused(hub: Standin, device: IoTHubDeviceClient):
    partition = sent_to(hub, device, range(1))
    with hub.read(partition, starting_position=10**9, retry_total=0) as reader:
        error = eventually("the refusal", lambda: reader.errors)[0]
    assert "1000000000" in str(error), error
    assert not reader.events


def test_a_higher_owner_level_evicts_and_a_lower_one_is_refused(hub: Standin, device: IoTHubDeviceClient):
    partition = sent_to(hub, device, range(1))
    with hub.read(partition, starting_position="-1", owner_level=1, retry_total=0) as low:
        eventually("the first reads", lambda: low.events)
        with hub.read(partition, starting_position="-1", owner_level=2, retry_total=0) as high:
            eventually("the second reads", lambda: high.events)
            evicted = eventually("the first is told", lambda: low.errors)[0]
            assert isinstance(evicted, ConnectionLostError), evicted
            assert "New receiver" in str(evicted) and "higher epoch of '2'" in str(evicted)
            for level in (1, None):
                with hub.read(partition, starting_position="-1", owner_level=level, retry_total=0) as late:
                    error = eventually("it is refused", lambda: late.errors)[0]
                    assert isinstance(error, EventHubError) and "epoch" in str(error), error
                    assert not late.events
            assert not high.errors, "the owner is not disturbed"


def test_a_reader_survives_a_detach_and_misses_nothing(hub: Standin, device: IoTHubDeviceClient):
    partition = sent_to(hub, device, range(3))
    sequence = hub.last()[partition]["sequence"] - 3
    with hub.read(partition, starting_position=sequence) as reader:
        eventually("the first events", lambda: len(reader.events) == 3)
        hub.fault("detach", partition=partition)
        send_numbered(device, range(3, 6))
        eventually("the rest", lambda: reader.bodies() == [*map(str, range(6))])
        hub.fault("drop-connections", face="events-amqp")
        send_numbered(device, range(6, 9))
        eventually("the rest", lambda: reader.bodies() == [*map(str, range(9))], 30)


def test_the_event_stream_describes_itself(hub: Standin, device: IoTHubDeviceClient):
    partition = sent_to(hub, device, range(1))
    with hub.events() as client:
        assert client.get_eventhub_properties()["eventhub_name"] == "telemetry"
        assert client.get_partition_ids() == ["0", "1", "2", "3"]
        told = client.get_partition_properties(partition)
    last = hub.last()[partition]
    assert (told["last_enqueued_sequence_number"], told["last_enqueued_offset"]) == (
        last["sequence"], str(last["offset"]))
    assert told["is_empty"] is False


def test_readers_with_a_wrong_key_or_group_are_refused(hub: Standin):
    with hub.events(key=WRONG_KEY, retry_total=0) as client, pytest.raises(AuthenticationError):
        client.get_partition_ids()
    with hub.read("0", group="no-such-group", starting_position="-1", retry_total=0) as reader:
        error = eventually("the refusal", lambda: reader.errors)[0]
    assert "not-found" in str(error) or "not found" in str(error), error


# ---- commands (azure-iot-hub) and devices ----


def test_a_message_to_a_device_arrives_with_its_properties(
    hub: Standin, service: IoTHubRegistryManager, device: IoTHubDeviceClient, request
):
    received: list[Message] = []
    device.on_message_received = received.append
    properties = {"messageId": "m 1", "correlationId": "c/1", "contentType": "application/json",
                  "contentEncoding": "utf-8", "ack": "a&b=c", "zone": "north"}
    service.send_c2d_message(request.node.name, '{"setpoint": 42}', properties)
    [message] = eventually("the message", lambda: received)
    assert json.loads(message.data) == {"setpoint": 42}
    assert (message.message_id, message.correlation_id) == ("m 1", "c/1")
    assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
    assert message.custom_properties == {"ack": "a&b=c", "zone": "north"}
    mine = lambda: [one for one in hub.control("GET", "/receipts")["receipts"]  # noqa: E731
                    if one["device"] == request.node.name]
    [receipt] = eventually("the receipt", mine)
    assert (receipt["kind"], receipt["messageId"], receipt["body"]) == ("c2d", "m 1", '{"setpoint": 42}')


def test_messages_wait_for_a_device_up_to_fifty(hub: Standin, service: IoTHubRegistryManager, request):
    name = request.node.name
    hub.control("POST", "/devices", {"devices": [name]})
    for number in range(50):
        service.send_c2d_message(name, str(number))
    assert service.get_device(name).cloud_to_device_message_count == 50
    with pytest.raises(Exception, match="C2D message send failure"):
        service.send_c2d_message(name, "50")
    received: list[Message] = []
    device = hub.device(name)
    device.on_message_received = received.append
    eventually("all of them", lambda: len(received) == 50)
    assert [message.data for message in received] == [str(number).encode() for number in range(50)]
    device.shutdown()


def test_a_message_to_no_device_is_rejected(service: IoTHubRegistryManager):
    with pytest.raises(Exception, match="C2D message send failure"):
        service.send_c2d_message("nobody", "x")


def test_a_method_gets_what_the_device_answers(
    hub: Standin, service: IoTHubRegistryManager, device: IoTHubDeviceClient, request
):
    def answer(call) -> None:
        device.send_method_response(
            MethodResponse.create_from_method_request(call, 207, {"echo": [call.name, call.payload]}))

    device.on_method_request_received = answer
    result = service.invoke_device_method(request.node.name, method("echo", {"a": "é"}, connect=5))
    assert (result.status, result.payload) == (207, {"echo": ["echo", {"a": "é"}]})


def test_methods_that_fail_say_why(hub: Standin, service: IoTHubRegistryManager, device: IoTHubDeviceClient, request):
    call = method("m")
    with pytest.raises(HttpOperationError) as caught:
        service.invoke_device_method("nobody", call)
    assert "ErrorCode:DeviceNotFound" in refused(404, "DeviceNotFound", caught.value)["Message"]
    # Connected, but without a handler for methods.
    with pytest.raises(HttpOperationError) as caught:
        service.invoke_device_method(request.node.name, call)
    assert json.loads(refused(404, "DeviceNotOnline", caught.value)["Message"])["errorCode"] == 404103
    # With a handler that does not answer.
    device.on_method_request_received = lambda call: None
    with pytest.raises(HttpOperationError) as caught:
        service.invoke_device_method(request.node.name, method("m", connect=5))
    assert json.loads(refused(504, "GatewayTimeout", caught.value)["Message"])["errorCode"] == 504101
    hub.fault("throttle-methods", seconds=60, retryAfter=1)
    with pytest.raises(HttpOperationError) as caught:
        service.protocol.config.retry_policy.policy.total = 0
        service.invoke_device_method(request.node.name, call)
    hub.fault("clear")
    refused(429, "ThrottlingException", caught.value)


def test_twins_go_both_ways(service: IoTHubRegistryManager, device: IoTHubDeviceClient, request):
    patches: list[dict] = []
    device.on_twin_desired_properties_patch_received = patches.append
    assert device.get_twin() == {"desired": {"$version": 1}, "reported": {"$version": 1}}
    device.patch_twin_reported_properties({"firmware": {"version": "1.2"}})
    twin = service.get_twin(request.node.name)
    assert twin.properties.reported["firmware"] == {"version": "1.2"}
    wanted = Twin(tags={"site": "north"}, properties=TwinProperties(desired={"rate": 5}))
    changed = service.update_twin(request.node.name, wanted, twin.etag)
    assert changed.tags == {"site": "north"}
    eventually("the patch", lambda: patches == [{"rate": 5, "$version": 2}])
    assert device.get_twin()["desired"] == {"rate": 5, "$version": 2}
    with pytest.raises(HttpOperationError) as caught:
        service.update_twin(request.node.name, wanted, twin.etag)
    refused(412, "PreconditionFailed", caught.value)


# ---- the registry ----


def test_devices_and_modules_are_registered_changed_and_removed(service: IoTHubRegistryManager, request):
    name = request.node.name
    keys = [base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
    made = service.create_device_with_sas(name, *keys, "enabled")
    assert isinstance(made, Device) and made.device_id == name
    assert [made.authentication.symmetric_key.primary_key, made.authentication.symmetric_key.secondary_key] == keys
    with pytest.raises(HttpOperationError) as caught:
        service.create_device_with_sas(name, *keys, "enabled")
    refused(409, "DeviceAlreadyExists", caught.value)
    changed = service.update_device_with_sas(name, made.etag, *keys, "disabled")
    assert (changed.status, changed.etag != made.etag) == ("disabled", True)
    with pytest.raises(HttpOperationError) as caught:
        service.update_device_with_sas(name, made.etag, *keys, "enabled")
    refused(412, "PreconditionFailed", caught.value)
    assert name in [one.device_id for one in service.get_devices(1000)]
    service.create_module_with_sas(name, "module", "", *keys)
    assert [one.module_id for one in service.get_modules(name)] == ["module"]
    service.delete_device(name)
    for gone in (lambda: service.get_device(name), lambda: service.get_module(name, "module")):
        with pytest.raises(HttpOperationError) as caught:
            gone()
        assert caught.value.response.status_code == 404


def test_who_has_a_wrong_key_or_too_few_rights_is_refused(hub: Standin, request):
    # The SDK puts its token as it connects, so that a wrong key already shows there.
    with pytest.raises(Exception, match=re.compile("unauthorized|authent|401", re.I)):
        hub.service(key=WRONG_KEY).get_device("any")
    with pytest.raises(HttpOperationError) as caught:
        hub.service(policy="service").get_device("any")
    refused(401, "IotHubUnauthorizedAccess", caught.value)
    with pytest.raises(CredentialError):
        hub.device(request.node.name, WRONG_KEY, connection_retry=False)


def test_disabled_devices_are_cut_off(hub: Standin, service: IoTHubRegistryManager, device: IoTHubDeviceClient, request):
    assert service.get_device(request.node.name).connection_state == "Connected"
    known = service.get_device(request.node.name)
    keys = known.authentication.symmetric_key
    service.update_device_with_sas(
        request.node.name, known.etag, keys.primary_key, keys.secondary_key, "disabled")
    eventually("the device is gone", lambda: not device.connected)
    assert service.get_device(request.node.name).connection_state == "Disconnected"


# ---- the built-in endpoint, by the hub's redirect (uAMQP, which azure-iot-hub brings) ----


def service_password(hub: Standin, resource: str, policy: str = "service", key: str | None = None) -> str:
    """A token for a resource of the hub, as Microsoft's samples sign it."""
    signed, expires = quote(resource, safe=""), str(int(time.time()) + 300)
    mac = hmac.new(base64.b64decode(key or hub.key), f"{signed}\n{expires}".encode(), hashlib.sha256)
    signature = quote(base64.b64encode(mac.digest()), safe="")
    return f"SharedAccessSignature sr={signed}&sig={signature}&se={expires}&skn={policy}"


def receive(address: str, auth, offset: str = "-1") -> list[uamqp.Message]:
    source = uamqp.address.Source(address)
    source.set_filter(f"amqp.annotation.x-opt-offset > '{offset}'".encode())
    client = uamqp.ReceiveClient(source, auth=auth, timeout=10_000)
    try:
        return client.receive_message_batch(max_batch_size=10, timeout=10_000)
    finally:
        client.close()


def test_who_looks_for_telemetry_at_the_hub_is_sent_to_the_built_in_endpoint(hub: Standin, device: IoTHubDeviceClient):
    partition = sent_to(hub, device, range(3))
    for signed_for, node in [
        (HUB, f"ConsumerGroups/{GROUP}/Partitions/{partition}"),
        (f"{HUB}/messages/events", f"ConsumerGroups/{GROUP}/Partitions/{partition}"),
        (f"{HUB}/messages/events", "$management"),
    ]:
        login = uamqp.authentication.SASLPlain(
            HUB, f"service@sas.root.{HUB}", service_password(hub, signed_for), verify=str(hub.ca_file))
        with pytest.raises(uamqp.errors.LinkRedirect) as caught:
            receive(f"amqps://{HUB}/messages/events/{node}", login)
        redirect = caught.value
        assert (redirect.hostname, redirect.network_host, redirect.port) == (EVENTS.encode(), EVENTS.encode(), b"5671")
        assert redirect.address == f"amqps://{EVENTS}:5671/telemetry/{node}".encode()
        if node != "$management":
            # The same key, now signing as it is written.
            auth = uamqp.authentication.SASTokenAuth.from_shared_access_key(
                redirect.address.decode(), "service", hub.key, verify=str(hub.ca_file))
            last = receive(redirect.address.decode(), auth)[-1]
            assert b"".join(last.get_data()) == b"2"


@pytest.mark.parametrize(("policy", "key", "user"), [
    ("registry", None, f"registry@sas.root.{HUB}"),  # lacks the right Service connect
    ("service", WRONG_KEY, f"service@sas.root.{HUB}"),
    ("service", None, f"iothubowner@sas.root.{HUB}"),  # signed by another
    ("service", None, "service@sas.root.another-hub"),
    ("service", None, "service"),
])
def test_who_may_not_read_telemetry_is_not_told_where_it_is(
    hub: Standin, policy: str, key: str | None, user: str
):
    password = service_password(hub, f"{HUB}/messages/events", policy, key)
    login = uamqp.authentication.SASLPlain(HUB, user, password, verify=str(hub.ca_file))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - uAMQP has several for it
        receive(f"amqps://{HUB}/messages/events/$management", login)
    assert not isinstance(caught.value, uamqp.errors.LinkRedirect)
