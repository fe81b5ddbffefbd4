"""Files of each kind that a crash has torn; a stage with such an artifact is not done."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jobs.engine.run_folder.ledger import Done, Ledger
from jobs.engine.stage import Artifact, Stage, exists
from proxygrm.core.checkpoints import torn
from proxygrm.core.checkpoints.torn import refuse_torn, why_torn
from proxygrm.core.errors import UserError
from proxygrm.core.files.durable import MAX_SINGLE_SYNCS, move_into_place, sync_tree
from proxygrm.core.files.whole_file import whole_file, write_text
from proxygrm.core.images.store import ImageStore
from slurm.sbatch import Resources


def content_of(name: str) -> bytes:
    out = io.BytesIO()
    match name.rpartition(".")[2]:
        case "parquet":
            pq.write_table(pa.table({"x": [str(number) for number in range(5000)]}), out, compression="none")
        case "png":
            Image.effect_noise((64, 64), 90).save(out, "png")
        case "pt":
            with zipfile.ZipFile(out, "w") as archive:
                archive.writestr("data", os.urandom(9000))
        case "json":
            out.write(json.dumps({"x": "y" * 9000}).encode())
        case _:
            out.write(b'{"x": 1}\n' * 2000)
    return out.getvalue()


def emptied(data: bytes) -> bytes:
    return b""


def zeroed(data: bytes) -> bytes:
    return bytes(len(data))


def with_a_zero_tail(data: bytes) -> bytes:
    keep = len(data) // 2
    return data[:keep] + bytes(len(data) - keep)


def cut_off(data: bytes) -> bytes:
    return data[:-3]


NAMES = ["rows.parquet", "one.png", "state.pt", "summary.json", "rows.jsonl"]


@pytest.mark.parametrize("tear", [emptied, zeroed, with_a_zero_tail, cut_off])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", [False, True])
def test_an_artifact_that_a_crash_has_torn_is_not_usable(
    tmp_path: Path, name: str, tear: Callable[[bytes], bytes], folder: bool
) -> None:
    artifact = Artifact("made" if folder else name)
    file = tmp_path / "it" / ("made" if folder else "") / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content_of(name))
    stage, ledger = Stage("it", print, (artifact,), Resources()), Ledger(tmp_path)
    ledger.write_done(stage, Done("it", stage.fingerprint(), 0, 1.0, 2.0, "7", ["n"], 1))
    assert ledger.unfinished(stage, stage.fingerprint()) is None
    file.write_bytes(tear(content_of(name)))
    assert "is not usable: " in str(ledger.unfinished(stage, stage.fingerprint()))
    with pytest.raises(UserError):
        exists(tmp_path / "it" / artifact.path)


def test_files_of_unknown_kinds_pass_unless_they_are_all_zeros(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("x")
    (tmp_path / "zeros").write_bytes(bytes(20_000))
    exists(tmp_path / "word")
    with pytest.raises(UserError, match="zeros has only zeros"):
        exists(tmp_path / "zeros")


def test_the_first_torn_file_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    refuse_torn(tmp_path)
    assert why_torn(tmp_path) == ""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.jsonl").write_text('{"half')
    with pytest.raises(ValueError, match=r"^b\.jsonl ends in the middle of a line"):
        refuse_torn(tmp_path)
    assert why_torn(tmp_path) == "below/b.jsonl ends in the middle of a line"
    with pytest.raises(ValueError, match=r"^b\.jsonl ends"):
        refuse_torn(tmp_path / "below" / "b.jsonl")


def test_what_another_process_removes_meanwhile_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan looks at a folder that a job is writing: its scratch files are renamed, its folders of parts go."""
    (tmp_path / "kept.json").write_text("{}")
    (tmp_path / "scratch.json").write_text("{}")
    (tmp_path / "parts" / "deeper").mkdir(parents=True)
    scandir, look = os.scandir, torn.torn

    def gone(folder: str | Path | int) -> object:
        if not isinstance(folder, int) and Path(folder).name == "parts":  # a number is rmtree's own
            shutil.rmtree(folder, ignore_errors=True)
        return scandir(folder)

    def looked_at_too_late(file: Path) -> str:
        if file.name == "scratch.json":
            file.unlink()
        return look(file)

    monkeypatch.setattr(os, "scandir", gone)
    monkeypatch.setattr(torn, "torn", looked_at_too_late)
    refuse_torn(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]


def test_a_file_that_is_named_and_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        refuse_torn(tmp_path / "nothing.json")


def test_a_tree_is_synced_file_by_file_and_a_large_one_by_one_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def recorded(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    (tmp_path / "model" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b"):
        (tmp_path / "model" / name).write_text("x")
    (tmp_path / "model" / "nowhere").symlink_to("gone")
    (tmp_path / "lone").write_text("x")
    assert sync_tree([tmp_path / "model", tmp_path / "lone", tmp_path / "not there"]) == 4
    inside = ["lone", "model", "model/a", "model/deep", "model/deep/b"]
    assert sorted(synced) == sorted([str(tmp_path), *(str(tmp_path / name) for name in inside)])
    synced.clear()
    for number in range(MAX_SINGLE_SYNCS):
        (tmp_path / "model" / f"{number}").touch()
    assert sync_tree([tmp_path / "model"]) == MAX_SINGLE_SYNCS + 3
    assert len(synced) in (0, MAX_SINGLE_SYNCS + 2 + 3)  # the second where the system has no syncfs


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    existed: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: existed.append((tmp_path / "a").exists()))
    with whole_file(tmp_path / "a") as scratch:
        scratch.write_text("x")
    assert existed == [False]


def test_a_folder_moved_into_place_replaces_the_old_one(tmp_path: Path) -> None:
    for name in ("model", "scratch"):
        (tmp_path / name).mkdir()
        write_text(tmp_path / name / name, "x")
    move_into_place(tmp_path / "scratch", tmp_path / "model")
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["model", "model/scratch"]


def test_an_image_that_a_crash_has_emptied_is_stored_again(tmp_path: Path) -> None:
    data = content_of("a.png")
    name = ImageStore(tmp_path).add(data)
    (tmp_path / "images" / name).write_bytes(b"")
    assert ImageStore(tmp_path).add(data) == name
    assert (tmp_path / "images" / name).read_bytes() == data
