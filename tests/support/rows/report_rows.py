"""Judgement rows as `eval run` leaves them, with critiques of real length, and images of about a megapixel."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from support.evaluate.answers import VL_IDS

NASTY = "</script><script>alert(1)</script> \"'&amp; {{ 7*7 }} <img src=x onerror=alert(2)> \u2028 \ud83d 猫 ]]> ${x}"
_LETTERS = "etaoinshrdlucmwfgypbvkxjqz"


def words(draw: random.Random, count: int) -> str:
    return " ".join("".join(draw.choices(_LETTERS, k=draw.randint(2, 9))) for _ in range(count))


def write_images(folder: Path, count: int, kinds: int = 12) -> list[Path]:
    """`count` files that differ, of `kinds` images of 1,000 x 1,000."""
    from PIL import Image, ImageDraw

    draw, made = random.Random(0), []
    folder.mkdir()
    for kind in range(kinds):
        image = Image.merge("RGB", [Image.effect_noise((40, 40), 90).resize((1000, 1000)) for _ in range(3)])
        pen = ImageDraw.Draw(image)
        for _ in range(25):
            x, y, r = draw.randrange(1000), draw.randrange(1000), draw.randrange(20, 200)
            pen.ellipse([x, y, x + r, y + r], fill=tuple(draw.randrange(256) for _ in range(3)))
        image.save(folder / f"kind{kind}.jpg", quality=85)
        made.append((folder / f"kind{kind}.jpg").read_bytes())
    for at in range(count):
        (folder / f"{at}.jpg").write_bytes(made[at % kinds] + at.to_bytes(4, "big"))  # what follows the end is ignored
    return [folder / f"{at}.jpg" for at in range(count)]


def rows(skill: float, seed: int, shots: list[Path] | None = None, count: int = 1250, length: int = 120) -> list[dict]:
    """VL-RewardBench's ids in both orders; some critiques without a verdict, some proxies that differ."""
    draw = random.Random(seed)
    texts = random.Random(0)  # the pairs are the same for every judge
    pairs = [
        EvalPair(
            id=f"vl_rewardbench:{VL_IDS[at]}",
            question=NASTY if at == 0 else f"{words(texts, 12)}?",
            response_1=NASTY[::-1] if at == 0 else words(texts, length),
            response_2=words(texts, length),
            label=1,
            images=(shots[at % len(shots)],) if shots else (),
            source="vl_rewardbench",
        )
        for at in range(count)
    ]
    made = []
    for shown in ordered_pairs(pairs):
        verdict = shown.label if draw.random() < skill else 3 - shown.label
        text = (
            f"<rubric>\n1. {words(draw, 12)} (60%)\n2. {NASTY} (40%)\n<justify>{words(draw, 20)}</justify>\n</rubric>\n"
            f"<eval>{words(draw, length)}</eval>\n<answer>{verdict}</answer>"
        )
        luck = draw.random()
        text = words(draw, 50) if luck < 0.04 else text.replace("</eval>", "") if luck < 0.08 else text
        names = verdict if draw.random() < 0.8 else 3 - verdict
        told = {"text": f"<think>{words(draw, 9)}</think><answer>{names}</answer>"}
        answer: dict[str, Any] = {"text": text, "tokens": len(text) // 4, "truncated": luck < 0.01, "problem": None}
        made.append(judged_row(shown, answer, answer | told if "<rubric>" in text else None))
    return made


def write(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
