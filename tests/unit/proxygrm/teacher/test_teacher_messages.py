"""The sentences of the errors about critique files and shards, once; other tests compare codes and values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from proxygrm.core.errors import UserError
from proxygrm.teacher.critiques import append, critique_row, read_critiques, read_line, resume
from proxygrm.teacher.distill import shard_of

FILE = Path("c.jsonl")


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def written(row_id: str, model: str) -> Path:
    FILE.unlink(missing_ok=True)
    append(FILE, [critique_row(row_id, "<rubric>", model)])
    return FILE


MESSAGES = [
    (lambda: read_line(b"{}", FILE, 2), "critique.bad-row",
     "c.jsonl line 2 is not a critique (it has no id and no critique); remove that line and rerun"),
    (lambda: read_line(b"[]", FILE, 3), "critique.bad-row",
     "c.jsonl line 3 is not a critique (not a JSON object); remove that line and rerun"),
    (lambda: read_line(line(id=7, critique="x"), FILE, 4), "critique.bad-row",
     "c.jsonl line 4 is not a critique (id, critique and model must be strings); remove that line and rerun"),
    (lambda: list(read_critiques(Path("gone.jsonl"))), "file.missing",
     "gone.jsonl does not exist; distill the shard first"),
    (lambda: resume(written("p9", "m"), {"p1"}, "m"), "critique.other-shard",
     "c.jsonl holds 'p9', which is not in this shard; the pairs or the number of shards changed: use another folder, "
     "or remove the file"),
    (lambda: resume(written("p1", "m"), {"p1"}, "n"), "critique.other-model",
     "c.jsonl was written by 'm', not 'n'; use another folder, or remove the file"),
    (lambda: shard_of([], 2, 2), "teacher.no-such-shard",
     "shard 2 of 2 does not exist; shards are numbered 0 to 1"),
]  # fmt: skip


@pytest.mark.parametrize(("raises", "code", "message"), MESSAGES, ids=[message[:40] for _, _, message in MESSAGES])
def test_messages_are_as_written_here(raises, code, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        raises()
    assert (caught.value.code, str(caught.value)) == (code, message)
