"""Distillation against a real HTTP teacher that answers by rules, and fails when a test needs it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter

import pytest

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.demo_pairs import write_demo_pairs
from proxygrm.demo.rule_judge import build_app
from proxygrm.teacher.critiques import read_critiques
from proxygrm.teacher.distill import distill
from support.evaluate.http_judges import Flaky, serving
from support.refusals import refused

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pairs_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distill")
    write_demo_pairs(folder, train=60, held_out=2, seed=0)
    ingest("rlaif-v", folder / "train.parquet", folder / "pairs")
    return folder / "pairs"


@pytest.fixture(scope="module")
def teacher():
    with serving(build_app(0.35)) as url:
        yield url


def run(pairs_dir, out, url, **options):
    defaults = {"model": "rule-judge", "concurrency": 8, "timeout_s": 20.0}
    return asyncio.run(distill(pairs_dir, out, url, **(defaults | options)))


def test_shards_together_hold_one_critique_for_every_pair(pairs_dir, teacher, tmp_path):
    seen, ticks = [], []
    for shard in range(3):
        out = tmp_path / f"shard {shard}.jsonl"
        report = run(pairs_dir, out, teacher, shard=shard, shards=3, on_progress=lambda *tick: ticks.append(tick))
        assert (report.pairs, report.written, report.failed, report.unusable) == (20, 20, {}, {})
        assert json.loads((tmp_path / f"shard {shard}.jsonl.report.json").read_text())["right"] == report.right
        seen += [row.id for row in read_critiques(out)]
    assert sorted(seen) == sorted(pair.id for pair in read_pairs(pairs_dir))
    assert ticks[-1] == (20, 20, "")


def test_the_teachers_errors_make_both_right_and_wrong_critiques(pairs_dir, teacher, tmp_path):
    report = run(pairs_dir, tmp_path / "c.jsonl", teacher + "/v1/")
    labels = {pair.id: pair.label for pair in read_pairs(pairs_dir)}
    rows = list(read_critiques(tmp_path / "c.jsonl"))
    assert report.right == sum(labels[row.id] == row.verdict for row in rows)
    assert 10 < report.wrong < 35
    assert report.right + report.wrong == 60


def test_a_killed_run_resumes_at_the_row_where_it_stopped_and_removes_its_incomplete_line(pairs_dir, teacher, tmp_path):
    out = tmp_path / "c.jsonl"
    run(pairs_dir, out, teacher)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:31]) + lines[31][:40])
    report = run(pairs_dir, out, teacher)
    assert (report.finished_before, report.written) == (31, 29)
    assert out.read_bytes().startswith(b"".join(lines[:31]))
    assert Counter(row.id for row in read_critiques(out)) == Counter(p.id for p in read_pairs(pairs_dir))
    assert run(pairs_dir, out, "http://127.0.0.1:9").written == 0  # nothing to do, so nothing is sent


def test_failed_requests_are_retried(pairs_dir, tmp_path):
    flaky = Flaky(503, every=5, once=True)
    with serving(flaky) as url:
        report = run(pairs_dir, tmp_path / "c.jsonl", url)
    assert (report.written, report.failed, report.wrong) == (60, {}, 0)
    assert flaky.calls > 60


def test_pairs_without_an_answer_are_counted_not_written_and_tried_again_by_a_rerun(pairs_dir, tmp_path):
    out = tmp_path / "c.jsonl"
    with serving(Flaky(422, every=20)) as url:
        report = run(pairs_dir, out, url)
        assert (report.written, report.failed) == (57, {"refused_by_service": 3})
        assert len(report.failed_ids) == 3
        again = run(pairs_dir, out, url)
    assert (again.finished_before, again.written) == (57, 3)


def test_a_missing_or_broken_image_costs_only_its_own_pair(pairs_dir, teacher, tmp_path):
    folder = tmp_path / "pairs"
    shutil.copytree(pairs_dir, folder)
    names = sorted(path.name for path in (folder / "images").iterdir())
    (folder / "images" / names[0]).unlink()
    (folder / "images" / names[1]).write_bytes(b"junk")
    lost = {pair.id for pair in read_pairs(folder) if {*pair.images} & {*names[:2]}}
    report = run(folder, tmp_path / "c.jsonl", teacher, max_failed_share=0.5)
    assert report.failed == {"image_unreadable": len(lost)}
    assert {*report.failed_ids} == lost
    assert report.written == report.pairs - len(lost)


def test_a_teacher_that_fails_too_often_ends_the_run_and_finished_rows_are_kept(pairs_dir, tmp_path):
    out = tmp_path / "c.jsonl"
    failed = {"refused_by_service": 6}
    with serving(Flaky(422, every=2)) as url, refused("teacher.too-many-failures", failed=failed, pairs=60):
        run(pairs_dir, out, url, concurrency=1)
    assert 5 <= len(list(read_critiques(out))) < 15
    assert json.loads((tmp_path / "c.jsonl.report.json").read_text())["failed"]["refused_by_service"] == 6


@pytest.mark.parametrize(("status", "code"), [(401, "chat.key-refused"), (404, "chat.not-found")])
def test_an_error_that_no_retry_can_fix_ends_the_run_at_once(pairs_dir, tmp_path, status, code):
    flaky = Flaky(status, every=1)
    with serving(flaky) as url, refused(code, status=status):
        run(pairs_dir, tmp_path / "c.jsonl", url, concurrency=1)
    assert flaky.calls == 1


def test_wrong_settings_are_named(pairs_dir, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.01)
    out = tmp_path / "c.jsonl"
    with refused("chat.no-answer", url="http://127.0.0.1:9/v1"):
        run(pairs_dir, out, "http://127.0.0.1:9")
    with refused("chat.model-not-served", model="qwen", served=["rule-judge"]):
        run(pairs_dir, out, teacher, model="qwen")
    with refused("chat.endpoint-not-a-url", endpoint="localhost:8000"):
        run(pairs_dir, out, "localhost:8000")
    with refused("teacher.no-such-shard", shard=2, shards=2):
        run(pairs_dir, out, teacher, shard=2, shards=2)
    assert not out.exists()


def test_the_key_comes_from_a_file_that_only_its_owner_can_read(pairs_dir, teacher, tmp_path):
    key = tmp_path / "key"
    with refused("key-file.unreadable", path=key):
        run(pairs_dir, tmp_path / "c.jsonl", teacher, api_key_file=key)
    key.write_text("secret\n")
    key.chmod(0o644)
    with refused("key-file.not-private", path=key):
        run(pairs_dir, tmp_path / "c.jsonl", teacher, api_key_file=key)
    key.chmod(0o600)
    assert run(pairs_dir, tmp_path / "c.jsonl", teacher, api_key_file=str(key)).written == 60


def test_a_file_of_other_pairs_or_another_teacher_is_not_mixed_in(pairs_dir, teacher, tmp_path):
    out = tmp_path / "c.jsonl"
    run(pairs_dir, out, teacher, shard=0, shards=2)
    with refused("critique.other-shard", path=out):
        run(pairs_dir, out, teacher, shard=1, shards=2)
    with refused("critique.other-model", path=out, model="rule-judge"):
        run(pairs_dir, out, teacher, shard=0, shards=2, model="other")
    out.write_text("{}\n")
    with refused("critique.bad-row", path=out, row=1):
        run(pairs_dir, out, teacher)


def test_the_environments_proxy_is_ignored(pairs_dir, teacher, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert run(pairs_dir, tmp_path / "c.jsonl", teacher).written == 60
