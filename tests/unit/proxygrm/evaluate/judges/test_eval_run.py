"""`eval run` with judges that need no GPU: a file of scores, and the rule-based judge behind a real HTTP server."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter

import pytest

from proxygrm.core.errors import UserError
from proxygrm.core.pairs import read_pairs
from proxygrm.critique.prompts import grm_prompt
from proxygrm.demo.rule_judge import build_app
from proxygrm.evaluate.judges.engine import BLANK_SIDE_PX, image_of
from support.evaluate.http_judges import Flaky, serving
from support.evaluate.runs import MODEL, call, demo_fixture, judge_fixture, mm_release, raw, rows, run, scored, write  # noqa: F401
from support.refusals import refused

pytestmark = pytest.mark.slow


def test_a_run_keeps_everything_about_each_judgement_and_its_file_is_scored_directly(demo, judge, tmp_path):
    output = run(tmp_path, judge, "--pairs", demo, *MODEL)
    assert "N = 24 of 24 pairs" in output
    judged, pairs = rows(tmp_path), read_pairs(demo)
    assert [(row["id"], row["order"]) for row in judged] == [
        (pair.id, order) for pair in pairs for order in ("as_is", "swapped")
    ]
    for row in judged:
        assert row["source"] == "proxygrm_demo"
        assert row["verdict"] in (1, 2)
        assert row["critique"].startswith("<rubric>")
        assert (row["sample"], row["seed"], row["problems"]) == (0, None, [])
        prompt = grm_prompt(row["question"], row["response_1"], row["response_2"], images=0)
        assert row["prompt_hash"] == hashlib.sha256(prompt.encode()).hexdigest()[:16]
        assert row["seconds"] > 0
        assert row["tokens"] > 10
    figures = scored(tmp_path, "--pairs", demo)
    assert (figures["n"], figures["orders"], figures["consistency"]) == (24, 2, 1.0)
    assert figures["overall"] == sum(row["correct"] for row in judged) / 48
    assert 0.4 < figures["overall"] < 1


def test_an_interrupted_run_requests_only_what_is_missing(demo, judge, tmp_path):
    run(tmp_path, judge, "--pairs", demo, *MODEL)
    whole = (tmp_path / "answers.jsonl").read_bytes()
    (file,) = (tmp_path / "raw").iterdir()
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:31]) + lines[31][:50])
    for name in ("answers.jsonl", "run.json"):
        (tmp_path / name).unlink()
    counting = Flaky(500, every=10**9)
    counting.app = build_app(0.3)
    with serving(counting) as url:
        run(tmp_path, url, "--pairs", demo, *MODEL)
    assert counting.calls == 48 - 30
    again = [json.loads(line) for line in whole.splitlines()]
    for before, after in zip(again, rows(tmp_path), strict=True):
        assert before | {"seconds": 0} == after | {"seconds": 0}
    assert run(tmp_path, "http://127.0.0.1:9", "--pairs", demo, *MODEL)  # complete: no request is sent


def test_shards_in_any_split_and_order_make_the_same_file_and_the_last_one_merges(demo, judge, tmp_path):
    run(tmp_path / "whole", judge, "--pairs", demo, *MODEL)
    out = tmp_path / "cut"
    with pytest.raises(UserError, match="shard '0/3'"):
        run(out, judge, "--pairs", demo, *MODEL, "--shard", "0/3")
    assert "the last of 3 merges" in run(out, judge, "--pairs", demo, *MODEL, "--shard", "3/3")
    assert not (out / "answers.jsonl").exists()
    run(out, judge, "--pairs", demo, *MODEL, "--shard", "1/3")
    assert "N = 24" in run(out, judge, "--pairs", demo, *MODEL, "--shard", "2/3")
    timeless = [[row | {"seconds": 0} for row in rows(folder)] for folder in (tmp_path / "whole", out)]
    assert timeless[0] == timeless[1]
    assert len(raw(out)) == 48
    # Split differently: the answers in the old shards' files are known, so no request is sent and no row is doubled.
    for name in ("answers.jsonl", "run.json"):
        (out / name).unlink()
    run(out, "http://127.0.0.1:9", "--pairs", demo, *MODEL, "--shard", "1/1")
    assert [row | {"seconds": 0} for row in rows(out)] == timeless[0]
    assert json.loads((out / "run.json").read_text())["doubled"] == 0


def test_more_pairs_later_are_added_to_what_was_judged(demo, judge, tmp_path):
    assert "N = 5 of 24 pairs" in run(tmp_path, judge, "--pairs", demo, *MODEL, "--limit", "5")
    assert len(rows(tmp_path)) == 10
    run(tmp_path, judge, "--pairs", demo, *MODEL)
    assert len(rows(tmp_path)) == len(raw(tmp_path)) == 48


def test_another_setting_in_the_same_folder_is_refused(demo, judge, tmp_path):
    run(tmp_path, judge, "--pairs", demo, *MODEL, "--limit", "2")
    with refused("file.made-by-other", changed=["max_tokens"]):
        run(tmp_path, judge, "--pairs", demo, "--model", "rule-judge", "--max-tokens", "99")
    assert len(raw(tmp_path)) == 4


def test_votes_have_different_seeds_and_are_scored_as_votes(demo, judge, tmp_path):
    options = ("--pairs", demo, *MODEL, "--votes", "3", "--temperature", "0.7", "--limit", "8")
    run(tmp_path, judge, *options)
    judged = rows(tmp_path)
    assert len(judged) == 48
    assert len({row["seed"] for row in judged}) == 48
    assert Counter(row["sample"] for row in judged) == {0: 16, 1: 16, 2: 16}
    figures = scored(tmp_path)
    assert (figures["n"], figures["orders"], figures["samples"]) == (8, 2, 3)
    assert list(figures["votes"]) == ["1", "3"]
    with pytest.raises(UserError, match="at temperature 0 all are the same"):
        run(tmp_path, judge, "--pairs", demo, *MODEL, "--votes", "3")


def test_hashed_orders_depend_on_the_content_and_the_seed_alone(demo, judge, tmp_path):
    orders = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, judge, "--pairs", demo, *MODEL, "--orders", "hashed", "--seed", seed)
        orders[name] = {row["id"]: row["order"] for row in rows(tmp_path / name)}
        assert len(rows(tmp_path / name)) == 24
    assert orders["a"] == orders["b"] != orders["c"]
    assert set(orders["a"].values()) == {"as_is", "swapped"}
    run(tmp_path / "given", judge, "--pairs", demo, *MODEL, "--orders", "as-given")
    assert {row["order"] for row in rows(tmp_path / "given")} == {"as_is"}


def test_an_order_is_drawn_from_the_seed_for_each_vote(demo, judge, tmp_path):
    drawn = {}
    options = ("--pairs", demo, *MODEL, "--votes", "4", "--temperature", "0.7", "--limit", "8")
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(tmp_path / name, judge, *options, "--orders", "drawn", "--seed", seed)
        drawn[name] = {(row["id"], row["sample"]): row["order"] for row in rows(tmp_path / name)}
    assert drawn["a"] == drawn["b"] != drawn["c"]
    assert len(drawn["a"]) == 8 * 4
    assert 2 in {len({drawn["a"][pair, vote] for vote in range(4)}) for pair, _ in drawn["a"]}
    figures = scored(tmp_path / "a")
    assert (figures["n"], figures["orders"], figures["samples"], figures["ballots"]["ballots"]) == (8, 1, 4, 8)
    before = json.loads((tmp_path / "a" / "run.json").read_text())
    run(tmp_path / "a", judge, *options, "--orders", "hashed", "--seed", "0")
    assert drawn["a"] == {(row["id"], row["sample"]): row["order"] for row in rows(tmp_path / "a")}
    assert (before["orders"], before["votes"]) == ("drawn", 4)


def test_lost_calls_are_retried_and_a_prompt_the_service_refuses_is_an_unparsed_row(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.01)
    with serving(Flaky(503, every=4, once=True)) as url:
        run(tmp_path / "lost", url, "--pairs", demo, *MODEL)
    assert Counter(row["correct"] for row in rows(tmp_path / "lost")) == {True: 48}
    with serving(Flaky(400, every=12)) as url:
        output = run(tmp_path / "refused", url, "--pairs", demo, *MODEL)
    assert "44 of 48 parsed; 4 prompts refused" in output
    assert "unparsed: refused by service 4" in output
    judged = rows(tmp_path / "refused")
    assert [row["refused"] for row in judged if row["refused"]] == ["refused_by_service: HTTP 400: sorry"] * 4
    assert scored(tmp_path / "refused")["unparsed"] == 4


def test_judgements_without_an_answer_are_counted_by_cause_and_requested_again_later(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.01)
    options = ("--pairs", demo, *MODEL, "--concurrency", "1")
    with serving(Flaky(418, every=10)) as url, refused("judge.unanswered", causes={"http_418": 4}, total=48):
        run(tmp_path, url, *options)
    assert len(raw(tmp_path)) == 44
    assert not (tmp_path / "answers.jsonl").exists()
    with serving(build_app(0.0)) as url:
        run(tmp_path, url, *options)
    assert len(rows(tmp_path)) == 48


def test_a_run_with_an_endpoint_that_never_answers_stops_early(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("proxygrm.serving.chat.client.pause_s", lambda attempt: 0.0)
    dead = Flaky(500, every=1)
    with serving(dead) as url, refused("judge.unanswered", causes={"http_500": 21}, early=True):
        run(tmp_path, url, "--pairs", demo, *MODEL, "--concurrency", "1")
    assert dead.calls == 21 * 5
    with serving(Flaky(400, every=1)) as url, refused("judge.accepts-nothing", count=48):
        run(tmp_path, url, "--pairs", demo, *MODEL)


def test_the_key_comes_from_a_variable_or_a_private_file_and_is_written_nowhere(demo, tmp_path, monkeypatch):
    seen = []

    class Guarded(Flaky):
        async def __call__(self, scope, receive, send):
            seen.append(dict(scope.get("headers", [])).get(b"authorization"))
            await super().__call__(scope, receive, send)

    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    key_file = tmp_path / "key"
    key_file.touch(0o600)
    key_file.write_text("sk-from-file\n")
    with serving(Guarded(500, every=10**9)) as url:
        run(tmp_path / "out", url, "--pairs", demo, *MODEL, "--limit", "1", "--api-key-env", "JUDGE_KEY")
        run(tmp_path / "two", url, "--pairs", demo, *MODEL, "--limit", "1", "--api-key-file", key_file)
    assert {b"Bearer sk-very-secret", b"Bearer sk-from-file"} == {key for key in seen if key}
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file() and path != key_file]
    assert not any("sk-" in text for text in written)
    with refused("judge.no-key", name="NO_SUCH_KEY"):
        run(tmp_path / "3", "http://127.0.0.1:9", "--pairs", demo, *MODEL, "--api-key-env", "NO_SUCH_KEY")


def test_released_files_are_ingested_first_and_a_video_is_judged_from_32_frames(demo, tmp_path):
    data = mm_release(tmp_path, next((demo / "images").iterdir()))
    scores = write(tmp_path / "scores.jsonl", [{"id": "a", "rewards": [1, 0]}] * 3 + [{"id": "b", "rewards": [1, 1]}])
    output = run(tmp_path / "out", scores, "--bench", "mm-rlhf-rewardbench", "--data", data)
    assert "N = 4 pairs, but MM-RLHF-RewardBench has 170: PARTIAL" in output
    judged = rows(tmp_path / "out")
    assert [(row["category"], row["group"], row["verdict"] == row["label"]) for row in judged] == [
        *[("mcq", "a", True)] * 3, ("video", "b", False),
    ]  # fmt: skip
    assert len(judged[3]["images"]) == 32
    answers = ("--answers", tmp_path / "out" / "answers.jsonl", "--partial", "--json")
    figures = json.loads(call("score", "--bench", "mm-rlhf-rewardbench", *answers))
    assert (figures["n"], figures["acc_plus"], figures["ties"], figures["expected"]) == (4, 0.5, 1, 170)


def test_a_scalar_model_scores_by_position_and_equal_scores_are_ties(demo, tmp_path):
    pairs = read_pairs(demo)
    lines = [
        {
            "id": pair.id if n % 2 else pair.id.removeprefix("proxygrm_demo:"),
            "score_1": 2.0 - pair.label,
            "score_2": 0.5,
        }
        for n, pair in enumerate(pairs)
    ]
    lines[0]["score_1"] = 0.5
    out = tmp_path / "out"
    assert "1 ties" in run(out, write(tmp_path / "scores.jsonl", lines), "--pairs", demo)
    assert [row["verdict"] for row in rows(out)] == ["tie", *(pair.label for pair in pairs[1:])]
    figures = scored(out)
    assert (figures["n"], figures["ties"], figures["orders"]) == (24, 1, 1)
    assert figures["policies"]["drop"]["n"] == 23
    with refused("eval.orders-of-scores"):
        run(out, tmp_path / "scores.jsonl", "--pairs", demo, "--orders", "both")


def test_repeated_ids_of_a_release_take_their_scores_in_order(tmp_path):
    pair = {"prompt": "p", "chosen": "c", "rejected": "r"}
    data = write(tmp_path / "vl.jsonl", [pair | {"id": "mmmu_1", "prompt": f"p{i}"} for i in range(3)])
    lines = [{"id": "mmmu_1", "rewards": [i, 1], "reverse": False} for i in range(3)]
    run(tmp_path / "out", write(tmp_path / "s.jsonl", lines), "--bench", "vl-rewardbench", "--data", data)
    assert [row["scores"] if row["label"] == 1 else row["scores"][::-1] for row in rows(tmp_path / "out")] == [
        [0, 1], [1, 1], [2, 1],
    ]  # fmt: skip


def test_a_run_can_end_with_rows_that_are_all_refused_once_the_judge_is_known_to_work(demo, judge, tmp_path):
    options = ("--pairs", demo, *MODEL)
    run(tmp_path, judge, *options)
    (file,) = (tmp_path / "raw").iterdir()
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-2]))
    (tmp_path / "run.json").unlink()
    with serving(Flaky(400, every=1)) as url:
        assert "2 prompts refused" in run(tmp_path, url, *options)
    assert len(rows(tmp_path)) == 48


def test_an_image_that_was_missing_and_exists_now_is_judged_again(demo, judge, tmp_path):
    shutil.copytree(demo / "images", tmp_path / "images")
    pairs = [pair for pair in read_pairs(demo)[:3] if pair.images]
    lines = [
        {"id": pair.id, "question": pair.question, "response_1": pair.response_1, "response_2": pair.response_2,
         "label": pair.label, "image": f"images/{pair.images[0]}"}
        for pair in pairs
    ]  # fmt: skip
    file, out = write(tmp_path / "mine.jsonl", lines), tmp_path / "out"
    image = tmp_path / lines[0]["image"]
    image.rename(tmp_path / "away.png")
    run(out, judge, "--pairs", file, *MODEL, "--missing-images", "blank")
    blind = len({row["key"] for row in raw(out)})
    assert [row["image_missing"] for row in rows(out)].count(True) > 0
    (tmp_path / "away.png").rename(image)
    run(out, judge, "--pairs", file, *MODEL, "--missing-images", "blank")
    assert not any(row["image_missing"] for row in rows(out))
    assert len({row["key"] for row in raw(out)}) == blind + 2  # both orders


def test_an_image_that_disappears_while_others_are_judged_is_not_judged_blind(demo, judge, tmp_path, monkeypatch):
    shutil.copytree(demo, tmp_path / "pairs")
    gone = read_pairs(demo)[0].images[0]
    monkeypatch.setattr("proxygrm.evaluate.judging.check_pairs", lambda pairs, missing: 0)  # it was there at the start
    (tmp_path / "pairs" / "images" / gone).unlink()
    output = run(tmp_path / "out", judge, "--pairs", tmp_path / "pairs", *MODEL)
    without = [row for row in rows(tmp_path / "out") if row["image_missing"]]
    assert without
    assert all(row["verdict"] is None and "No such file" in row["refused"] for row in without)
    assert f"{len(without)} prompts refused" in output
    with pytest.raises(OSError, match=gone):
        image_of(tmp_path / "pairs" / "images" / gone, "refuse")
    assert image_of(tmp_path / "pairs" / "images" / gone, "blank").size == (BLANK_SIDE_PX, BLANK_SIDE_PX)
