"""What one RL step's rollouts add up to, and when a run must stop."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from proxygrm.rewards.accuracy import Accuracy
from proxygrm.rewards.proxy_agreement import ProxyAgreement
from proxygrm.rewards.proxy_verdict import ProxyVerdict
from proxygrm.rl.options import RewardOptions
from proxygrm.rl.plugins.reward_fn import _client, compute_score
from proxygrm.rl.plugins.step_rollouts import LABEL_MISMATCH, kept_rollouts, why_stop
from proxygrm.rl.plugins.step_rollouts import step_metrics as metrics_of
from proxygrm.serving.endpoints import Endpoints
from support.proxy.stub import Server, stubs
from support.refusals import refused

GOOD = (
    "<rubric> 1. Names the colour red (80%) 2. One clear sentence (20%) <justify>It is asked.</justify> </rubric>"
    "<eval>Response 1 says red, Response 2 says blue.</eval><answer>1</answer>"
)
PAIR = {"id": "p1", "question": "What colour?", "response_1": "Red.", "response_2": "Blue.", "label": 1, "images": []}


def step_metrics(rows: list[dict[str, Any]], expected: int) -> dict[str, float]:
    return metrics_of(rows, expected, ProxyAgreement())


def row(group: str = "a", unscored: int = 0, **changes: Any) -> dict[str, Any]:
    base = {"group": group, "score": 2.0, "accuracy": 1.0, "proxy": 1.0, "format": 1.0, "problem": ""}
    return {**base, "unscored": unscored, **changes}


def test_means_are_over_scored_rollouts_only() -> None:
    rows = [row(), row(score=0.0, accuracy=-1.0, format=0.0), row(unscored=1, score=99.0, problem="unscored")]
    metrics = step_metrics(rows, expected=3)
    assert metrics["reward/score_mean"] == 1.0
    assert metrics["reward/accuracy"] == 0.5
    assert metrics["reward/format"] == 0.5
    assert metrics["reward/unscored"] == pytest.approx(1 / 3)


def test_agreement_counts_only_rollouts_the_proxy_judged() -> None:
    metrics = step_metrics([row(proxy=1.0), row(proxy=-1.0), row(proxy=0.0), row(proxy=0.0)], expected=4)
    assert metrics["reward/proxy_agreement"] == 0.5
    assert metrics["reward/proxy_coverage"] == 0.5


def test_without_a_proxy_there_is_no_agreement_to_report() -> None:
    assert "reward/proxy_agreement" not in step_metrics([row(proxy=0.0)], expected=1)


def test_groups_whose_rollouts_all_have_the_same_score_are_counted() -> None:
    rows = [row("a"), row("a"), row("b"), row("b", score=0.0), row("c"), row("d"), row("d", unscored=1, score=0.0)]
    assert step_metrics(rows, expected=7)["reward/without_variance"] == 1


def test_rollouts_that_never_came_count_as_unscored() -> None:
    assert step_metrics([row()], expected=4)["reward/unscored"] == 0.75
    assert "3 never_generated" in why_stop([row()], expected=4, max_unscored=0.5, max_no_verdict=1.0)


def test_a_step_at_the_limit_continues_and_one_above_it_stops_with_the_reasons() -> None:
    lost = [row(unscored=1, problem="timeout"), row(unscored=1, problem="timeout"), row(unscored=1, problem="http_500")]
    rows = [*lost, *(row() for _ in range(7))]
    assert why_stop(rows, expected=10, max_unscored=0.3, max_no_verdict=0.0) == ""
    reason = why_stop(rows, expected=10, max_unscored=0.2, max_no_verdict=0.0)
    for said in ("3 of 10", "2 timeout", "1 http_500", "20%"):
        assert said in reason


def test_a_run_that_stops_says_where_to_look() -> None:
    def hint(problem: str) -> str:
        return why_stop([row(unscored=1, problem=problem)], expected=1, max_unscored=0.0, max_no_verdict=1.0)

    assert "Look at the proxy's log" in hint("proxy_timeout")
    assert "`proxygrm data check` on the training file names the images" in hint("proxy_image_missing")
    assert "trainer.log has the first error of each kind" in hint("error_KeyError")


def test_answers_without_a_verdict_have_a_limit_of_their_own_and_do_not_hide_what_was_lost() -> None:
    mute = [row(unscored=1, problem="proxy_unparsed"), row(unscored=1, problem="proxy_cut_off")]
    rows = [*mute, row(unscored=1, problem="proxy_connection"), *(row() for _ in range(7))]
    assert why_stop(rows, expected=10, max_unscored=0.1, max_no_verdict=0.2) == ""
    assert "1 of 10 rollouts have lost" in why_stop(rows, expected=10, max_unscored=0.02, max_no_verdict=0.2)
    reason = why_stop(rows, expected=10, max_unscored=0.1, max_no_verdict=0.1)
    for said in ("no verdict on 2 of 10", "1 proxy_unparsed", "1 proxy_cut_off", "max_no_verdict"):
        assert said in reason


def call(group: str, replica: str, latency_s: float, retries: float = 0.0, **changes: Any) -> dict[str, Any]:
    asked = {"proxy_asked": 1.0, "proxy_replica": replica, "proxy_latency_s": latency_s, "proxy_retries": retries}
    return row(group, proxy_hedged=float(retries > 1), **asked, **changes)


def test_the_proxys_calls_are_added_up_over_all_reward_workers() -> None:
    rows = [
        call("a", "r1", 1.0),
        call("a", "r1", 2.0, proxy=-1.0),
        call("a", "r2", 3.0, retries=2.0),
        call("b", "", 9.0, proxy=0.0, unscored=1, problem="proxy_breaker_open"),
        row("b", proxy=0.0, problem="no_rubric"),
        row("b", unscored=1, proxy=0.0, problem="error_KeyError"),
    ]
    metrics = step_metrics(rows, expected=8)
    wanted = {"calls": 4, "scored": 3, "agreed": 2, "retried": 2, "hedged": 1, "latency_max_s": 9, "latency_p50_s": 2}
    assert {name: metrics[f"proxy/{name}"] for name in wanted} == wanted
    assert metrics["proxy/prefix_hit_share"] == pytest.approx(1 / 3)  # the second call of "a" on r1
    causes = {name.rpartition("/")[2]: count for name, count in metrics.items() if "unscored_by" in name}
    assert causes == {"proxy_breaker_open": 1, "error_KeyError": 1, "never_generated": 2}
    assert causes.keys().isdisjoint({name.rpartition("/")[2] for name in metrics if "/problem/" in name})
    assert (metrics["reward/scored"], metrics["reward/left_alone"], metrics["reward/unscored"]) == (4, 1, 0.5)
    assert sum(causes.values()) + metrics["reward/scored"] == 8


def test_without_a_call_to_the_proxy_there_are_no_proxy_metrics() -> None:
    assert not [name for name in step_metrics([row()], expected=1) if name.startswith("proxy/")]


def test_one_wrong_label_stops_the_run_at_any_limit() -> None:
    reason = why_stop(
        [row(unscored=1, problem=LABEL_MISMATCH), row()], expected=2, max_unscored=1.0, max_no_verdict=1.0
    )
    assert "convert it again" in reason


def test_a_group_with_one_scored_rollout_is_left_out_completely() -> None:
    rows = [row("a"), row("a"), row("b"), row("b", unscored=1), row("a", unscored=1)]
    assert kept_rollouts(rows) == [0, 1]


def test_an_algorithm_that_compares_no_groups_trains_on_every_scored_rollout() -> None:
    rows = [row("a"), row("b", unscored=1), row("c")]
    assert kept_rollouts(rows, smallest_group=1) == [0, 2]
    assert why_stop(rows, expected=3, max_unscored=1.0, max_no_verdict=1.0, smallest_group=1) == ""


def test_a_step_without_any_comparable_group_stops() -> None:
    rows = [row("a"), row("a", unscored=1), row("b"), row("b", unscored=1)]
    assert "two rollouts" in why_stop(rows, expected=4, max_unscored=1.0, max_no_verdict=1.0)


@pytest.fixture
def options(tmp_path: Path) -> str:
    path = tmp_path / "options.json"
    RewardOptions(rollouts=str(tmp_path), stop_file=str(tmp_path / "stop"), group_size=2, reward=Accuracy()).write(path)
    return str(path)


def scored(text: str, truth: str, pair: dict[str, Any], options: str) -> dict[str, Any]:
    return asyncio.run(compute_score("demo", text, truth, pair, options=options, extra="ignored"))


def test_a_right_critique_is_scored_with_all_its_parts(options: str) -> None:
    row = scored(GOOD, "1", PAIR, options)
    assert (row["score"], row["accuracy"], row["format"], row["unscored"]) == (1.5, 1.0, 1.0, 0.0)
    assert (row["id"], row["label"], row["critique"]) == ("p1", "1", GOOD)


def test_labels_that_disagree_are_never_scored(options: str) -> None:
    row = scored(GOOD, "2", PAIR, options)
    assert (row["unscored"], row["problem"]) == (1.0, LABEL_MISMATCH)


@pytest.mark.parametrize("text", ["", "<rubric>" * 2000, "\x00\ud83d\ude00", "<answer>3</answer>"])
def test_no_rollout_can_make_the_reward_raise(text: str, options: str) -> None:
    assert scored(text, "1", PAIR, options)["unscored"] == 0.0


def test_a_broken_row_is_unscored_and_names_the_error(options: str) -> None:
    assert scored(GOOD, "1", {}, options)["problem"] == "error_KeyError"
    assert scored(GOOD, "x", {**PAIR, "label": "x"}, options)["problem"] == LABEL_MISMATCH


def test_every_outcome_has_the_same_keys(options: str) -> None:
    outcomes = [scored(GOOD, "1", PAIR, options), scored("", "2", PAIR, options), scored(GOOD, "1", {}, options)]
    assert len({tuple(sorted(found)) for found in outcomes}) == 1


def test_a_row_says_how_the_proxys_call_went_and_why_there_is_no_opinion(tmp_path: Path) -> None:
    async def scene() -> tuple[list[dict[str, Any]], str]:
        async with stubs(Server()) as (url,):
            file = Endpoints((url,), api_key="key", max_tokens=64).write(tmp_path / "endpoints.json")
            path = RewardOptions(str(tmp_path), str(tmp_path / "stop"), 2, endpoints=str(file)).write(
                tmp_path / "o.json"
            )
            pairs = [PAIR, {**PAIR, "images": [str(tmp_path / "gone.png")]}]
            rows = [await compute_score("demo", GOOD, "1", pair, options=str(path)) for pair in pairs]
            await _client(str(file)).aclose()
            return rows, url

    (judged, lost), url = asyncio.run(scene())
    assert (judged["proxy"], judged["proxy_asked"], judged["proxy_replica"], judged["proxy_retries"]) == (1, 1, url, 0)
    assert 0 < judged["proxy_latency_s"] < 10
    assert (lost["unscored"], lost["problem"], lost["proxy_asked"]) == (1.0, "proxy_image_missing", 1.0)
    assert (lost["proxy_replica"], lost["proxy_soft"], judged["proxy_soft"]) == ("", -1, -1)


def test_options_survive_the_file(tmp_path: Path) -> None:
    written = RewardOptions(rollouts="r", stop_file="s", group_size=8, endpoints="e.json", max_unscored=0.5)
    assert RewardOptions.read(written.write(tmp_path / "deep" / "o.json")) == written


@pytest.mark.parametrize(
    ("change", "code", "values"),
    [
        ({"groupsize": 1}, "settings.unknown-name", {"name": "groupsize"}),
        ({"group_size": "8"}, "settings.wrong-type", {"expected": "int", "value": "8"}),
        ({"reward": "accuracy"}, "settings.wrong-type", {"expected": "a table with its kind"}),
        ({"reward": {"kind": "accurate"}}, "settings.unknown-name", {"near": "accuracy"}),
        (
            {"reward": {"kind": "proxy_agreement", "deny_leaks": 1}},
            "settings.wrong-type",
            {"expected": "bool", "value": 1},
        ),
    ],
)
def test_options_with_a_wrong_key_or_type_are_refused(
    tmp_path: Path, change: dict[str, Any], code: str, values: dict[str, Any]
) -> None:
    path = tmp_path / "o.json"
    path.write_text(json.dumps({"rollouts": "r", "stop_file": "s", "group_size": 8, "endpoints": "e", **change}))
    with refused(code, **values):
        RewardOptions.read(path)


def test_a_proxy_in_training_is_scored_by_its_own_verdict(tmp_path: Path) -> None:
    path = RewardOptions(str(tmp_path), str(tmp_path / "stop"), group_size=2, reward=ProxyVerdict()).write(
        tmp_path / "options.json"
    )
    right, wrong = (
        scored(f"<think>x</think><answer>{digit}</answer>", "1", {**PAIR, "rubric": "r"}, str(path)) for digit in (1, 2)
    )
    assert (right["score"], wrong["score"], right["unscored"]) == (1.5, -0.5, 0.0)
    assert right.keys() == scored("", "2", PAIR, str(path)).keys()
