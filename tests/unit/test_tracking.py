from __future__ import annotations

import os
import subprocess
import sys

import pytest

from proxygrm.errors import UserError
from proxygrm.tracking import KEY_FILE_VARIABLE, KEY_VARIABLE, api_key

RECORD = """
import sys
from pathlib import Path
from proxygrm.tracking import track
with track("evaluate", Path(sys.argv[1]), {"pairs": "a"}) as run:
    run.log({"eval/accuracy": 0.5}, step=0)
    run.log({"eval/accuracy": 0.75}, step=1)
"""


def test_a_run_is_recorded_without_account_network_or_terminal(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SWANLAB")} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", RECORD, str(tmp_path / "out")],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
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


@pytest.mark.parametrize(("content", "mode", "words"), [("secret", 0o644, "chmod 600"), (" \n", 0o600, "is empty")])
def test_a_key_file_that_others_can_read_or_that_is_empty_is_refused(tmp_path, monkeypatch, content, mode, words):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    path = tmp_path / "key"
    path.write_text(content)
    path.chmod(mode)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(path))
    with pytest.raises(UserError, match=words) as error:
        api_key()
    assert "secret" not in str(error.value)


def test_a_key_file_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.setenv(KEY_FILE_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(UserError, match="cannot be read"):
        api_key()
