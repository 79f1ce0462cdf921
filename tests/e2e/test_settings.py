"""A bad settings file: the connector exits with 64 and one line that names the field."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAMS = Path(os.environ["PROGRAMS"])

GOOD = """
hubThingName: FactoryHub
routingGroup: Factory
thingworx:
  endpoints: [wss://127.0.0.1:1/Thingworx/WS]
  appKey: {file: %(secret)s}
iotHub:
  connectionString: {file: %(secret)s}
  eventHubs: {connectionString: {file: %(secret)s}, consumerGroup: thingworx}
checkpoints: {file: {path: %(folder)s/checkpoints.json}}
"""


def run(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess:
    settings = folder / "settings.yaml"
    settings.write_text(text)
    return subprocess.run(
        [PROGRAMS / "azure-iot-hub-connector", "--config", settings, "--listen", "127.0.0.1:0", *arguments],
        capture_output=True, text=True, timeout=20,
    )


@pytest.mark.parametrize(
    ("good", "bad", "named"),
    [
        ("routingGroup: Factory", "routingGroup: null", "routingGroup: is null"),
        ("routingGroup: Factory", "routingGroup: ''", "routingGroup: is empty"),
        ("hubThingName: FactoryHub", "", "hubThingName"),
        ("wss://", "https://", "thingworx.endpoints[0]"),
        ("consumerGroup: thingworx", "consumerGroup: thingworx, colour: red", "iotHub.eventHubs.colour"),
        ("checkpoints:", "  messages: {mapping: '{a: env}'}\ncheckpoints:", "iotHub.messages.mapping: line 1, column 5"),
        ("hubThingName", "\thubThingName", "settings"),
    ],
)
def test_bad_settings_exit_64_and_name_the_field(tmp_path: Path, good: str, bad: str, named: str):
    secret = tmp_path / "secret"
    secret.write_text("x")
    text = GOOD % {"secret": secret, "folder": tmp_path}
    assert run(tmp_path, text, "--check").returncode == 0
    done = run(tmp_path, text.replace(good, bad, 1))
    assert done.returncode == 64, done
    assert named in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_secret_that_is_no_connection_string_exits_64_without_showing_it(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("HostName=hub.example;SharedAccessKey=c2VjcmV0LWNhbmFyeQ==")
    done = run(tmp_path, GOOD % {"secret": secret, "folder": tmp_path})
    assert done.returncode == 64, done
    assert "iotHub.connectionString" in done.stderr
    assert "c2VjcmV0" not in done.stderr + done.stdout


def test_a_missing_secret_file_exits_64_and_names_it(tmp_path: Path):
    done = run(tmp_path, GOOD % {"secret": tmp_path / "nowhere", "folder": tmp_path})
    assert done.returncode == 64, done
    assert "nowhere" in done.stderr and "iotHub.connectionString" in done.stderr
