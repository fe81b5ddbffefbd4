"""A file that the system does not let us read may be intact: the error does not call it damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_tools.ingest.raw_rows import scan_files
from data_tools.inspect.kinds import kind_of
from data_tools.rows.preference import iter_pairs, write_pairs
from jobs.engine.run_folder.records import read_json
from jobs.engine.watch.known_failures import FAILURES
from proxygrm.core.errors import UserError
from proxygrm.core.pairs import count_pairs
from slurm.health.preflight.bad_nodes import NAME, read

DAMAGED = ("damaged", "not whole", "complete parquet", "again", "delete", "remove")
RECORDS = [(read_json, "DONE.json"), (lambda path: read(path.parent), NAME)]
PARQUET: list[Callable[[Path], Any]] = [
    count_pairs,
    lambda path: list(iter_pairs(path)),
    kind_of,
    lambda path: scan_files(path, "a parquet", ((),)),
]


def message_of(reader: Callable[[Path], Any], path: Path) -> str:
    with pytest.raises(UserError) as caught:
        reader(path)
    return str(caught.value)


@pytest.mark.parametrize(("reader", "name"), RECORDS)
def test_an_unreachable_record_is_distinguished_from_a_torn_one(tmp_path, reader, name):
    path = tmp_path / name
    path.write_text('{"torn": ')
    assert "it is not JSON" in message_of(reader, path)
    path.unlink()
    path.symlink_to(name)
    assert "Too many levels of symbolic links" in message_of(reader, path)
    assert not any(word in message_of(reader, path) for word in DAMAGED)


@pytest.mark.parametrize("reader", PARQUET)
def test_a_truncated_parquet_file_must_be_written_or_downloaded_again(tmp_path, reader):
    write_pairs(tmp_path, [])
    path = tmp_path / "pairs.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert "again" in message_of(reader, path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("reader", PARQUET)
def test_a_parquet_file_of_another_user_is_forbidden(tmp_path, reader):
    write_pairs(tmp_path, [])
    path = tmp_path / "pairs.parquet"
    path.chmod(0)
    assert "Permission denied" in message_of(reader, path)
    assert not any(word in message_of(reader, path) for word in DAMAGED)


def test_why_distinguishes_a_forbidden_checkpoint_from_a_damaged_one():
    def named(line: str) -> str:
        return next(known.name for known in FAILURES if known.shows.search(line))

    assert named("grm_sft failed: the checkpoint at /m cannot be read: config.json: Permission denied; see to it") == (
        "permission"
    )
    assert named("the checkpoint at /m cannot be read: Stale file handle; see to it") == "file system trouble"
    assert named("the checkpoint at /m is damaged: config.json names no model_type") == "damaged checkpoint"
