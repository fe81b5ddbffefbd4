"""Distillation with several tries at a pair: a real HTTP teacher that errs by the seed it is sent."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.demo_pairs import write_demo_pairs
from jobs.stages.data.distill import Settings
from proxygrm.critique.think_answer import parse
from proxygrm.demo.rule_judge import build_app
from proxygrm.teacher.critiques import CritiqueRow, read_critiques
from proxygrm.teacher.distill import DistillReport, distill
from support.evaluate.http_judges import serving
from support.refusals import refused

TRIES = 3


@pytest.fixture(scope="module")
def pairs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tries")
    write_demo_pairs(folder, train=60, held_out=2, seed=0)
    ingest("rlaif-v", folder / "train.parquet", folder / "pairs")
    return folder / "pairs"


def run(pairs_dir: Path, out: Path, url: str, **options: Any) -> DistillReport:
    defaults: dict[str, Any] = {"model": "rule-judge", "concurrency": 8, "contract": "r1", "tries": TRIES}
    return asyncio.run(distill(pairs_dir, out, url, **(defaults | options)))


def by_pair(path: Path) -> dict[str, list[CritiqueRow]]:
    found: dict[str, list[CritiqueRow]] = defaultdict(list)
    for row in read_critiques(path):
        found[row.id].append(row)
    return found


def test_a_pair_is_asked_until_the_teacher_is_right_each_time_in_the_other_order_with_another_seed(
    pairs_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c.jsonl"
    with serving(build_app(0.5)) as url:
        report = run(pairs_dir, out, url)
        lines = out.read_bytes().splitlines(keepends=True)
        again = tmp_path / "again.jsonl"
        again.write_bytes(b"".join(lines[:47]) + lines[47][:30])
        resumed = run(pairs_dir, again, url)
    labels = {pair.id: pair.label for pair in read_pairs(pairs_dir)}
    found = by_pair(out)
    assert found.keys() == labels.keys()
    took: Counter[str] = Counter()
    for pair_id, rows in found.items():
        rows.sort(key=lambda row: row.attempt)
        assert [row.attempt for row in rows] == [*range(1, len(rows) + 1)]
        assert [row.swapped for row in rows] == [False, True, False][: len(rows)]
        assert len({row.seed for row in rows}) == len(rows)
        assert {(row.contract, row.reason) for row in rows} == {("r1", None)}
        *earlier, last = [row.right(labels[pair_id]) for row in rows]
        assert not any(earlier)
        assert last or len(rows) == TRIES
        took[str(len(rows)) if last else "never"] += 1
        shown = 3 - labels[pair_id] if rows[-1].swapped else labels[pair_id]
        assert (parse(rows[-1].critique).verdict == shown) == last
    assert report.tries == took
    assert min(took.values()) > 0, "each of the four ends occurs"
    assert set(took) == {"1", "2", "3", "never"}
    # Resumed at the try: the same rows, none asked for twice.
    assert resumed.finished_before == 47
    assert resumed.written == len(lines) - 47
    assert sorted(again.read_bytes().splitlines()) == sorted(out.read_bytes().splitlines())
    assert resumed.tries == report.tries


def test_one_try_at_a_critique_writes_what_it_always_wrote(pairs_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.jsonl"
    with serving(build_app(0.3)) as url:
        report = run(pairs_dir, out, url, contract="proxy", tries=1)
        with refused("critique.other-contract", path=out, contract="proxy"):
            run(pairs_dir, out, url)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert {tuple(row) for row in rows} == {("id", "critique", "verdict", "reason", "model")}
    assert report.tries == {"1": report.right, "never": 60 - report.right}


def test_settings_that_would_ask_the_same_again_are_refused() -> None:
    with refused("settings.contradiction", tries=3):
        Settings(teacher="http://teacher/v1", tries=3)
    Settings(teacher="http://teacher/v1", tries=3, temperature=0.3)
    with refused("settings.unknown-value", name="contract", value="r2"):
        Settings(contract="r2")  # type: ignore[arg-type]
