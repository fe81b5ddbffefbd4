"""Preference JSONL -> verl parquet: this project's conversion against Hugging Face `datasets.map`.

    python benchmarks/convert_to_verl.py --rows 200000 --images path
    python benchmarks/convert_to_verl.py --rows 20000 --images bytes

Both read the same generated file and write the same rows, which the last step compares one by one. Each runs in a
process of its own, without the generation. Time is CPU seconds (user + system, children included, imports left out);
memory is the largest resident set of the process, imports included. Ours also decodes every image once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from measuring import cpu_seconds, peak_mb

sys.path.insert(0, str(Path(__file__).parent.parent))
TEXT = """the image shows a red bicycle that leans on wall beside two people near harbour in evening light and its
wheels seem slightly bent which answer says correctly however left person holds blue umbrella not green"""
IMAGES = 500


def generate(folder: Path, rows: int, image_bytes: int) -> Path:
    """Texts of 600 to 2,400 characters in all; every fiftieth has marks that must be defused, some end in blanks."""
    chance = random.Random(0)
    words, header = TEXT.split(), _png()
    for i in range(IMAGES):
        (folder / f"{i:03d}.png").write_bytes(header + chance.randbytes(image_bytes - len(header)))
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as file:
        for i in range(rows):
            texts = [" ".join(chance.choices(words, k=chance.randint(10, 180))) for _ in range(3)]
            if i % 50 == 0:
                texts[1] += " <image> and </answer>"
            row = {"id": f"{i:07d}", "source": "bench", "question": texts[0][:300] + "?", "chosen": texts[1] + ".",
                   "rejected": texts[2] + " no." + " " * (i % 20 == 0), "image": f"{i % IMAGES:03d}.png"}  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return folder / "pairs.jsonl"


def _png() -> bytes:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    return out.getvalue()


def ours(source: Path, out: Path, images: str) -> None:
    from data_tools.export.convert import convert

    convert("verl", source, out, images=images)


def hugging_face(source: Path, out: Path, images: str) -> None:
    """`load_dataset`, `map`, `to_parquet`: the plain row of the same contents, one process."""
    import datasets

    from data_tools.export.to_verl import verl_schema
    from proxygrm.critique.prompts import grm_prompt

    datasets.disable_progress_bars()
    root = source.parent.resolve()

    def row(given: dict[str, Any], index: int) -> dict[str, Any]:
        pair_id = f"{given['source']}:{given['id']}"
        label = 1 if hashlib.sha256(pair_id.encode()).digest()[0] % 2 == 0 else 2
        one, two = (given["chosen"], given["rejected"]) if label == 1 else (given["rejected"], given["chosen"])
        path = f"{root}/{given['image']}"
        image = {"image": path} if images == "path" else {"bytes": Path(path).read_bytes(), "path": None}
        return {
            "data_source": "proxygrm",
            "prompt": [{"role": "user", "content": grm_prompt(given["question"], one, two, images=1)}],
            "images": [image],
            "ability": "judge",
            "reward_model": {"style": "rule", "ground_truth": str(label)},
            "extra_info": {
                "index": index, "split": "train", "id": pair_id, "source": given["source"],
                "question": given["question"], "response_1": one, "response_2": two, "label": label, "image": path,
                "images": [path],
            },
        }  # fmt: skip

    with tempfile.TemporaryDirectory(dir=out.parent) as cache:
        rows = datasets.load_dataset("json", data_files=str(source), split="train", cache_dir=cache)
        features = datasets.Features.from_arrow_schema(verl_schema(images))  # type: ignore[arg-type]
        rows = rows.map(row, with_indices=True, remove_columns=rows.column_names, features=features)
        rows.to_parquet(out)


TOOLS = {"proxygrm data convert verl": ours, "datasets.map": hugging_face}


def measure(tool: str, source: Path, out: Path, images: str) -> None:
    """In a process of its own: print one JSON line."""
    import pyarrow.parquet as pq

    if tool == "datasets.map":
        import datasets  # noqa: F401 - imports are not counted
    else:
        import pandas  # noqa: F401 - arrow imports it sooner or later

        import data_tools.export.convert_part  # noqa: F401
    before, began = cpu_seconds(), time.monotonic()
    TOOLS[tool](source, out, images)
    cpu, wall = cpu_seconds() - before, time.monotonic() - began
    rows = pq.read_metadata(out).num_rows
    peak = peak_mb()
    print(json.dumps({"tool": tool, "rows": rows, "cpu_s": cpu, "wall_s": wall, "peak_mb": peak,
                      "out_mb": out.stat().st_size / 1e6}))  # fmt: skip


def same_rows(one: Path, two: Path) -> int:
    """Rows, after every one of them was compared."""
    import pyarrow.parquet as pq

    readers = [pq.ParquetFile(path).iter_batches(batch_size=64) for path in (one, two)]
    count = 0
    for ours_, theirs in zip(*readers, strict=True):
        if ours_.to_pylist() != theirs.to_pylist():
            raise SystemExit(f"rows {count} to {count + 64} differ between {one} and {two}")
        count += ours_.num_rows
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--images", choices=("path", "bytes"), default="path")
    parser.add_argument("--image-bytes", type=int, default=20_480)
    parser.add_argument("--folder", type=Path, help="for the files; a temporary one otherwise")
    parser.add_argument("--only", choices=list(TOOLS), help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        measure(given.only, given.source, given.out, given.images)
        return
    folder = given.folder or Path(tempfile.mkdtemp(prefix="convert-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        source = generate(folder, given.rows, given.image_bytes)
        found = []
        for number, tool in enumerate(TOOLS):
            command = [sys.executable, __file__, "--only", tool, "--source", str(source), "--images", given.images,
                       "--out", str(folder / f"{number}.parquet")]  # fmt: skip
            environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hf")}
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        rows = same_rows(folder / "0.parquet", folder / "1.parquet")
        print(f"{rows:,} rows, images as {given.images}; the rows of both tools are the same\n")
        print("| tool | rows per CPU second | rows per second | peak MB | file MB | ratio |\n|---|---|---|---|---|---|")
        base = rows / found[1]["cpu_s"]
        for row in found:
            rate = rows / row["cpu_s"]
            print(f"| {row['tool']} | {rate:,.0f} | {rows / row['wall_s']:,.0f} | {row['peak_mb']:,} | "
                  f"{row['out_mb']:,.0f} | {rate / base:.1f} |")  # fmt: skip
    finally:
        if not given.folder:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
