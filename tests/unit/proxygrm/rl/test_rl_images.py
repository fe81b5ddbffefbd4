"""Which folder the proxy's replicas may read the pairs' images from."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from proxygrm.rl.images import image_folder


def training_file(path: Path, *rows: list[str]) -> Path:
    extra = [{"question": "Colour?", "images": [str(image) for image in row]} for row in rows]
    kind = pa.struct([("question", pa.string()), ("images", pa.list_(pa.string()))])
    pq.write_table(pa.table({"extra_info": pa.array(extra, kind)}), path, row_group_size=1)
    return path


def test_the_folder_is_the_deepest_with_the_images_of_all_files(tmp_path: Path) -> None:
    root = tmp_path / "it's ü [1]"
    for name in ("train/a", "train/b", "val"):
        (root / name).mkdir(parents=True)
    train = training_file(tmp_path / "t.parquet", [root / "train/a/1.png"], [], [root / "train/b/2.png"] * 2)
    val = training_file(tmp_path / "v.parquet", [root / "val/3.png"])
    assert image_folder(train) == root / "train"
    assert image_folder(train, val) == root


def test_links_are_followed_because_the_replicas_follow_them_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert image_folder(training_file(tmp_path / "t.parquet", [tmp_path / "link/1.png"])) == tmp_path / "real"


def test_without_a_folder_of_their_own_images_go_as_bytes(tmp_path: Path) -> None:
    rows = [[], ["relative/1.png"], [f"{tmp_path}/gone/1.png"], ["/bin/1.png", f"{tmp_path}/1.png"]]
    assert [image_folder(training_file(tmp_path / "t.parquet", row)) for row in rows] == [None] * 4
