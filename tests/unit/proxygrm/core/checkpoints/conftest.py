from __future__ import annotations

from pathlib import Path

import pytest

from support.small_checkpoints import write_checkpoint


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path)
