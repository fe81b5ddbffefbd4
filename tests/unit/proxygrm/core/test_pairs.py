from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_tools.ingest.run import ingest
from data_tools.rows.preference import ImageStore, PreferencePair, UnreadableImage, arrange, read_pairs, write_pairs
from proxygrm.core.errors import UserError
from support.refusals import refused


def image_bytes(shade: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(out, kind)
    return out.getvalue()


def row(idx=0, image=None, **changes):
    base = {
        "ds_name": "RLAIF-V", "image": {"bytes": image_bytes(idx % 256) if image is None else image, "path": "x.jpg"},
        "question": f"q{idx}", "chosen": "good", "rejected": "bad", "origin_dataset": "o", "origin_split": "s",
        "idx": idx, "image_path": "x.jpg",
    }  # fmt: skip
    return base | changes


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    texts = ("ds_name", "question", "chosen", "rejected", "origin_dataset", "origin_split", "image_path")
    schema = pa.schema([*((t, pa.string()) for t in texts), ("image", image), ("idx", pa.int64())])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    return path


def test_pairs_come_back_as_they_were_written(tmp_path):
    folder = tmp_path / "a folder, with 'quotes' and ünïcode"
    store = ImageStore(folder)
    names = [store.add(image_bytes(1)), store.add(image_bytes(2, "JPEG"))]
    pairs = [
        PreferencePair("s:1", "s", 'q\n"quoted" ü 🙂', "", "b" * 100_000, 1, tuple(names), "mit"),
        PreferencePair("s:2", "s", "text only", "a", "b", 2, (), "mit"),
    ]
    assert write_pairs(folder, iter(pairs)) == 2
    assert read_pairs(folder) == pairs
    assert all(path.is_file() and path.is_absolute() for path in pairs[0].image_paths(folder))


def test_a_image_is_stored_once_under_the_hash_of_its_bytes(tmp_path):
    store = ImageStore(tmp_path)
    assert store.add(image_bytes(1)) == store.add(image_bytes(1)) == ImageStore(tmp_path).add(image_bytes(1))
    assert len(list((tmp_path / "images").iterdir())) == 1


@pytest.mark.parametrize("data", [b"", b"no image", image_bytes(1)[:40], image_bytes(3, "JPEG")[:-200]])
def test_broken_images_are_not_stored(tmp_path, data):
    with pytest.raises(UnreadableImage):
        ImageStore(tmp_path).add(data)
    assert list((tmp_path / "images").iterdir()) == []


def test_order_is_decided_by_the_id_alone():
    pairs = [arrange(f"s:{i}", "s", "q", "good", "bad", [], "mit") for i in range(2000)]
    assert pairs == [arrange(f"s:{i}", "s", "q", "good", "bad", [], "mit") for i in range(2000)]
    assert all((p.response_1 if p.label == 1 else p.response_2) == "good" for p in pairs)
    assert 900 < sum(p.label == 1 for p in pairs) < 1100


def test_a_repeated_id_or_a_missing_image_leaves_no_half_written_folder(tmp_path):
    pair = PreferencePair("s:1", "s", "q", "a", "b", 1, (), "mit")
    with refused("data.repeated-ids", id="s:1", path=tmp_path):
        write_pairs(tmp_path, [pair, pair])
    with refused("image.missing", name="nowhere.png"):
        write_pairs(tmp_path, [PreferencePair("s:1", "s", "q", "a", "b", 1, ("nowhere.png",), "mit")])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_pairs_is_refused(tmp_path):
    with refused("file.missing", path=tmp_path / "pairs.parquet"):
        read_pairs(tmp_path)
    (tmp_path / "pairs.parquet").write_text("no parquet")
    with refused("file.damaged", path=tmp_path / "pairs.parquet"):
        read_pairs(tmp_path)
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "pairs.parquet")
    with refused("data.other-version", version="none") as caught:
        read_pairs(tmp_path)
    assert "source" in caught.value.values["missing"]


def test_ingesting_twice_gives_the_same_pairs(tmp_path):
    source = write(tmp_path / "x.parquet", [row(i) for i in range(50)])
    ingest("rlaif-v", source, tmp_path / "a")
    ingest("rlaif-v", source, tmp_path / "b")
    assert read_pairs(tmp_path / "a") == read_pairs(tmp_path / "b")


def test_wrong_input_is_named(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        ingest("rlaif-v", tmp_path / "nothing here", tmp_path / "out")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="cannot be read"):
        ingest("rlaif-v", tmp_path / "x.parquet", tmp_path / "out")
    pq.write_table(pa.table({"question": ["q"]}), tmp_path / "y.parquet")
    with pytest.raises(UserError, match="lacks ds_name, image, chosen"):
        ingest("rlaif-v", tmp_path / "y.parquet", tmp_path / "out")
    with pytest.raises(UserError, match="1 of 1 rows are bad"):
        ingest("rlaif-v", write(tmp_path / "z.parquet", [row(0, image=b"x")]), tmp_path / "out")
