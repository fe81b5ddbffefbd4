"""Draws the questions that the demo's policy learns to answer: images with one right answer each, as JSONL."""

from __future__ import annotations

import json
import random
from pathlib import Path

from proxygrm.core.files.whole_file import whole_file
from proxygrm.demo.scenes import combinations, draw

QUESTIONS, IMAGES = "questions.jsonl", "images"


def write_demo_questions(out: Path, count: int, seed: int, kind: str = "colour", fog: float = 0.0) -> None:
    """`out/questions.jsonl` and `out/images`: equally many of each subject and answer, in shuffled order. fog: share
    of the images in fog."""
    rng = random.Random(f"questions {kind} {seed}")
    scenes = list({(each.subject, each.right): each for each in combinations(kind)}.values())
    drawn = [scenes[number % len(scenes)] for number in range(count)]
    rng.shuffle(drawn)
    (out / IMAGES).mkdir(parents=True, exist_ok=True)
    with whole_file(out / QUESTIONS) as scratch, scratch.open("w", encoding="utf-8") as file:
        for number, scene in enumerate(drawn):
            image = f"{IMAGES}/{number}.png"
            (out / image).write_bytes(draw(scene, rng, fog=rng.random() < fog))
            row = {
                "id": f"question {number}", "question": scene.question, "image": image,
                "answer": scene.response(scene.right),
            }  # fmt: skip
            file.write(json.dumps(row) + "\n")
