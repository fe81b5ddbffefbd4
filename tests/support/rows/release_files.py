"""Small files in the layouts of the releases, and readers of their results, for the ingestion tests."""

from __future__ import annotations

import functools
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from data_tools.rows.preference import read_pairs

TEXT = pa.string()
IMAGE = pa.struct([("bytes", pa.binary()), ("path", TEXT)])
TURN = pa.struct([("from", TEXT), ("value", TEXT)])
RLAIF_V = pa.schema(
    [("ds_name", TEXT), ("image", IMAGE), *((name, TEXT) for name in ("question", "chosen", "rejected")),
     ("origin_dataset", TEXT), ("origin_split", TEXT), ("idx", pa.int64()), ("image_path", TEXT)]
)  # fmt: skip
LLAVA_CRITIC = pa.schema([("id", TEXT), ("source", TEXT), ("conversations", pa.list_(TURN)), ("image", IMAGE)])


@functools.cache
def image_bytes(shade: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, shade // 256, 0)).save(out, kind)
    return out.getvalue()


def cell(shade: int) -> dict:
    return {"bytes": image_bytes(shade), "path": f"{shade}.png"}


def parquet(path, rows, schema, row_group_size=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=row_group_size)
    return path


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    return path


def write_images(folder, names):
    for shade, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image_bytes(shade))


def rlaif_v(idx=0, image=None, **changes):
    base = {
        "ds_name": "RLAIF-V", "image": {"bytes": image_bytes(idx) if image is None else image, "path": "x.jpg"},
        "question": f"q{idx}", "chosen": "good", "rejected": "bad", "origin_dataset": "o", "origin_split": "s",
        "idx": idx, "image_path": "x.jpg",
    }  # fmt: skip
    return base | changes


def better_and_worse(out):
    """id -> (better response, worse response)"""
    return {
        p.id: (p.response_1, p.response_2) if p.label == 1 else (p.response_2, p.response_1) for p in read_pairs(out)
    }


def dropped(out):
    """(file, row, reason) of every excluded row"""
    lines = (out / "ingest_dropped.jsonl").read_text(encoding="utf-8").splitlines()
    return [(row["file"], row["row"], row["reason"]) for row in map(json.loads, lines)]


def adds_up(report):
    return report["read"] == report["kept"] + sum(report["bad"].values()) + sum(report["dropped"].values())
