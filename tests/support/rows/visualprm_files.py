"""Small releases of VisualPRM400K in its three layouts, and readers of what is made of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.rows.release_files import image_bytes, jsonl

Row = dict[str, Any]


def conversation(
    steps: Sequence[str], verdicts: Sequence[Any], question: str = "How many?", image: Any = "0.png"
) -> Row:
    """A row of 400K and v1.1. verdicts: what gpt says of each step."""
    turns: list[Row] = [{"from": "system", "value": "Judge each step."}]
    for number, (step, verdict) in enumerate(zip(steps, verdicts, strict=True)):
        head = "" if number else f"### Question:\n<image>\n{question}\n\n### Solution Process:\n"
        turns += [{"from": "human", "value": head + step}, {"from": "gpt", "value": verdict}]
    return {"id": -1, "image": image, "conversations": turns}


def outcome(response: str, verdict: str, question: str = "How many?", image: Any = "0.png") -> Row:
    """A row with one label of the whole response."""
    return conversation([response], [verdict], question, image)


def scored(
    steps: Sequence[tuple[str, int, int]], question: str = "How many?", image: Any = "0.png", **more: Any
) -> Row:
    """A row of v1.1-Raw. steps: (text, continuations that are right, continuations)."""
    items = [
        {"step": text, "score": right / total if total else 0.0, "num_mc_correct": right, "num_mc_total": total}
        for text, right, total in steps
    ]
    row = {"image": image, "question": f"<image>\n{question}", "answer": "5", "steps_with_score": items}
    return row | {"response": "\n\n".join(text for text, _, _ in steps), "num_mc_sequences": 16} | more


def write_shades(folder: Path, shades: Mapping[str, int]) -> None:
    for name, shade in shades.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(image_bytes(shade))


def v11(
    folder: Path, subsets: Mapping[str, Sequence[Row]], images: Mapping[str, Mapping[str, int]], **more: Row
) -> Path:
    """A release with meta.json. images: shade of each image of each subset; more: keys of subsets' entries."""
    meta = {}
    for name, rows in subsets.items():
        jsonl(folder / "annotations" / f"{name.lower()}_prm.jsonl", list(rows))
        meta[name] = {
            "root": f"VisualPRM400K-v1.1/images/{name}", "data_augment": False, "repeat_time": 1, "length": len(rows),
            "annotation": f"VisualPRM400K-v1.1/annotations/{name.lower()}_prm.jsonl", **more.get(name, {}),
        }  # fmt: skip
    for name, shades in images.items():
        write_shades(folder / "images" / name, shades)
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return folder


def lines(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def left_out(out: Path) -> list[tuple[str, int, str]]:
    """(file, row, reason) of every row of the release that is not a solution."""
    return [(row["file"], row["row"], row["reason"]) for row in lines(out / "dropped.jsonl")]
