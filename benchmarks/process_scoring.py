"""What a step-by-step score costs: `process score`'s path against the order of work of the released scorer.

    python benchmarks/process_scoring.py [--model CHECKPOINT] [--questions 8] [--solutions 8] [--steps 10]
        [--written 64]

The released scorer finishes one question before the next, and its stages one after the other: a description, the
audits of its solutions, then the steps of one solution after another in batches of 8. Both use the same checkpoint on
vLLM with the same instructions, greedily, in float32 on the CPU, each in a process of its own. Printed: CPU seconds
(user and system) for starting and per solution, their ratio, how many answers of each stage have the same text, and
whether verdicts agree where texts do. Without `--model` a tiny untrained one is built.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measuring import cpu_seconds, peak_mb

BATCH = 8
VERDICT_TOKENS = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint  [a tiny untrained one]")
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--solutions", type=int, default=8, help="of each question")
    parser.add_argument("--steps", type=int, default=10, help="of a solution on average, at most 12")
    parser.add_argument("--written", type=int, default=64, help="tokens of a description and of an audit")
    parser.add_argument("--part", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        figures = {"ours": ours, "peer": peer}[options.part](options.model, options.folder, options.written)
        (options.folder / f"{options.part}.json").write_text(json.dumps(figures))
        return
    with tempfile.TemporaryDirectory() as name:
        compare(Path(name), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    from proxygrm.process.verdict import read_verdict

    draw(folder, options.questions, options.solutions, options.steps)
    model = options.model or build(folder)
    figures: dict[str, Any] = {}
    for part in ("peer", "ours"):
        command = [sys.executable, __file__, "--part", part, "--model", str(model), "--folder", str(folder)]
        command += ["--written", str(options.written)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"})
        figures[part] = json.loads((folder / f"{part}.json").read_text())
    one, two = figures["peer"], figures["ours"]
    count = options.questions * options.solutions
    print(f"{count} solutions of {options.questions} questions, {len(one['process_step'])} steps, {model}")
    print("| | start, CPU s | CPU s per solution | peak memory, MB |")
    print("|---|---:|---:|---:|")
    for title, each in (("the released order", one), ("process score", two)):
        print(f"| {title} | {each['load_s']:.1f} | {each['score_s'] / count:.3f} | {each['peak_mb']:,} |")
    print(f"factor {one['score_s'] / two['score_s']:.1f}")
    for stage in ("process_describe", "process_audit", "process_step"):
        same = sum(a == b for a, b in zip(one[stage], two[stage], strict=True))
        print(f"the same text of {same} in {len(one[stage])} answers to {stage}")
    texts = list(zip(one["process_step"], two["process_step"], strict=True))
    agree = sum(read_verdict(a) == read_verdict(b) for a, b in texts)
    where_same = [read_verdict(a) == read_verdict(b) for a, b in texts if a == b]
    print(f"the same verdict of {sum(where_same)} in {len(where_same)} steps with the same text, of {agree} in all")


def build(folder: Path) -> Path:
    from proxygrm.critique.prompts.process import audit_prompt, describe_prompt, step_prompt
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model

    texts = [describe_prompt("Q"), audit_prompt("D", "C"), step_prompt("Q", "D", ["There are two of them."])]
    build_tiny_model(folder / "model", [*demo_corpus(0, n=50), *texts * 20], seed=0)
    return folder / "model"


def draw(folder: Path, questions: int, solutions: int, steps: int) -> None:
    from proxygrm.demo.scenes import COUNTS, combinations
    from proxygrm.demo.scenes import draw as drawn

    chance, rows = random.Random(0), []
    for number in range(questions):
        combination = chance.choice(combinations("count"))
        (folder / f"{number}.png").write_bytes(drawn(combination, chance))
        row: dict[str, Any] = {"question": combination.question, "image": f"{number}.png"}
        for at in range(1, solutions + 1):
            length = min(12, max(1, steps + chance.randint(-2, 2)))
            facts = [chance.choice(COUNTS) for _ in range(length)]
            process = [
                {
                    "steptext": f"Look at part {k}: there are {fact} of them.",
                    "visualdependency": [None, f"{fact} shapes"][k % 2],
                }
                for k, fact in enumerate(facts)
            ]
            row[f"vlmresponse{at}"] = {"reasoningprocess": process, "finalanswer": facts[-1]}
        rows.append(row)
    (folder / "policy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def questions_in(folder: Path) -> Any:
    from proxygrm.evaluate.process.questions import read_questions

    return read_questions(folder / "policy.jsonl", folder)


def settings() -> Any:
    from proxygrm.evaluate.settings import EvaluateSettings

    return EvaluateSettings(max_model_len=2048, device="cpu")


def lengths(written: int) -> Any:
    from proxygrm.process.stages import ScoreSettings

    return ScoreSettings(written, written, VERDICT_TOKENS, history=0)


def ours(model: Path, folder: Path, written: int) -> dict[str, Any]:
    """The path of `process score` from the rows to the scored rows."""
    from proxygrm.evaluate.judges import base as judges
    from proxygrm.evaluate.process.score import Rules, Tally, score_questions, scored_row

    load, marks = judges.open_engine, {}

    @contextmanager
    def marked(*arguments: Any) -> Iterator[Any]:
        with load(*arguments) as engine:
            marks["loaded"] = cpu_seconds()
            yield engine
            marks["scored"] = cpu_seconds()

    judges.open_engine = marked  # type: ignore[assignment]
    calls = judges.CheckpointCalls(model, settings())
    file = questions_in(folder)
    work = score_questions(
        file, lengths(written), calls, calls, calls, folder / "calls", lambda done, total, note: None
    )
    closed = cpu_seconds()
    rows = [json.loads(line) for line in (folder / "policy.jsonl").read_text().splitlines()]
    scored = [scored_row(row, folder, work, Rules(), Tally()) for row in rows]
    (folder / "scored.jsonl").write_text("".join(json.dumps(row) + "\n" for row in scored))
    score_s = marks["scored"] - marks["loaded"] + cpu_seconds() - closed
    texts = texts_of(work, {key: answer["text"] for key, answer in work.answers.items()})
    return {"load_s": marks["loaded"] + closed - marks["scored"], "score_s": score_s, "peak_mb": peak_mb(), **texts}


def peer(model: Path, folder: Path, written: int) -> dict[str, Any]:
    """One question after the other, one stage after the other, batches of 8 steps of one solution."""
    from proxygrm.critique.prompts.process import AUDIT, DESCRIBE, STEP
    from proxygrm.evaluate.judges.engine import open_engine
    from proxygrm.evaluate.process.work import Work

    file = questions_in(folder)
    work = Work(file.questions, lengths(written), (DESCRIBE, AUDIT, STEP))
    with open_engine(model, settings(), 1) as engine:
        loaded = cpu_seconds()
        for question in file.questions:
            answer(engine.llm, work, [work.describing(question)])
            audits = [work.auditing(question, steps) for steps in question.solutions]
            answer(engine.llm, work, [request for request in audits if request])
            for steps in question.solutions:
                requests = work.judging(question, steps)
                for start in range(0, len(requests), BATCH):
                    answer(engine.llm, work, requests[start : start + BATCH])
        scored = cpu_seconds()
    texts = texts_of(work, {key: answer["text"] for key, answer in work.answers.items()})
    return {"load_s": loaded, "score_s": scored - loaded, "peak_mb": peak_mb(), **texts}


def answer(llm: Any, work: Any, requests: Sequence[Any]) -> None:
    from vllm import SamplingParams

    from proxygrm.evaluate.judges.engine import image_of

    chats = [
        [{"role": "user", "content": [
            *({"type": "image_pil", "image_pil": image_of(path, "refuse")} for path in request.images),
            {"type": "text", "text": request.text},
        ]}]
        for request in requests
    ]  # fmt: skip
    params = [SamplingParams(temperature=0, max_tokens=request.max_tokens) for request in requests]
    for request, output in zip(requests, llm.chat(chats, params, use_tqdm=False), strict=True):
        text = output.outputs[0].text
        work.answers[request.key] = {"key": request.key, "text": text, "problem": None, "truncated": False}


def texts_of(work: Any, texts: dict[str, str]) -> dict[str, list[str]]:
    """The answers of each stage in the order of the rows; their keys depend on the description, the order does not."""
    stages: dict[str, list[str]] = {"process_describe": [], "process_audit": [], "process_step": []}
    for question in work.questions:
        stages["process_describe"].append(texts[work.describing(question).key])
        for steps in question.solutions:
            audit = work.auditing(question, steps)
            stages["process_audit"].append(texts[audit.key] if audit else "")
            stages["process_step"] += [texts[request.key] for request in work.judging(question, steps)]
    return stages


if __name__ == "__main__":
    main()
