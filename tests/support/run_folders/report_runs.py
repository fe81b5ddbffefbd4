"""Run folders to report on, and the report's page as a test reads it."""

from __future__ import annotations

import json
import math
import random
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from jobs.engine.stage import plain
from jobs.recipes.proxy_grm import REPORT
from proxygrm.evaluate.rows.ordered_pair import judged_row, ordered_pairs
from proxygrm.evaluate.rows.pairs import EvalPair
from proxygrm.evaluate.scores.metrics import summarise

NASTY = "</script><script>alert(1)</script> \"'&amp; {{ 7*7 }} <img src=x onerror=alert(2)> \u2028 \ud83d 猫 ]]> ${x}"

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (30, 60, 220)}

START = 1_790_000_000.0


def critique(colour: str, verdict: int) -> str:
    return (
        f"<rubric>\n1. Names the colour {colour} (80%)\n2. Answers in one clear sentence (20%)\n"
        f"<justify>The question asks for the colour.</justify>\n</rubric>\n"
        f"<eval>The square is {colour}; Response {verdict} says so.</eval>\n<answer>{verdict}</answer>"
    )


def judged_rows(pairs: list[EvalPair], skill: float, seed: int) -> list[dict]:
    draw, rows = random.Random(seed), []
    for ordered in ordered_pairs(pairs):
        verdict = ordered.label if draw.random() < skill else 3 - ordered.label
        text = critique("red", verdict) if draw.random() < skill + 0.2 else "The square is <answer>maybe</answer>"
        answer = {"text": text, "tokens": 60, "truncated": False, "problem": None}
        proxy_answer = {
            "text": f"<think>so</think><answer>{verdict}</answer>",
            "tokens": 9,
            "truncated": False,
            "problem": None,
        }
        rows.append(judged_row(ordered, answer, proxy_answer if "<rubric>" in text else None))
    return rows


def make_run(run: Path, pairs: int = 12) -> Path:
    """A finished run with the files of its stages, without running them."""
    images = run / "images"
    images.mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (56, 56), colour).save(images / f"{name}.png")
    stages = ("distill", "split", "proxy_sft", "grm_sft", "grm_rl", "evaluate")
    about = {
        "name": "demo",
        "profile": {"name": "local"},
        "git": "0123456789ab-dirty",
        "packages": {"vllm": "0.24.0", "verl": "0.9.1", "none": None},
        "fingerprints": dict.fromkeys([*stages, "report"], "f" * 16),
        "report": plain(REPORT),
        "settings": {"x": NASTY.replace("\ud83d", "")},
        "written": START,
    }
    (run / "run.json").write_text(json.dumps(about))
    submitted = {name: {"job_id": str(i), "submitted": START} for i, name in enumerate(stages)}
    (run / "submissions.json").write_text(json.dumps(submitted))
    at = START + 4
    for name in stages:
        (run / name).mkdir()
        done = {"stage": name, "started": at, "finished": at + 70, "nodes": ["n1", "n2"], "job_id": "7"}
        (run / name / "DONE.json").write_text(json.dumps(done | {"peak_memory_mb": 3100, "attempts": 2}))
        at += 0 if name == "proxy_sft" else 75
    rng = random.Random(0)
    for name in ("proxy_sft", "grm_sft"):
        rows = [{"step": 5 * i, "loss": 3 * math.exp(-i / 8), "token_acc": 1 - math.exp(-i / 6)} for i in range(30)]
        (run / name / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    rl = [
        {
            "step": i,
            "reward/score_mean": 0.4 + i / 60 + rng.gauss(0, 0.1),
            "reward/accuracy": min(1, 0.6 + i / 300 + rng.gauss(0, 0.05)),
            "reward/proxy_agreement": 0.7,
            "reward/format": 0.9,
            "reward/unscored": 0,
            "response_length/mean": 80 + rng.gauss(0, 3),
            "actor/kl_loss": 0.001 * i,
        }
        for i in range(60)
    ]
    (run / "grm_rl" / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rl))
    counts = {"pairs": 400, "right": 259, "hard": 130, "dropped": {"unparsed critique": 9, NASTY[:30]: 2}}
    (run / "split" / "report.json").write_text(json.dumps(counts))
    names = list(COLOURS)
    held_out = [
        EvalPair(
            id=f"demo:{i}",
            question="What colour is the square?" if i else NASTY,
            response_1=f"The square is {names[i % 3]}.",
            response_2=f"The square is {names[(i + 1) % 3]}.",
            label=1 + i % 2,
            images=(images / f"{names[i % 3]}.png",),
            source="demo_colour" if i % 2 else "demo_shape",
        )
        for i in range(pairs)
    ]
    summary = {}
    for seed, (tag, skill) in enumerate({"start": 0.05, "sft": 0.7, "rl": 0.85}.items()):
        rows = judged_rows(held_out, skill, seed)
        (run / "evaluate" / f"{tag}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        summary[tag] = summarise(rows)
    (run / "evaluate" / "summary.json").write_text(json.dumps(summary))
    return run


class Page(HTMLParser):
    """What a browser sees: elements, visible text, and the content of the JSON element."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text, self.script, self._in = "", {"data": "", "images": ""}, ""
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._in = dict(attrs).get("id", tag) if tag == "script" else tag

    def handle_endtag(self, tag):
        self._in = ""

    def handle_data(self, data):
        if self._in in self.script:
            self.script[self._in] += data
        elif self._in not in ("script", "style"):
            self.text += data

    @property
    def data(self) -> dict:
        return json.loads(self.script["data"])

    @property
    def runs(self) -> dict[str, dict]:
        return {run["tag"]: run for run in self.data["runs"]}

    @property
    def images(self) -> list:
        return json.loads(self.script["images"])["images"]
