"""A solutions folder of drawn images, and a teacher's calls about it through the command line."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from proxygrm.demo.scenes import combinations, draw
from proxygrm.process.solutions import PAIRS, SOLUTIONS, Solution
from support.evaluate.http_judges import serving
from support.evaluate.solutions import MODEL, Service, process, read


def solutions_folder(folder: Path, images: int, more: list[Solution] | None = None, seed: int = 0) -> Path:
    """Three solutions of each image's question: right, one that misreads the image, one that adds wrongly."""
    chance = random.Random(seed)
    (folder / "images").mkdir(parents=True)
    made = []
    for number in range(images):
        combination = combinations("count")[number % 12]
        name = f"images/{number:02}.png"
        (folder / name).write_bytes(draw(combination, chance))
        for at, (fact, total) in enumerate([(combination.right, 2), (combination.wrong, 2), (combination.right, 3)]):
            steps = (f"There are {fact} of them.", f"Adding up, 1 + 1 = {total}.")
            labels = (1 if at != 1 else -1, 1 if at == 0 else -1 if at == 2 else None)
            row = Solution(
                f"s{number}/{at}", "drawn", combination.question, (name,), steps, labels, None, at == 0, None
            )
            made.append(row)
    write_solutions(folder, made + (more or []))
    return folder


def write_solutions(folder: Path, made: list[Solution]) -> None:
    (folder / SOLUTIONS).write_text("".join(json.dumps(each.row()) + "\n" for each in made))
    (folder / PAIRS).write_text("")


def teach(asks: str, solutions: Path, out: Path, service: Service, *more: object, code: int = 0) -> Any:
    """`proxygrm process ASKS` with this service as the teacher."""
    with serving(service) as url:
        return process(asks, solutions, "--out", out, "--teacher", url, *MODEL, *more, code=code)


def taught(folder: Path, solutions: Path, service: Service | None = None) -> dict[str, Path]:
    """All four calls; what each wrote, by the name of its option."""
    made = {name: folder / name for name in ("descriptions", "judgements", "contradictions", "audits")}
    service = service or Service()
    described = ("--descriptions", made["descriptions"])
    teach("describe", solutions, made["descriptions"], service)
    teach("judge", solutions, made["judgements"], service, *described)
    teach("contradict", solutions, made["contradictions"], service, *described)
    others = ("--judgements", made["judgements"], "--contradictions", made["contradictions"])
    teach("audit", solutions, made["audits"], service, *described, *others)
    return made


def rows(folder: Path, shard: int = 0) -> list[dict[str, Any]]:
    return read(folder / f"shard-{shard:03}.jsonl")


def report(folder: Path, shard: int = 0) -> dict[str, Any]:
    return json.loads((folder / f"shard-{shard:03}.report.json").read_text())
