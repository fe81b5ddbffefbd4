"""The sentences of this room's errors, each exactly once; other tests compare codes and values."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from proxygrm.core.runtime import tracking
from proxygrm.core.runtime.child_process import ChildProcess


def key_error(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    monkeypatch.delenv(tracking.KEY_VARIABLE, raising=False)
    monkeypatch.setenv(tracking.KEY_FILE_VARIABLE, str(path))
    with pytest.raises(UserError) as caught:
        tracking.api_key()
    return f"{caught.value.code}: {caught.value}"


def test_key_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = tmp_path / "key"
    assert key_error(monkeypatch, key) == (
        f"tracking.key-file-unreadable: SWANLAB_API_KEY_FILE names {key}, which cannot be read: No such file or "
        "directory"
    )
    key.touch(mode=0o644)
    assert key_error(monkeypatch, key) == (
        f"tracking.key-file-not-private: other users can read {key} (mode 644); run: chmod 600 {key}"
    )
    key.chmod(0o600)
    assert key_error(monkeypatch, key) == (
        f"tracking.key-file-empty: {key} is empty; put the SwanLab key in it, or unset SWANLAB_API_KEY_FILE"
    )


def test_an_unknown_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tracking.MODE_VARIABLE, "off")
    with pytest.raises(UserError) as caught:
        tracking.requested_mode()
    assert f"{caught.value.code}: {caught.value}" == (
        "tracking.unknown-mode: SWANLAB_MODE is 'off'; SwanLab knows online, offline, local, disabled, cloud"
    )


def test_a_failed_child(tmp_path: Path) -> None:
    child = ChildProcess(["sh", "-c", "echo ValueError: no rows; exit 3"], tmp_path / "log")
    child.wait(60)
    with pytest.raises(UserError) as caught:
        child.raise_if_failed("the trainer")
    assert f"{caught.value.code}: {caught.value}" == (
        f"child.failed: the trainer ended with exit code 3: ValueError: no rows (log: {tmp_path}/log)"
    )
