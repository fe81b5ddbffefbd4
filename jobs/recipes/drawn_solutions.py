"""What the demo of evpv-prm runs on: drawn solutions in steps, a step benchmark and questions, and a tiny randomly
initialised Qwen2.5-VL whose tokenizer knows the words of its instructions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobs.engine.demo_inputs import DemoInputs
from jobs.recipes.drawn_pairs import MODEL

DRAWN: dict[str, Any] = {"images": 600, "solutions": 120, "questions": 120, "seed": 0}


def draw(
    folder: Path,
    images: int = DRAWN["images"],
    solutions: int = DRAWN["solutions"],
    questions: int = DRAWN["questions"],
    seed: int = DRAWN["seed"],
) -> None:
    """release/ and held_out/ in VisualPRM's layout, visualprocessbench/, questions/, and the model."""
    from data_tools.sources.demo_solutions import write_demo_solutions
    from proxygrm.demo.model import build_tiny_model

    write_demo_solutions(folder, images, solutions, questions, seed)
    build_tiny_model(folder / MODEL, words(seed), seed=seed)


def words(seed: int, count: int = 240) -> Iterator[str]:
    """What the demo's models read and write."""
    from proxygrm.critique.prompts.process import describe_prompt
    from proxygrm.demo.process_service import describe, reply
    from proxygrm.demo.sums import MORE, NUMBERS, draw_number, question, solution
    from proxygrm.process.checklist import Step
    from proxygrm.process.stages import ScoreSettings, audit_text, step_texts

    chance = random.Random(f"words {seed}")
    for at in range(count):
        question_text, image = question(MORE[at % len(MORE)]), draw_number(chance.choice(NUMBERS), chance)
        drawn = solution(chance.choice(NUMBERS), MORE[at % len(MORE)], "", chance)
        steps, description = [Step(*step) for step in drawn.steps], describe([image], question_text)
        judging = step_texts(question_text, description, steps, ScoreSettings())
        for text in (describe_prompt(question_text), audit_text(description, steps) or "", *judging):
            yield text
            yield reply(text, [image]) or ""


INPUTS = DemoInputs(
    name="demo-solutions",
    stamp={**DRAWN, "recipe": 2},
    draw=draw,
    announcement="drawing solutions in steps and building a tiny model (about half a minute)",
)
