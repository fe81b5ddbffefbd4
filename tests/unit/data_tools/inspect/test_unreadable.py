"""What the system does not let us read may be whole: it is not called damaged, and nobody is sent to make it again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.ingest.raw_rows import survey
from data_tools.inspect.kinds import kind_of
from data_tools.rows.preference import iter_pairs, write_pairs
from jobs.engine.run_folder.ledger import read_json
from jobs.engine.watch.known_failures import FAILURES
from proxygrm.core.errors import UserError
from proxygrm.core.pairs import count_pairs
from slurm.health.preflight.bad_nodes import NAME, read

AGAIN = ("damaged", "not whole", "again", "delete", "remove")
RECORDS = [(read_json, "DONE.json"), (lambda path: read(path.parent), NAME)]
PARQUET: list[Callable[[Path], Any]] = [
    count_pairs,
    lambda path: list(iter_pairs(path)),
    kind_of,
    lambda path: survey(path, "a parquet", ((),)),
]


def said(read_it: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(UserError) as told:
        read_it(path)
    return str(told.value)


@pytest.mark.parametrize(("reader", "name"), RECORDS)
def test_a_record_that_cannot_be_reached_is_told_apart_from_a_torn_one(tmp_path, reader, name):
    path = tmp_path / name
    path.write_text('{"torn": ')
    assert "it is not JSON" in said(reader, path)
    path.unlink()
    path.symlink_to(name)
    assert "Too many levels of symbolic links" in said(reader, path)
    assert not any(word in said(reader, path) for word in AGAIN)


@pytest.mark.parametrize("reader", PARQUET)
def test_a_parquet_that_is_cut_off_is_said_to_be_and_to_be_made_again(tmp_path, reader):
    write_pairs(tmp_path, [])
    path = tmp_path / "pairs.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert "again" in said(reader, path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("reader", PARQUET)
def test_a_parquet_of_somebody_else_is_said_to_be_forbidden(tmp_path, reader):
    write_pairs(tmp_path, [])
    path = tmp_path / "pairs.parquet"
    path.chmod(0)
    assert "Permission denied" in said(reader, path)
    assert not any(word in said(reader, path) for word in AGAIN)


def test_why_tells_a_forbidden_checkpoint_from_a_damaged_one():
    def named(line: str) -> str:
        return next(known.name for known in FAILURES if known.shows.search(line))

    assert named("grm_sft failed: the checkpoint at /m cannot be read: config.json: Permission denied; see to it") == (
        "permission"
    )
    assert named("the checkpoint at /m cannot be read: Stale file handle; see to it") == "file system trouble"
    assert named("the checkpoint at /m is damaged: config.json names no model_type") == "damaged checkpoint"
