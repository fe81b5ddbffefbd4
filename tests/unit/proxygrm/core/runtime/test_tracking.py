from __future__ import annotations

import os
import subprocess
import sys

import pytest

from proxygrm.core.runtime.tracking import (
    KEY_FILE_VARIABLE,
    KEY_VARIABLE,
    MODE_VARIABLE,
    api_key,
    choose_mode,
    requested_mode,
    track,
)
from support.refusals import refused

pytestmark = pytest.mark.slow

RECORD = """
import sys
from pathlib import Path
from proxygrm.core.runtime.tracking import track
with track("evaluate", Path(sys.argv[1]), {"pairs": "a"}) as run:
    run.log({"eval/accuracy": 0.5}, step=0)
    run.log({"eval/accuracy": 0.75}, step=1)
"""


@pytest.mark.needs("swanlab")
def test_a_run_is_recorded_without_account_network_or_terminal(tmp_path):
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(tmp_path / "out")],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr
    (record,) = (tmp_path / "out" / "swanlog").glob("run-*/*.swanlab")
    assert b"eval/accuracy" in record.read_bytes()


def test_the_key_comes_from_the_environment_or_a_private_file(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(KEY_FILE_VARIABLE, raising=False)
    assert api_key() is None
    path = tmp_path / "key"
    path.write_text("secret\n")
    path.chmod(0o600)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(path))
    assert api_key() == "secret"
    monkeypatch.setenv(KEY_VARIABLE, "other")
    assert api_key() == "other"


@pytest.mark.parametrize(
    ("content", "mode", "code"),
    [("secret", 0o644, "tracking.key-file-not-private"), (" \n", 0o600, "tracking.key-file-empty")],
)
def test_a_key_file_that_others_can_read_or_that_is_empty_is_refused(tmp_path, monkeypatch, content, mode, code):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(mode)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(path))
    with refused(code, path=path) as error:
        api_key()
    assert "secret" not in str(error.value)


def test_a_missing_key_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "gone"))
    with refused("tracking.key-file-unreadable", path=tmp_path / "gone"):
        api_key()


@pytest.fixture(name="swanlab")
def _swanlab(tmp_path, monkeypatch):
    """SwanLab as installed, with a key that is good and no settings of this machine's user; `init` says its mode."""
    import swanlab

    class Run:
        def log(self, *_, **__):
            pass

    seen = []
    for name in [name for name in os.environ if name.startswith("SWANLAB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(KEY_VARIABLE, "k")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(swanlab, "login", lambda **_: None)
    monkeypatch.setattr(swanlab, "finish", lambda **_: None)
    monkeypatch.setattr(swanlab, "init", lambda **given: (seen.append(given["mode"]), Run())[1])
    return seen


@pytest.mark.parametrize(
    ("setting", "mode"),
    [("offline", "offline"), ("disabled", "disabled"), ("local", "local"), ("online", "online"), ("cloud", "online"),
     ("'offline'", "offline"), ('"disabled"', "disabled"), ("", "online"), (None, "online")],
)  # fmt: skip
def test_swanlabs_own_mode_wins_over_a_key_and_without_one_the_key_decides(
    swanlab, tmp_path, monkeypatch, setting, mode
):
    if setting is not None:
        monkeypatch.setenv(MODE_VARIABLE, setting)
    with track("r", tmp_path / "out", {}) as run:
        run.log({"a": 1.0}, step=0)
    assert swanlab == [mode]


def test_a_mode_in_a_file_that_swanlab_reads_counts_like_the_variable(swanlab, tmp_path):
    (tmp_path / "swanlab.yaml").write_text("mode: disabled\n")
    assert choose_mode(tmp_path) == "disabled"
    (tmp_path / "swanlab.yaml").unlink()
    (tmp_path / ".env").write_text("SWANLAB_MODE=offline\n")
    assert choose_mode(tmp_path) == "offline"


def test_without_a_key_even_a_mode_of_online_stays_here_with_a_warning(swanlab, tmp_path, monkeypatch, caplog):
    monkeypatch.delenv(KEY_VARIABLE)
    monkeypatch.setenv(MODE_VARIABLE, "online")
    assert choose_mode(tmp_path) == "offline"
    assert "SWANLAB_API_KEY is not set" in caplog.text


@pytest.mark.parametrize("value", ["OFFLINE", "none", "off", "0", " offline"])
def test_an_unknown_mode_is_one_line_and_sends_nothing(swanlab, tmp_path, monkeypatch, value):
    monkeypatch.setenv(MODE_VARIABLE, value)
    with refused("tracking.unknown-mode", value=value) as error:
        requested_mode()
    assert "\n" not in str(error.value)
    assert swanlab == []


def test_a_disabled_mode_reaches_ms_swift_and_verl(swanlab, tmp_path, monkeypatch):
    from proxygrm.sft.arguments import swift_arguments
    from proxygrm.sft.settings import SftSettings

    for mode, words in (
        ("disabled", ("none", "local")),
        ("offline", ("swanlab", "local")),
        ("online", ("swanlab", "cloud")),
    ):
        given = swift_arguments(SftSettings.demo(), tmp_path, tmp_path / "r", tmp_path / "o", "cpu", mode)
        found = dict(zip(given[::2], given[1::2], strict=True))
        assert (found["--report_to"], found["--swanlab_mode"]) == words


def test_every_process_that_starts_a_library_is_told_not_to_send_statistics(tmp_path):
    from proxygrm.core.runtime.telemetry import NO_TELEMETRY
    from proxygrm.serving.replicas.command import ReplicaSpec, serve_environment
    from proxygrm.serving.settings import ProxySettings
    from proxygrm.sft.arguments import environment
    from proxygrm.sft.settings import SftSettings

    spec = ReplicaSpec("p", "node", "model", "127.0.0.1", "cpu", (), tmp_path, ProxySettings())
    assert serve_environment(spec, "key", {}).items() >= NO_TELEMETRY.items()
    assert environment(SftSettings.demo(), tmp_path, "cpu", given={}).items() >= NO_TELEMETRY.items()
    ask = (
        "from vllm.usage.usage_lib import is_usage_stats_enabled as vllm; import huggingface_hub.constants as hub;"
        "from ray._common.usage.usage_lib import usage_stats_enabled as ray;"
        "print(vllm(), ray(), not hub.HF_HUB_DISABLE_TELEMETRY)"
    )
    environment_ = os.environ | NO_TELEMETRY | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", ask], env=environment_, capture_output=True, text=True, timeout=900)
    assert done.stdout.split()[-3:] == ["False", "False", "False"], done.stderr
