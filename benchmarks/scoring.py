"""How long scoring takes: 100,000 answer rows with texts and critiques, from the file to every figure.

    python benchmarks/scoring.py [--rows 100000] [--critique 1200]

Prints the best of three, in CPU seconds of one process. The aim is under 2 s for 100,000 rows.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from proxygrm.evaluate.scores.score import read, score


def write_answers(path: Path, rows: int, critique: int) -> int:
    """Upstream's layout, four categories, 2 % without a verdict; returns the size in bytes."""
    rng = random.Random(0)
    filler = "The first response names what the image shows; the second one adds a dog. " * (critique // 70 + 1)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            reverse, right = rng.random() < 0.5, rng.random() < 0.75
            rewards = [0, 0] if rng.random() < 0.02 else [1, 0] if right != reverse else [0, 1]
            verdict = "" if rewards == [0, 0] else f"<answer>{1 if rewards[0] else 2}</answer>"
            row = {
                "id": f"pair-{number}", "prompt": f"What is in image {number}?", "chosen": filler[:300],
                "rejected": filler[10:310], "image": f"img/{number}.jpg", "category": "abcd"[number % 4],
                "qs": filler[:900], "rewards": rewards, "reverse": reverse, "critic": filler[:critique] + verdict,
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
    return path.stat().st_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--critique", type=int, default=1200, help="characters")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.jsonl"
        size = write_answers(path, asked.rows, asked.critique)
        for policy in ("wrong", "official"):
            best = min(_timed(path, policy) for _ in range(3))
            print(
                f"{asked.rows:,} rows, {size / 1e6:.0f} MB, policy {policy}: {best[0]:.2f} s (reading {best[1]:.2f} s)"
            )


def _timed(path: Path, policy: str) -> tuple[float, float]:
    start = time.process_time()
    answers = read("pairs", [path])
    middle = time.process_time()
    score(answers, policy=policy)
    return time.process_time() - start, middle - start


if __name__ == "__main__":
    main()
