"""Draws solutions in steps for the demo, in VisualPRM400K-v1.1's released layout, with a step benchmark in
VisualProcessBench's and questions for candidates. Both subsets of the release call their images 0.png, 1.png, ...; they
are other images.

OUT/release/meta.json, annotations/SUBSET.jsonl, images/SUBSET/N.png
OUT/held_out/ the same, a tenth as large
OUT/visualprocessbench/test.jsonl, images/N.png
OUT/questions/questions.jsonl, images/N.png
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from proxygrm.core.files.whole_file import whole_file, write_json
from proxygrm.demo.sums import MORE, NUMBERS, Error, Solution, draw_number, drawn_error, question, solution

SUBSETS = ("drawn_first", "drawn_second")
SYSTEM = "You judge whether each step of a solution is right. Answer + or -."
ERRORS: tuple[Error, ...] = ("", "perception", "reasoning")


def write_demo_solutions(out: Path, images: int, solutions: int, questions: int, seed: int) -> None:
    """images: of the release, both subsets together, with three solutions each: a right one, one of perception's errors
    and one of reasoning's; a tenth as many are held out. solutions: of the benchmark. questions: for candidates."""
    _write_release(out / "release", images, random.Random(f"solutions {seed}"))
    _write_release(out / "held_out", max(2, images // 10), random.Random(f"held out {seed}"))
    _write_benchmark(out / "visualprocessbench", solutions, random.Random(f"step benchmark {seed}"))
    _write_questions(out / "questions", questions, random.Random(f"sums {seed}"))


def _write_release(out: Path, images: int, chance: random.Random) -> None:
    meta = {}
    for at, subset in enumerate(SUBSETS):
        number = images // 2 + (at < images % 2)
        annotation, root = f"annotations/{subset}.jsonl", f"images/{subset}"
        rows = list(_released(out / root, number, chance))
        _write_lines(out / annotation, rows)
        meta[subset] = {
            "root": root, "annotation": annotation, "data_augment": False, "repeat_time": 1, "length": len(rows),
        }  # fmt: skip
    write_json(out / "meta.json", meta)


def _released(folder: Path, images: int, chance: random.Random) -> Iterator[dict[str, Any]]:
    for name, number, more in _drawn(folder, images, chance):
        for error in ERRORS:
            yield _conversation(name, solution(number, more, error, chance))


def _conversation(image: str, drawn: Solution) -> dict[str, Any]:
    """Steps after a wrong one are never measured, and "-" as released."""
    turns, right = [{"from": "system", "value": SYSTEM}], True
    head = f"### Question:\n{question(drawn.more)}\n\n### Solution Process:\n"
    for (text, _), label in zip(drawn.steps, drawn.labels, strict=True):
        right = right and label == 1
        turns += [{"from": "human", "value": head + text}, {"from": "gpt", "value": "+" if right else "-"}]
        head = ""
    return {"id": -1, "image": image, "conversations": turns}


def _write_benchmark(out: Path, solutions: int, chance: random.Random) -> None:
    rows = []
    for name, number, more in _drawn(out / "images", solutions, chance):
        drawn = solution(number, more, drawn_error(chance, 0.3, 0.3), chance)
        response = {"steps": [text for text, _ in drawn.steps], "process_correctness": list(drawn.labels)}
        rows.append({
            "image": [f"images/{name}"], "question": question(more), "answer": str(number + more),
            "response": response, "policy_model": "rule", "data_source": "drawn",
        })  # fmt: skip
    _write_lines(out / "test.jsonl", rows)


def _write_questions(out: Path, questions: int, chance: random.Random) -> None:
    rows = [
        {
            "id": f"drawn {at}", "question": question(more), "image": f"images/{name}",
            "answer": str(number + more), "datasource": "drawn",
        }
        for at, (name, number, more) in enumerate(_drawn(out / "images", questions, chance))
    ]  # fmt: skip
    _write_lines(out / "questions.jsonl", rows)


def _drawn(folder: Path, count: int, chance: random.Random) -> Iterator[tuple[str, int, int]]:
    """(file name, shapes in it, shapes that the question adds), all combinations equally often, in shuffled order."""
    folder.mkdir(parents=True, exist_ok=True)
    combinations = [(number, more) for number in NUMBERS for more in MORE]
    drawn = [combinations[at % len(combinations)] for at in range(count)]
    chance.shuffle(drawn)
    for at, (number, more) in enumerate(drawn):
        (folder / f"{at}.png").write_bytes(draw_number(number, chance))
        yield f"{at}.png", number, more


def _write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
