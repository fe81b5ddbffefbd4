"""Process reward on a real engine: a tiny model samples and judges, alone and beside the rule-based service."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.evaluate.http_judges import serving
from support.evaluate.solutions import MODEL, Service, drawn_rows, process, read, solution, write
from support.evaluate.taught import rows as rows_of
from support.evaluate.taught import solutions_folder
from support.refusals import code_of

pytestmark = pytest.mark.heavy

TOKENS = (
    "--description-tokens",
    8,
    "--audit-tokens",
    8,
    "--verdict-tokens",
    2,
    "--max-model-len",
    1024,
    "--device",
    "cpu",
)


def report(file: Path) -> dict:
    return json.loads(file.with_name(f"{file.name}.report.json").read_text())


def test_a_tiny_model_samples_and_scores_alone_and_beside_a_rule_based_service(tmp_path, monkeypatch):
    from proxygrm.critique.prompts.process import (
        audit_prompt,
        describe_prompt,
        judgements_prompt,
        policy_prompt,
        step_prompt,
    )
    from proxygrm.demo.corpus import demo_corpus
    from proxygrm.demo.model import build_tiny_model
    from proxygrm.evaluate.judges import base
    from proxygrm.evaluate.judges.engine import Engine, open_engine
    from proxygrm.evaluate.settings import EvaluateSettings

    texts = [describe_prompt("Q"), audit_prompt("D", "C"), step_prompt("Q", "D", ["S"]), policy_prompt("Q")]
    texts.append(judgements_prompt("Q", "D", ["S"], True))
    model = tmp_path / "model"
    build_tiny_model(model, [*demo_corpus(0, n=50), *texts * 20], seed=0)
    with open_engine(model, EvaluateSettings(max_model_len=1024, device="cpu"), max_images=2) as loaded:

        @contextmanager
        def shared(path, settings, max_images):
            assert (path, max_images <= 2) == (model, True)
            yield Engine(str(path), loaded.llm, settings)

        monkeypatch.setattr(base, "open_engine", shared)

        questions = write(tmp_path / "questions.jsonl", drawn_rows(tmp_path, 3, responses=0))
        policy = tmp_path / "policy.jsonl"
        words = ("--input", questions, "--output", policy, "--policy", model, *TOKENS[-4:], "--max-tokens", 12)
        process("sample", *words, "-n", 2)
        raw = read(tmp_path / "policy.jsonl.calls" / "process_policy.jsonl")[1:]
        assert len({row["text"] for row in raw}) == len({row["seed"] for row in raw}) == 6
        assert report(policy)["problems"] == {"cut_off": 6}  # it has not learnt to write a solution
        process("sample", *words, "-n", 3)
        again = read(tmp_path / "policy.jsonl.calls" / "process_policy.jsonl")[1:]
        assert (again[:6], len(again)) == (raw, 9)

        rows = drawn_rows(tmp_path, 4)
        rows[1]["image"] = ["1.png", "2.png"]
        rows[2]["question"] = "word " * 2000
        rows[3]["vlmresponse2"] = solution(*((f"Step number {n}.", None) for n in range(40)))
        source, scored = write(tmp_path / "solutions.jsonl", rows), tmp_path / "scored.jsonl"
        words = ("--input", source, "--output", scored, "--judge", model, *TOKENS, "--soft", "--history", 4)
        process("score", *words)
        counts, calls = report(scored), tmp_path / "scored.jsonl.calls"
        assert (counts["rows"], counts["steps"]) == (4, 3 * 4 + 2 + 40)
        assert counts["unreadable_descriptions"]["prompt_refused"] == 1
        assert counts["unreadable_verdicts"]["prompt_refused"] == 4
        out = read(scored)
        assert out[2]["vlmresponse1"]["eval"]["raw_step_scores"] == [None, None]
        evaluations = [row[f"vlmresponse{n}"]["eval"] for row in out for n in (1, 2)]
        nulls = sum(score is None for each in evaluations for score in each["raw_step_scores"])
        assert nulls == sum(counts["unreadable_verdicts"].values())
        soft = [score for each in evaluations for score in each["soft_step_scores"]]
        assert all(score is None or 0 <= score <= 1 for score in soft)
        steps = read(calls / "process_step.jsonl")[1:]
        assert len(steps) == counts["steps"]
        assert all(1 < len(row["logprobs"]) <= 21 for row in steps if row["problem"] is None)

        file = calls / "process_step.jsonl"
        kept = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(kept[:-5]))
        process("score", *words)
        assert {row["key"] for row in read(file)[1:]} == {row["key"] for row in steps}
        assert read(file)[1:-5] == steps[:-5]

        service, mixed = Service(), tmp_path / "mixed.jsonl"
        with serving(service) as url:
            roles = ("--extractor", url, "--auditor", url)
            process("score", "--input", source, "--output", mixed, "--judge", model, *TOKENS, *roles, *MODEL)
        assert {text.split()[0] for text in service.texts} == {"Describe", "Two"}
        first = read(mixed)[0]["vlmresponse2"]["eval"]
        assert (first["local_p_score"], first["visual_step_indices"]) == (0.5, [0])
        assert report(mixed)["unreadable_audits"] == {}
        assert len(first["raw_step_scores"]) == 2

        # As a teacher, sampled with a seed for each call: more prompts than the engine reads in one step.
        solutions = solutions_folder(tmp_path / "solutions", 6)
        words = ("--teacher", model, *TOKENS[-4:], "--max-tokens", 4, "--tries", 2, "--temperature", 1)
        process("describe", solutions, "--out", tmp_path / "d", *words)
        assert rows_of(tmp_path / "d")[0]["model"].startswith("model@")
        words = (*words, "--descriptions", tmp_path / "d")
        done = process("judge", solutions, "--out", tmp_path / "j", *words, code=2)
        assert code_of(done.stderr) == "teacher.nothing-usable"  # it has not learnt to write a list
        asked = read(tmp_path / "j" / "calls" / "shard-000.jsonl")[1:]
        assert {row["problem"] for row in asked} == {None}
        assert len({row["seed"] for row in asked}) == len(asked) == 2 * 3 * len(rows_of(tmp_path / "d"))
