from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter

import pytest

from data_tools.ingest.run import ingest
from data_tools.rows.preference import read_pairs
from data_tools.sources.demo_pairs import write_demo_pairs
from proxygrm.core.errors import UserError
from proxygrm.demo.rule_judge import build_app
from proxygrm.teacher.critiques import read_critiques
from proxygrm.teacher.distill import distill
from support.evaluate.http_judges import Flaky, serving


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
        report = run(pairs_dir, out, teacher, shard=shard, shards=3, progress=lambda *tick: ticks.append(tick))
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


def test_a_killed_run_goes_on_at_the_row_where_it_stopped_and_repairs_its_torn_line(pairs_dir, teacher, tmp_path):
    out = tmp_path / "c.jsonl"
    run(pairs_dir, out, teacher)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:31]) + lines[31][:40])
    report = run(pairs_dir, out, teacher)
    assert (report.finished_before, report.written) == (31, 29)
    assert out.read_bytes().startswith(b"".join(lines[:31]))
    assert Counter(row.id for row in read_critiques(out)) == Counter(p.id for p in read_pairs(pairs_dir))
    assert run(pairs_dir, out, "http://127.0.0.1:9").written == 0  # nothing to do, nobody is asked


def test_lost_requests_are_asked_again(pairs_dir, tmp_path):
    flaky = Flaky(503, every=5)
    with serving(flaky) as url:
        report = run(pairs_dir, tmp_path / "c.jsonl", url)
    assert (report.written, report.failed, report.wrong) == (60, {}, 0)
    assert flaky.calls > 60


def test_pairs_without_an_answer_are_counted_not_written_and_asked_again_later(pairs_dir, tmp_path):
    out = tmp_path / "c.jsonl"
    with serving(Flaky(422, every=20)) as url:
        report = run(pairs_dir, out, url)
        assert (report.written, report.failed) == (57, {"refused_by_service": 3})
        assert len(report.failed_ids) == 3
        again = run(pairs_dir, out, url)
    assert (again.finished_before, again.written) == (57, 3)


def test_an_image_that_is_gone_or_broken_costs_its_own_pair_alone(pairs_dir, teacher, tmp_path):
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


def test_a_teacher_that_fails_too_often_ends_the_run_and_keeps_what_is_done(pairs_dir, tmp_path):
    out = tmp_path / "c.jsonl"
    with serving(Flaky(422, every=2)) as url, pytest.raises(UserError, match="refused_by_service"):
        run(pairs_dir, out, url, concurrency=1)
    assert 5 <= len(list(read_critiques(out))) < 15
    assert json.loads((tmp_path / "c.jsonl.report.json").read_text())["failed"]["refused_by_service"] == 6


@pytest.mark.parametrize(("status", "message"), [(401, "the key is refused"), (404, "no such model")])
def test_what_no_retry_can_mend_ends_the_run_at_once(pairs_dir, tmp_path, status, message):
    flaky = Flaky(status, every=1)
    with serving(flaky) as url, pytest.raises(UserError, match=message):
        run(pairs_dir, tmp_path / "c.jsonl", url, concurrency=1)
    assert flaky.calls == 1


def test_wrong_settings_are_named(pairs_dir, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat_client._wait_s", lambda attempt: 0.01)
    out = tmp_path / "c.jsonl"
    with pytest.raises(UserError, match="no teacher answers at"):
        run(pairs_dir, out, "http://127.0.0.1:9")
    with pytest.raises(UserError, match="it serves: rule-judge"):
        run(pairs_dir, out, teacher, model="qwen")
    with pytest.raises(UserError, match="no URL"):
        run(pairs_dir, out, "localhost:8000")
    with pytest.raises(UserError, match="numbered 0 to 1"):
        run(pairs_dir, out, teacher, shard=2, shards=2)
    assert not out.exists()


def test_the_key_comes_from_a_file_only_its_owner_can_read(pairs_dir, teacher, tmp_path):
    key = tmp_path / "key"
    with pytest.raises(UserError, match="No such file"):
        run(pairs_dir, tmp_path / "c.jsonl", teacher, api_key_file=key)
    key.write_text("secret\n")
    key.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        run(pairs_dir, tmp_path / "c.jsonl", teacher, api_key_file=key)
    key.chmod(0o600)
    assert run(pairs_dir, tmp_path / "c.jsonl", teacher, api_key_file=str(key)).written == 60


def test_a_file_of_other_pairs_or_another_teacher_is_not_mixed_in(pairs_dir, teacher, tmp_path):
    out = tmp_path / "c.jsonl"
    run(pairs_dir, out, teacher, shard=0, shards=2)
    with pytest.raises(UserError, match="not in this shard"):
        run(pairs_dir, out, teacher, shard=1, shards=2)
    with pytest.raises(UserError, match="was written by 'rule-judge'"):
        run(pairs_dir, out, teacher, shard=0, shards=2, model="other")
    out.write_text("{}\n")
    with pytest.raises(UserError, match="line 1 is no critique"):
        run(pairs_dir, out, teacher)


def test_the_environments_proxy_is_ignored(pairs_dir, teacher, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert run(pairs_dir, tmp_path / "c.jsonl", teacher).written == 60
