"""Every consumer's installed loader shows the same pixels of every unusual image, for every entry of the suite."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_tools.export.convert import convert
from data_tools.inspect.check import check
from proxygrm.core.images.settle import KINDS
from support.images.doors import released, through_all_doors
from support.images.gallery import broken, encoded, gallery
from support.rows.release_files import jsonl

ROOT = Path(__file__).parents[5]
DOORS = {
    "ingest, swift", "ingest bytes, verl", "ingest path, verl", "ingest bytes, vllm", "ingest path, vllm",
    "ingest eval, engine", "ingest endpoint, vllm", "convert bytes, verl", "convert path, verl", "convert bytes, vllm",
    "convert path, vllm", "eval eval, engine", "eval endpoint, vllm", "front path, vllm", "front data, vllm",
    "client path, vllm",
}  # fmt: skip

LOAD = """
import base64, hashlib, json, sys
from pathlib import Path

from swift.template.vision_utils import load_image
from verl.utils.dataset.vision_utils import process_image
from vllm.multimodal.media.image import ImageMediaIO

from proxygrm.evaluate.judges.engine import image_of


def loaded(loader, given):
    head, _, body = given.partition(",") if given.startswith("data:") else ("", "", "")
    path = Path(given.removeprefix("file://"))
    if loader == "swift":
        return load_image(given)
    if loader == "verl":
        return process_image({"bytes": base64.b64decode(body)} if body else {"image": given})
    if loader == "engine":
        return image_of(path, "refuse")
    return (ImageMediaIO().load_base64(head, body) if body else ImageMediaIO().load_file(path)).media


def seen(door, given):
    try:
        image = loaded(door.rpartition(" ")[2], given)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return [image.mode, *image.size, hashlib.sha256(image.tobytes()).hexdigest()]


handed = json.loads(Path(sys.argv[1]).read_text())
found = {name: {door: seen(door, given) for door, given in doors.items()} for name, doors in handed.items()}
Path(sys.argv[2]).write_text(json.dumps(found))
"""


def loaded(handed: dict, folder: Path) -> dict:
    """[mode, width, height, digest], or the error as text, by the loaders as they are installed."""
    (folder / "handed.json").write_text(json.dumps(handed))
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(folder / "handed.json"), str(folder / "seen.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT), "USE_HF": "1",
                          "CUDA_VISIBLE_DEVICES": "", "HF_HOME": str(folder / "hf")},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "seen.json").read_text())


def wanted(pixels: np.ndarray) -> list:
    return ["RGB", pixels.shape[1], pixels.shape[0], hashlib.sha256(pixels.tobytes()).hexdigest()]


@pytest.mark.heavy
def test_all_loaders_show_the_same_pixels_by_every_door(tmp_path):
    handed = through_all_doors(tmp_path / "doors")
    raw = {name: {"raw, swift": str(tmp_path / "doors" / "released" / name)} for name in gallery()}
    large = {"large.png": np.zeros((9_500, 9_600), bool), "column.png": np.tri(150, 1, -40, dtype=bool)}
    (tmp_path / "large").mkdir()
    for name, values in large.items():
        Image.fromarray(values).save(tmp_path / "large" / name)
    more = {name: {f"as it is, {loader}": str(tmp_path / "large" / name) for loader in ("swift", "vllm", "engine")}
            for name in large}  # fmt: skip
    for height in (200, 201):
        name = f"thin_{height}.png"
        Image.new("L", (1, height)).save(tmp_path / "large" / name)
        more[name] = {"as it is, verl": str(tmp_path / "large" / name)}
    seen = loaded(handed | more | {f"raw {name}": doors for name, doors in raw.items()}, tmp_path)
    for name, odd in gallery().items():
        assert set(seen[name]) == DOORS
        assert seen[name] == dict.fromkeys(DOORS, wanted(odd.pixels)), name
    for name, values in large.items():
        pixels = values[..., None].repeat(3, axis=2).astype(np.uint8) * 255
        assert all(one == wanted(pixels) for one in seen[name].values()), name
    assert seen["thin_200.png"]["as it is, verl"][0] == "RGB"
    assert "aspect ratio must be smaller than 200" in seen["thin_201.png"]["as it is, verl"]
    # The gallery is odd indeed: without the door, one loader alone gets most of these wrong.
    wrong = [name for name, odd in gallery().items() if seen[f"raw {name}"]["raw, swift"] != wanted(odd.pixels)]
    assert {"rgba.png", "palette_clear.png", "grey16.png", "exif_6.jpg", "xmp_6.png", "clear.gif"} <= set(wrong)


def test_what_is_sent_by_every_door_is_under_its_true_type(tmp_path):
    handed = through_all_doors(tmp_path / "doors")
    for name, doors in handed.items():
        assert set(doors) == DOORS
        for door, given in doors.items():
            if not given.startswith("data:image/"):
                continue
            head, _, body = given.partition(",")
            with Image.open(io.BytesIO(base64.b64decode(body))) as image:
                assert head == f"data:image/{KINDS[image.format]};base64", (name, door)
        assert doors["client path, vllm"].startswith("file:") == gallery()[name].kept, name


def test_only_what_consumers_would_read_differently_is_written_anew(tmp_path):
    file = released(tmp_path / "released")
    report = convert("verl", file, tmp_path / "x.parquet", images="path")
    changed = [odd for odd in gallery().values() if not odd.kept]
    assert report["kept"] == len(gallery())
    names = {path.name for path in (tmp_path / "x.parquet.images").iterdir()}
    assert names == {f"{hashlib.sha256(odd.data).hexdigest()}.settled.png" for odd in changed}
    assert sum(count for word, count in report["notes"].items() if word.startswith("image_")) >= len(changed)
    remarks = check(file).remarks
    assert {word: count for word, count in report["notes"].items() if word.startswith("image_")} == {
        word: count for word, count in remarks.items() if word.startswith("image_")
    }


def test_what_no_consumer_can_show_is_a_bad_row_of_check_and_convert_alike(tmp_path):
    images = broken() | {"thin.png": encoded(Image.new("L", (1, 201))), "good.png": encoded(Image.new("L", (8, 8)))}
    rows = []
    for name, data in images.items():
        (tmp_path / name).write_bytes(data)
        rows.append({"id": name, "question": "q", "chosen": "a", "rejected": f"b {name}", "image": name})
    file = jsonl(tmp_path / "x.jsonl", rows)
    report = convert("verl", file, tmp_path / "x.parquet", max_bad=1.0)
    assert (report["kept"], report["bad"]) == (1, {"stretched_image": 1, "unreadable_image": len(broken())})
    assert {reason: problem.count for reason, problem in check(file).problems.items()} == report["bad"]
