"""What `proxygrm cluster up` tells people to type."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from jobs.cli.main import main


@pytest.mark.parametrize("elsewhere", [False, True])
def test_up_prints_the_command_that_points_at_the_very_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    monkeypatch.setattr(
        "jobs.cli.cluster._local", lambda folder: (SimpleNamespace(up=lambda where, temporary: None), tmp_path / "a b")
    )
    said = CliRunner().invoke(main, ["cluster", "up", *(["--dir", str(tmp_path / "a b")] if elsewhere else [])]).output
    assert (f"proxygrm cluster env --dir '{tmp_path}/a b'" in said) == elsewhere
    assert (f"export PROXYGRM_CLUSTER_DIR='{tmp_path}/a b'" in said) == elsewhere
