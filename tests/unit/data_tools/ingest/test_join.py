from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from data_tools.ingest.join import join
from data_tools.rows.preference import read_pairs
from jobs.cli.data import data
from proxygrm.core.errors import UserError
from support.refusals import refused
from support.rows.filter_pairs import folder, pair, scene

IMAGES = {"1": scene(1), "2": scene(2), "3": scene(3)}


@pytest.fixture
def three(tmp_path):
    """Rows of three folders; images 1 and 2 are in two of them each."""
    rows = [
        [pair(f"a{i}", images=["1", "2"]) for i in range(3000)],
        [pair("b1", images=["2"], label=2), pair("b2")],
        [pair("c1", "ünï <image>", images=["3", "1"])],
    ]
    return [folder(tmp_path / name, some, IMAGES) for name, some in zip("abc", rows, strict=True)]


def test_folders_become_one_with_every_row_and_image(three, tmp_path):
    report = join(three, tmp_path / "out")
    rows = [row for one in three for row in read_pairs(one)]
    assert read_pairs(tmp_path / "out") == rows
    assert list(report["folders"].values()) == [3000, 2, 1]
    assert (report["kept"], report["images"]) == (3003, 3)
    assert report["labels"] == {str(label): sum(row.label == label for row in rows) for label in (1, 2)}
    assert sum(report["sources"].values()) == 3003
    assert json.loads((tmp_path / "out" / "join.json").read_text()) == report
    for row in read_pairs(tmp_path / "out"):
        for path in row.image_paths(tmp_path / "out"):
            assert path.is_file()
    names = {path.name for path in (tmp_path / "out" / "images").iterdir()}
    assert names == {name for row in rows for name in row.images}
    assert all((tmp_path / "out" / "images" / name).stat().st_nlink > 1 for name in names)


def test_the_command_prints_the_counts(three, tmp_path):
    done = CliRunner().invoke(data, ["join", *map(str, three), "--out", str(tmp_path / "out")], terminal_width=200)
    assert done.exception is None, done.output
    assert "3,003" in done.output


def test_repeated_ids_a_folder_twice_and_the_output_among_the_inputs_are_refused(three, tmp_path):
    same = folder(tmp_path / "same", [pair("b2", "other"), pair("d")], IMAGES)
    with refused("data.repeated-ids", count=1, first="s:b2", folders=[str(three[1]), str(same)]):
        join([*three, same], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for folders in ([three[0], three[0]], three[:1]):
        with refused("data.join-inputs", folders=list(map(str, folders))):
            join(folders, tmp_path / "out")
    with refused("option.out-is-input", path=tmp_path / "b"):
        join(three, tmp_path / "b")
    with pytest.raises(UserError, match="does not exist"):
        join([three[0], tmp_path / "none"], tmp_path / "out")
    (three[2] / "images" / read_pairs(three[2])[0].images[0]).unlink()
    with refused("image.missing", path=three[2] / "images"):
        join(three, tmp_path / "out")
    assert not (tmp_path / "out" / "pairs.parquet").exists()
