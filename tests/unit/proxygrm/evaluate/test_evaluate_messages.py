"""The sentences of the errors of evaluation, each once, in tests/golden/evaluate_messages.txt; other tests use codes.

Without that file this test writes it and fails; review the difference before committing it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jobs.cli.eval.main import evaluation
from proxygrm.core.checkpoints.identity import checkpoint_identity
from proxygrm.core.errors import UserError
from proxygrm.evaluate.agreement.cases import read_cases
from proxygrm.evaluate.agreement.run import Access, Side, compare_proxies
from proxygrm.evaluate.benchmarks import benchmark, partition
from proxygrm.evaluate.best_of_n.judge import judge_candidates, read_matches
from proxygrm.evaluate.best_of_n.ranking import best_of_n
from proxygrm.evaluate.judges.endpoint import Endpoint, EndpointJudge, _Outcome
from proxygrm.evaluate.judges.engine import none_accepted
from proxygrm.evaluate.judges.scalar import ScalarJudge
from proxygrm.evaluate.judging import prepare
from proxygrm.evaluate.layouts import LAYOUTS
from proxygrm.evaluate.layouts.export import export
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, load_pairs
from proxygrm.evaluate.rows.row_file import RowFile, write_rows
from proxygrm.evaluate.run import PreparedRun, Run, merge_shards
from proxygrm.evaluate.scores.audit import published_numbers
from proxygrm.evaluate.scores.compare import compare
from proxygrm.evaluate.scores.expected import ids_of
from proxygrm.evaluate.scores.score import read, score
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.transfer.rubrics import read_rubrics, shared_pairs
from proxygrm.evaluate.transfer.run import Transfer, measure_transfer

GOLDEN = Path(__file__).parents[3] / "golden" / "evaluate_messages.txt"
PAIR = EvalPair("p", "q?", "good", "bad", 1)
UNPARSED = {"id": "a", "rewards": [0, 0], "reverse": False, "critic": "?"}
RIGHT = {"id": "a", "rewards": [1, 0], "reverse": False}
VL = {"id": "mmmu_1", "rewards": [1, 0], "reverse": False}
OWN = {"id": "a", "question": "q", "response_1": "x", "response_2": "y", "label": 1, "verdict": 1, "critique": ""}
CANDIDATES = {"id": "q", "candidates": ["a", "b"]}
JUDGED = {"id": "q", "first": 0, "second": 1, "verdict": 1}


LMMS = {"target": "[0, 1]", "resps": "1", "vlreward_score": {"question_id": "mmmu_1", "score": 1.0}}
KIT = {"index": 0, "response": "['a', 'b']", "answer": "[0, 1]", "prediction": "Answer 1 is better", "score": 1.0}


class Folder:
    """Files of one scenario."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def file(self, *rows: Any, name: str = "rows.jsonl") -> Path:
        path = self.path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    def answers(self, *rows: Any, bench: str = "pairs", name: str = "rows.jsonl", **options: Any) -> Any:
        return read(bench, [self.file(*rows, name=name)], **options)

    def binary(self, data: bytes, name: str) -> Path:
        (self.path / name).write_bytes(data)
        return self.path / name

    def rubrics(self, name: str, *rows: Any) -> Any:
        return read_rubrics(name, self.file(*rows, name=f"{name}.jsonl"))

    def text(self, text: str, name: str = "rows.jsonl") -> Path:
        (self.path / name).write_text(text)
        return self.path / name


def command(*words: object) -> None:
    result = CliRunner().invoke(evaluation, [str(word) for word in words])
    if result.exception:
        raise result.exception


def vl_rows(count: int, **more: Any) -> list[Any]:
    return [VL | {"id": f"mmmu_{n}", "prompt": f"p{n}", "chosen": "c", "rejected": "r"} | more for n in range(count)]


def in_both_orders(id_: str) -> list[Any]:
    return [OWN | {"id": id_}, OWN | {"id": id_, "label": 2, "response_1": "y", "response_2": "x"}]


def write_twice(path: Path, made_by: dict[str, Any], other: dict[str, Any]) -> None:
    with RowFile(path, made_by) as file:
        file.append({"key": "1"})
    with RowFile(path, other):
        pass


def unanswered(early: bool) -> None:
    outcome = _Outcome(48, lambda row: None, works=True)
    outcome.failed["http_418"] = 30 if early else 4
    outcome.check("m at http://x")


def scalar(folder: Folder, *rows: Any) -> None:
    ScalarJudge(folder.file(*rows), [PAIR, EvalPair("z", "q", "a", "b", 1)])


def shards_missing(folder: Folder) -> None:
    run = Run(
        folder.file({"id": "p", "score_1": 1, "score_2": 0}), folder.path, "pairs", folder.path, EvaluateSettings()
    )
    merge_shards(PreparedRun(run, prepare(ScalarJudge(run.judge, [PAIR]), [PAIR], run.settings)))


def transfer_of(folder: Folder, **change: Any) -> None:
    rubrics = {"rl": folder.file(OWN, name="rl.jsonl")}
    request = {"rubrics": rubrics, "judges": {"a": Endpoint("http://x", "m")}, "settings": EvaluateSettings()}
    measure_transfer(Transfer(**(request | change), out=folder.path / "out"))


def ranked(folder: Folder, candidates: list[Any], judgements: list[Any], **options: Any) -> None:
    best_of_n(folder.file(*candidates, name="c.jsonl"), folder.file(*judgements, name="j.jsonl"), **options)


SCENARIOS: dict[str, Callable[[Folder], Any]] = {
    # benchmarks, names
    "unknown benchmark": lambda f: benchmark("x"),
    "unknown partition": lambda f: partition(benchmark("pairs"), "upstream"),
    "bad name": lambda f: check_file_name("../a"),
    "reserved name": lambda f: check_file_name("transfer", ("transfer",)),
    # rows
    "no pairs": lambda f: load_pairs(f.path / "gone"),
    "empty file of pairs": lambda f: load_pairs(f.text("\n")),
    "bad pair": lambda f: load_pairs(f.file({"id": 1, "prompt": "p", "chosen": "c"})),
    "missing image": lambda f: check_pairs([EvalPair("a", "q", "x", "y", 1, (f.path / "gone.png",))], "refuse"),
    "not an image": lambda f: check_pairs([EvalPair("a", "q", "x", "y", 1, (f.text("text", "a.png"),))], "refuse"),
    "no images at all": lambda f: prepare(
        None,
        [PAIR],
        EvaluateSettings(missing_images="drop"),
        images_required=True,  # type: ignore[arg-type]
    ),
    "row file of another model": lambda f: write_twice(f.path / "a.jsonl", {"model": "m"}, {"model": "n"}),
    "damaged row file": lambda f: write_twice(f.text('{"made_by": 1}\nx\n{}\n', "a.jsonl"), {}, {}),
    "row file in a file": lambda f: RowFile(f.text("x", "file") / "a.jsonl", {}).__enter__(),
    "rows that cannot be written": lambda f: write_rows(f.text("x", "file") / "a.jsonl", []),
    # judges
    "no checkpoint": lambda f: checkpoint_identity(f.path),
    "judge that accepts nothing": lambda f: none_accepted("m", 3, "too long"),
    "no key": lambda f: Endpoint("http://x", "m", api_key_env="NO_SUCH_KEY").key(),
    "pixels of an endpoint": lambda f: EndpointJudge(Endpoint("http://x", "m"), EvaluateSettings(max_pixels=9)),
    "unanswered": lambda f: unanswered(early=False),
    "stopped early": lambda f: unanswered(early=True),
    "bad scores": lambda f: scalar(f, {"id": "p"}, "{torn"),
    "no scores": lambda f: scalar(f, ""),
    "scores of other pairs": lambda f: scalar(f, {"id": "other", "score_1": 1, "score_2": 0}),
    "missing scores": lambda f: scalar(f, {"id": "p", "score_1": 1, "score_2": 0}),
    "missing judgements": shards_missing,
    # scores
    "missing answers": lambda f: read("pairs", [f.path / "gone.jsonl"]),
    "folder as answers": lambda f: read("pairs", [f.path]),
    "no answers": lambda f: f.answers(),
    "bad answers": lambda f: f.answers(RIGHT, {"id": "a"}, "[1]"),
    "cut off": lambda f: read("pairs", [f.text(json.dumps(RIGHT) + "\n{")]),
    "the same file twice": lambda f: read("pairs", [f.file(RIGHT)] * 2),
    "other benchmark": lambda f: f.answers(VL, bench="mm-rlhf-rewardbench"),
    "mixed orders": lambda f: f.answers(RIGHT, {"id": "b", "rewards": [1, 0]}),
    "uneven": lambda f: f.answers(*in_both_orders("a"), *in_both_orders("c"), OWN | {"id": "b"}),
    "missing pairs": lambda f: f.answers(*vl_rows(2), bench="vl-rewardbench"),
    "extra pairs": lambda f: f.answers(*vl_rows(1251), bench="vl-rewardbench"),
    "wrong ids": lambda f: f.answers(*vl_rows(1250, id="mmmu_1"), bench="vl-rewardbench"),
    "unexpected ids": lambda f: f.answers(RIGHT, expected=["b"]),
    "missing ids": lambda f: f.answers(RIGHT, expected=["a", "b"]),
    "no category": lambda f: score(f.answers(RIGHT, bench="multimodal-rewardbench", partial=True)),
    "unknown policy": lambda f: score(f.answers(RIGHT), policy="x"),
    "too many votes": lambda f: score(f.answers(RIGHT), votes=3),
    "nothing to count": lambda f: score(f.answers(UNPARSED), policy="drop"),
    "one run": lambda f: compare({"a": f.answers(RIGHT)}),
    "different pairs": lambda f: compare({"a": f.answers(RIGHT), "b": f.answers(RIGHT, RIGHT | {"id": "b"})}),
    "nothing to compare": lambda f: compare({"a": f.answers(RIGHT), "b": f.answers(UNPARSED)}, policy="drop"),
    "repeated ids": lambda f: compare({"a": f.answers(*vl_rows(2)), "b": f.answers(VL, VL)}),
    "published name": lambda f: published_numbers("x=1", benchmark("mm-rlhf-rewardbench")),
    "published number": lambda f: published_numbers("mcq=x", benchmark("mm-rlhf-rewardbench")),
    "published nothing": lambda f: published_numbers(" ,", benchmark("mm-rlhf-rewardbench")),
    "ids of nothing": lambda f: ids_of(f.path / "gone"),
    "ids of a bad row": lambda f: ids_of(f.file({"x": 1})),
    # best of N
    "candidates without question": lambda f: read_matches(f.file(CANDIDATES)),
    "candidate without text": lambda f: read_matches(f.file(CANDIDATES | {"question": "q", "candidates": ["a", 1]})),
    "no reference text": lambda f: read_matches(f.file(CANDIDATES | {"question": "q"}), against_reference=True),
    "images of candidates": lambda f: read_matches(f.file(CANDIDATES | {"question": "q", "images": [1]})),
    "judgements of others": lambda f: judge_candidates(None, f.path, f.text("", "j"), False, "refuse"),  # type: ignore[arg-type]
    "missing candidates": lambda f: read_matches(f.path / "gone"),
    "candidates not an object": lambda f: ranked(f, ["[1]"], []),
    "no candidates": lambda f: ranked(f, [], []),
    "no list of candidates": lambda f: ranked(f, [{"id": "q"}], []),
    "correct of wrong length": lambda f: ranked(f, [CANDIDATES | {"correct": []}], []),
    "correct of wrong kind": lambda f: ranked(f, [CANDIDATES | {"correct": [1.5, True]}], []),
    "repeated prompt": lambda f: ranked(f, [CANDIDATES] * 2, []),
    "bad id of a prompt": lambda f: ranked(f, [CANDIDATES | {"id": 1.0e30}], []),
    "unjudged prompts": lambda f: ranked(f, [CANDIDATES], []),
    "other prompts": lambda f: ranked(f, [CANDIDATES], [JUDGED | {"id": "x"}]),
    "unknown candidate": lambda f: ranked(f, [CANDIDATES], [JUDGED | {"second": 2}]),
    "candidate against itself": lambda f: ranked(f, [CANDIDATES], [JUDGED | {"second": 0}]),
    "bad verdict": lambda f: ranked(f, [CANDIDATES], [JUDGED | {"verdict": 3}]),
    "no reference judged": lambda f: ranked(f, [CANDIDATES], [JUDGED], against_reference=True),
    # transfer
    "missing rubrics": lambda f: read_rubrics("a", f.path / "gone"),
    "bad judgement": lambda f: f.rubrics("a", {"id": "a", "label": 1, "response_1": "x"}),
    "duplicate judgement": lambda f: f.rubrics("a", OWN, OWN),
    "no judgements": lambda f: f.rubrics("a", ""),
    "rubrics of different pairs": lambda f: shared_pairs([f.rubrics("a", OWN, OWN | {"id": "b"}), f.rubrics("b", OWN)]),
    "nothing to transfer": lambda f: transfer_of(f, rubrics={}),
    "name of the base": lambda f: transfer_of(f, rubrics={"base": f.path}, base=f.path),
    "no rubric to send": lambda f: transfer_of(f),
    "not rubrics": lambda f: transfer_of(f, rubrics={"rl": f.path}),
    # agreement
    "the same side twice": lambda f: compare_proxies(None, *[Side("x", "critique")] * 2, Access()),  # type: ignore[arg-type]
    "no rollouts": lambda f: read_cases([f.path / "gone"]),
    "no files of rollouts": lambda f: read_cases([f.path]),
    "nothing to judge": lambda f: read_cases([f.file({"id": "x", "label": 1, "critique": ""})]),
    "not a training file": lambda f: read_cases([f.file({"id": "x", "critique": ""})], f.path / "gone.parquet"),
    # commands
    "nothing to score": lambda f: command("score", "--bench", "pairs"),
    "nothing for a judge": lambda f: command("run", "--judge", "x", "--out", f.path / "out"),
    "unknown kind of judge": lambda f: command("run", "--judge", "x", "--out", f.path / "out", "--pairs", "p"),
    "endpoint without model": lambda f: command("run", "--judge", "http://x", "--out", f.path / "out", "--pairs", "p"),
    "out is a file": lambda f: command("run", "--judge", "x", "--out", f.text("", "f"), "--pairs", "p"),
    "orders of scores": lambda f: command(
        "run", "--judge", f.text("", "s"), "--out", f.path / "out", "--pairs", "p", "--orders", "both"
    ),
    "data without benchmark": lambda f: command(
        "run", "--judge", f.text("", "s"), "--out", f.path / "out", "--data", "p"
    ),
    "unknown layout": lambda f: f.answers({"id": "a", "prediction": "1"}),
    "ambiguous layout": lambda f: f.answers([LMMS | KIT], bench="vl-rewardbench", name="x.json"),
    "other layout than said": lambda f: f.answers(LMMS, bench="vl-rewardbench", layout="vlmevalkit"),
    "layout of our own": lambda f: f.answers(VL, bench="vl-rewardbench", layout="vlmevalkit"),
    "layout of another benchmark": lambda f: f.answers(LMMS, bench="rewardbench"),
    "unusable rows": lambda f: f.answers(LMMS, LMMS | {"target": "?"}, bench="vl-rewardbench"),
    "unscored predictions": lambda f: f.answers(
        [{k: v for k, v in KIT.items() if k != "score"}], bench="vl-rewardbench", name="x.json"
    ),
    "layout needs pairs": lambda f: f.answers([KIT], bench="vl-rewardbench", name="x.json"),
    "lines of another length": lambda f: f.answers(
        {"chosen": 1, "rejected": 0}, bench="rewardbench", pairs=f.file(OWN, OWN | {"id": "b"}, name="p.jsonl")
    ),
    "bad columns": lambda f: f.answers({"subset": ["hep-go"], "id": [1], "results": [1, 0]}, bench="rewardbench"),
    "damaged sheet": lambda f: read("pairs", [f.text("no sheet", "x.xlsx")]),
    "damaged table": lambda f: read("pairs", [f.binary(b"a\tb\n\xff", "x.tsv")]),
    "compare without rows": lambda f: compare(
        dict.fromkeys("ab", f.answers({"hep-go": 0.5}, bench="rewardbench", partial=True))
    ),
    "export of another layout": lambda f: command(
        "export", "--bench", "pairs", "--layout", "lmms-eval", "--answers", "a", "--out", "o"
    ),
    "export of no sample": lambda f: export(f.file(OWN), LAYOUTS["lmms-eval"], f.path / "o", sample=2),
    "export without texts": lambda f: export(f.file(VL), LAYOUTS["lmms-eval"], f.path / "o"),
    "export as another table": lambda f: export(f.file(OWN), LAYOUTS["vlmevalkit"], f.path / "o.json"),
    "export without scores": lambda f: export(f.file(OWN), LAYOUTS["rm-bench"], f.path / "o.json"),
    "export of part of a prompt": lambda f: export(
        f.file(OWN | {"id": "chat/1/c0-r0", "scores": [1, 0]}), LAYOUTS["rm-bench"], f.path / "o.json"
    ),
    "value without a name": lambda f: command(
        "transfer", "--rubrics", "x", "--judge", "http://x", "--out", f.path / "o"
    ),
    "two of one name": lambda f: command(
        "transfer", *["--judge", "a=x"] * 2, "--rubrics", "r=x", "--out", f.path / "o"
    ),
    "limit without pairs": lambda f: command(
        "transfer", "--judge", "a=x", "--rubrics", "r=x", "--out", f.path / "o", "--limit", "1"
    ),
    "two runs of one name": lambda f: command("compare", "--bench", "pairs", "a=x", "a=y", "a=z"),
}


OTHERS = r"(?<=a\.png \()not an image.*(?=\); fix)|(?<=paths \()int.*(?=\))|id is the float.*"
"""Reasons from other packages, whose sentences are tested there."""


def message_of(name: str, folder: Path) -> str:
    folder.mkdir()
    try:
        error = SCENARIOS[name](Folder(folder))
    except UserError as raised:
        error = raised
    assert isinstance(error, UserError), name
    sentence = re.sub(OTHERS, "REASON", str(error).replace(str(folder), "DIR"))
    return f"{name} [{error.code}]\n    {sentence}\n"


def test_every_error_has_its_sentence(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    messages = "".join(message_of(name, tmp_path / str(number)) for number, name in enumerate(SCENARIOS))
    if not GOLDEN.exists():
        GOLDEN.write_text(messages)
        pytest.fail(f"wrote {GOLDEN}; review it")
    assert messages == GOLDEN.read_text()
    assert "[]" not in messages


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_error_is_one_line(name, tmp_path):
    assert len(message_of(name, tmp_path / "f").splitlines()) == 2
