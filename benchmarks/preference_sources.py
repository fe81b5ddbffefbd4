"""A released preference set -> a pairs folder: each reader against Hugging Face `datasets` on the same generated file.

    python benchmarks/preference_sources.py --rows 20000
    python benchmarks/preference_sources.py --rows 80000 --sources tulu-3,mmpr

The peer is `load_dataset`, `map` and `to_parquet`. Its row function is the reader's, so what differs is how rows are
carried, checked and written. Like ours it decodes each image once, stores it by its hash and leaves repeats out; ours
also checks texts and ids, settles images, accounts for every row, and can resume. The pairs of both are compared. Each
runs in a process of its own, without the generation. Rows are those of the released file. Time is CPU seconds (user +
system, children included, imports left out); memory is the largest resident set of the process, imports included.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measuring import cpu_seconds, peak_mb

sys.path.insert(0, str(Path(__file__).parent.parent))
TEXT = """the image shows a red bicycle that leans on wall beside two people near harbour in evening light and its
wheels seem slightly bent which answer says correctly however left person holds blue umbrella not green"""
WORDS = TEXT.split()
IMAGES = 200
Row = dict[str, Any]


def text(chance: random.Random, least: int = 40, most: int = 160) -> str:
    return " ".join(chance.choices(WORDS, k=chance.randint(least, most)))


def turns(*texts: str, role: str = "role", content: str = "content", names: tuple[str, str] = ("user", "assistant")):
    return [{role: names[i % 2], content: each} for i, each in enumerate(texts)]


def chat(chance: random.Random, i: int) -> Row:
    question = f"{i} {text(chance, 10, 40)}?"
    return {"id": f"r{i}", "source": "part", "prompt": question, "prompt_id": f"p{i}", "score_chosen": 8.0,
            "score_rejected": 5.0, "chosen": turns(question, text(chance)),
            "rejected": turns(question, text(chance))}  # fmt: skip


def rated(chance: random.Random, i: int, aspects: tuple[str, ...]) -> Row:
    completions = [
        {"model": f"m{k}", "response": text(chance), "overall_score": 5.0 + k, "fine-grained_score": 4.5,
         "annotations": {name: {"Rating": str(1 + k), "Rationale": text(chance, 10, 20)} for name in aspects}}
        for k in range(4)
    ]  # fmt: skip
    return {"id": f"v{i}", "source": "part", "prompt": f"{i} {text(chance, 10, 40)}?", "models": ["m0", "m1"],
            "completions": completions, "img_path": image(i)}  # fmt: skip


def ultrafeedback(chance: random.Random, i: int) -> Row:
    row = rated(chance, i, ("instruction_following", "honesty", "truthfulness", "helpfulness"))
    return {"source": "part", "instruction": row["prompt"], "models": row["models"], "completions": row["completions"]}


def vlfeedback(chance: random.Random, i: int) -> Row:
    return rated(chance, i, ("Helpfulness", "Ethical Considerations", "Visual Faithfulness"))


def plain(chance: random.Random, i: int, **more: Any) -> Row:
    question = f"{i} {text(chance, 10, 40)}?"
    return {"question": question, "prompt": question, "chosen": text(chance), "rejected": text(chance),
            "image": image(i)} | more  # fmt: skip


def povid(chance: random.Random, i: int) -> Row:
    question = f"<image>\n{i} {text(chance, 10, 40)}?"
    sides = {name: turns(question, text(chance), role="from", content="value", names=("human", "gpt"))
             for name in ("conversations", "rejected_conversations")}  # fmt: skip
    return {"id": f"p{i}", "image": image(i), **sides}


def wildvision(chance: random.Random, i: int) -> Row:
    question = f"{i} {text(chance, 10, 40)}?"
    sides = {f"conversation_{side}": turns(question, text(chance)) for side in "ab"}
    return {"question_id": f"w{i}", "winner": ("model_a", "model_b")[i % 2], "language": "English", **sides,
            "image": {"bytes": PICTURES[i % IMAGES], "path": image(i)}}  # fmt: skip


def r1_reward(chance: random.Random, i: int) -> Row:
    prompt = (f"Compare.\n###### [Question]:\n{i} {text(chance, 10, 40)}?\n\n###### [Response 1]:\n{text(chance)}\n\n"
              f"###### [Response 2]:\n{text(chance)}\n\n###### **Output Format:**\n1/2")  # fmt: skip
    parts = [{"type": "text", "text": prompt}, {"type": "image", "image": "/disk/x.jpg"}]
    return {"question": "q", "message": json.dumps([{"role": "user", "content": parts}]), "answer": [str(1 + i % 2)],
            "image": base64.b64encode(PICTURES[i % IMAGES]).decode()}  # fmt: skip


def shp(chance: random.Random, i: int) -> Row:
    return {"post_id": f"p{i}", "domain": "askx_train", "history": f"{i} {text(chance)}", "labels": i % 2,
            "human_ref_A": text(chance), "human_ref_B": text(chance), "score_A": 9 * (i % 2) + 2,
            "score_B": 9 * (1 - i % 2) + 2, "score_ratio": 4.0, "c_root_id_A": f"a{i}",
            "c_root_id_B": f"b{i}"}  # fmt: skip


def image(i: int) -> str:
    return f"{i % IMAGES:03d}.png"


def _pictures() -> list[bytes]:
    from PIL import Image

    made = []
    for shade in range(IMAGES):
        out = io.BytesIO()
        Image.new("RGB", (64, 48), (shade, 255 - shade, 90)).save(out, "PNG")
        made.append(out.getvalue())
    return made


PICTURES = _pictures()
SOURCES: dict[str, tuple[str, Callable[[random.Random, int], Row]]] = {
    "mmpr": ("rows.jsonl", plain),
    "mm-rlhf": ("dpo_pairs.jsonl", plain),
    "vlfeedback": ("vlfeedback_80k.jsonl", vlfeedback),
    "povid": ("POVID.jsonl", povid),
    "wildvision-battle": ("rows.parquet", wildvision),
    "r1-reward-rl": ("rows.parquet", r1_reward),
    "omnialign-v-dpo": ("chart.jsonl", plain),
    "ultrafeedback": ("rows.jsonl", ultrafeedback),
    "ultrafeedback-binarized": ("train_prefs.parquet", chat),
    "tulu-3": ("train.parquet", chat),
    "olmo-2": ("train.parquet", chat),
    "shp": ("train.json", shp),
    "skywork": ("train.parquet", chat),
}


def generate(folder: Path, source: str, rows: int) -> Path:
    """The file of a source in its released layout, beside its images. Written in batches."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, row = SOURCES[source]
    chance, path = random.Random(0), folder / name
    for i, picture in enumerate(PICTURES):
        (folder / image(i)).write_bytes(picture)
    if path.suffix != ".parquet":
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row(chance, i)) + "\n" for i in range(rows))
        return path
    writer = None
    for first in range(0, rows, 1000):
        table = pa.Table.from_pylist([row(chance, i) for i in range(first, min(first + 1000, rows))])
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    return path


def ours(source: str, path: Path, out: Path) -> None:
    from data_tools.ingest.run import ingest

    ingest(source, path, out)


def hugging_face(source: str, path: Path, out: Path) -> None:
    import datasets
    from PIL import Image

    from data_tools.ingest.part import interpret
    from data_tools.rows.preference import arrange
    from data_tools.sources import load
    from data_tools.sources.base import RawPair

    datasets.disable_progress_bars()
    reader = load(source)
    more: Row = dict(reader.of_file(path, path.parent, [path.name])[0]) if reader.of_file else {}
    columns = ("id", "source", "question", "response_1", "response_2", "label", "images", "license", "category")

    stored: dict[str | bytes, str] = {}
    seen: set[bytes] = set()

    def name_of(image: str | bytes) -> str:
        if image not in stored:
            data = (path.parent / image).read_bytes() if isinstance(image, str) else image
            opened = Image.open(io.BytesIO(data))
            opened.load()
            stored[image] = f"{hashlib.sha256(data).hexdigest()}.{str(opened.format).lower()}"
            (out / "images" / stored[image]).write_bytes(data)
        return stored[image]

    def pairs(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        made: dict[str, list[Any]] = {column: [] for column in columns}
        for position, index in enumerate(indices):
            raw = {name: values[position] for name, values in batch.items()} | more
            for each in reader.expand(raw) if reader.expand else (raw,):
                row = interpret(reader, each)
                if isinstance(row, RawPair):
                    names = [name_of(image) for image in row.images if isinstance(image, str | bytes)]
                    texts = "\0".join((row.question, row.chosen, row.rejected, *names))
                    key = hashlib.blake2b(texts.encode(), digest_size=16).digest()
                    if key in seen:
                        continue
                    seen.add(key)
                    row_id = f"{row.id or index + 1}{f'/{row.part}' if row.part else ''}"
                    pair = arrange(f"{reader.slug}:{row_id}", reader.slug, row.question, row.chosen, row.rejected,
                                   names, reader.license, row.category)  # fmt: skip
                    for column in columns:
                        made[column].append(getattr(pair, column))
        return made

    (out / "images").mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as cache:
        kind = "parquet" if path.suffix == ".parquet" else "json"
        rows = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache)
        rows = rows.map(pairs, batched=True, with_indices=True, remove_columns=rows.column_names)
        rows.to_parquet(out / "pairs.parquet")


TOOLS = {"proxygrm data ingest": ours, "datasets": hugging_face}


def measure(tool: str, source: str, path: Path, out: Path) -> None:
    """In a process of its own: print one JSON line."""
    import pyarrow.parquet as pq

    if tool == "datasets":
        import datasets  # noqa: F401 - imports are not counted
    else:
        import pandas  # noqa: F401 - arrow imports it sooner or later

        import data_tools.ingest.merge
        import data_tools.ingest.run  # noqa: F401
    before, began = cpu_seconds(), time.monotonic()
    TOOLS[tool](source, path, out)
    cpu, wall = cpu_seconds() - before, time.monotonic() - began
    peak = peak_mb()
    pairs = pq.read_metadata(out / "pairs.parquet").num_rows
    print(json.dumps({"cpu_s": cpu, "wall_s": wall, "peak_mb": peak, "pairs": pairs}))


def pairs_of(folder: Path) -> Iterator[tuple[Any, ...]]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(folder / "pairs.parquet").iter_batches(
        columns=["id", "source", "question", "response_1", "response_2", "label", "images", "license", "category"]
    ):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def compare(source: str, rows: int, folder: Path) -> dict[str, dict[str, float]]:
    path, found = generate(folder, source, rows), {}
    for tool in TOOLS:
        out = folder / tool.replace(" ", "-")
        command = [
            sys.executable,
            __file__,
            "--only",
            tool,
            "--sources",
            source,
            "--file",
            str(path),
            "--out",
            str(out),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode:
            raise SystemExit(f"{tool} on {source} failed:\n{done.stderr[-3000:]}")
        found[tool] = json.loads(done.stdout.splitlines()[-1])
    one, two = (pairs_of(folder / tool.replace(" ", "-")) for tool in TOOLS)
    for number, (mine, theirs) in enumerate(zip(one, two, strict=True), 1):
        if mine != theirs:
            raise SystemExit(f"pair {number} of {source} differs: {str(mine)[:2000]} and {str(theirs)[:2000]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--sources", default=",".join(SOURCES), help="names, separated by commas")
    parser.add_argument("--only", choices=list(TOOLS), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        measure(given.only, given.sources, given.file, given.out)
        return
    load = os.getloadavg()[0]
    print(f"{given.rows:,} rows a source, load {load:.1f} at the start")
    print(
        "| source | pairs | ours, rows/CPU s | datasets | ratio | ours, MB | datasets |\n|---|---|---|---|---|---|---|"
    )
    for source in given.sources.split(","):
        with tempfile.TemporaryDirectory() as folder:
            mine, theirs = compare(source, given.rows, Path(folder)).values()
        speeds = [given.rows / each["cpu_s"] for each in (mine, theirs)]
        print(f"| {source} | {mine['pairs']:,} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {speeds[0] / speeds[1]:.1f} | "
              f"{mine['peak_mb']} | {theirs['peak_mb']} |", flush=True)  # fmt: skip
    print("the pairs of both tools are the same")


if __name__ == "__main__":
    main()
