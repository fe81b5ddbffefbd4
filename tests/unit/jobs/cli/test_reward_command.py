"""`proxygrm reward`: rows in, rows with their reward out, and everything that is no rollout accounted for."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from jobs.cli.main import main
from proxygrm.rewards.proxy_agreement import AGGREGATIONS
from support.refusals import code_of

GOOD = "<rubric>Names red (100%)<justify>j</justify></rubric><eval>1 says red.</eval><answer>{}</answer>"
RIGHT = GOOD.format(1)
LEAK = GOOD.replace("Names red", "Response 1 is better")
UNCLOSED = "<rubric>red (100%)<eval>e</eval><answer>1</answer>"
SHOWN = "<rubric>\nNames red (100%)\n</rubric>"


def rollout(response=RIGHT, ground_truth=1, proxy_reward=1, **more):
    return {"response": response, "ground_truth": ground_truth, "proxy_reward": proxy_reward, **more}


@pytest.fixture
def run(tmp_path):
    def score(rows, *options):
        source, target = tmp_path / "a b.jsonl", tmp_path / "scored.jsonl"
        if not isinstance(rows, bytes):
            rows = "".join(json.dumps(row) + "\n" for row in rows).encode()
        source.write_bytes(rows)
        files = ["--input", str(source), "--out", str(target)]
        result = CliRunner().invoke(main, ["reward", "score", *files, *options])
        lines = target.read_text(encoding="utf-8").splitlines() if target.exists() else []
        return result, [json.loads(line) for line in lines]

    return score


def test_rows_keep_their_fields_and_get_their_reward(run):
    result, (row,) = run([rollout(id="ü", step=3)])
    assert result.exit_code == 0
    assert row == rollout(id="ü", step=3, accuracy=1.0, format=1.0, rubric=SHOWN, score=2.5)


@pytest.mark.parametrize(
    ("given", "options", "score", "reason", "rubric"),
    [
        (rollout(), [], 2.5, None, True),
        (rollout(proxy_reward=-1.0), [], 0.5, None, True),
        (rollout(ground_truth="2"), [], 0.5, None, True),
        (rollout(ground_truth=2, proxy_reward=-1), [], -1.5, None, True),
        (rollout(proxy_reward=None), [], None, "unscored", True),
        (rollout(UNCLOSED, proxy_reward=None), [], 1.0, "unclosed_rubric", False),
        (rollout(UNCLOSED, proxy_reward=1), [], 1.0, "unclosed_rubric", False),
        (rollout("x" + GOOD.format(1)), [], 2.0, "text_outside_parts", True),
        (rollout("", proxy_reward=None), [], -1.0, "empty", False),
        (rollout(LEAK.format(1)), [], 2.5, None, True),
        (rollout(LEAK.format(1)), ["--deny-leaks"], 1.5, "rubric_names_winner", False),
        (rollout(LEAK.format(1), proxy_reward=None), ["--deny-leaks"], 1.5, "rubric_names_winner", False),
        (rollout(), ["--aggregation", "3"], 3.0, None, True),
        (rollout(), ["--aggregation", "accuracy_first_unit"], 1.5, None, True),
        (rollout(), ["--no-proxy"], 1.5, None, True),
        ({"response": GOOD.format(2), "ground_truth": 1}, ["--no-proxy"], -0.5, None, True),
        (rollout(proxy_reward="?"), ["--no-proxy"], 1.5, None, True),
        (rollout(), ["--compat", "upstream"], 2.5, None, True),
        (rollout(proxy_reward=None), ["--compat", "upstream"], 1.5, "proxy_failed", True),
        (rollout(UNCLOSED), ["--compat", "upstream"], 2.0, "not_upstream_format", True),
        (rollout(UNCLOSED), ["--compat", "upstream", "--no-proxy"], 1.0, "not_upstream_format", True),
    ],
)
def test_the_score_of_a_row(run, given, options, score, reason, rubric):
    result, (row,) = run([given], *options)
    assert result.exit_code == 0, result.output
    assert (row["score"], row.get("reason"), row["rubric"] is not None) == (score, reason, rubric)


def test_an_aggregation_that_would_have_no_effect_is_refused(run):
    result, rows = run([rollout()], "--no-proxy", "--aggregation", "bonus")
    assert (result.exit_code, rows) == (2, [])
    assert "--aggregation has no effect with --no-proxy" in result.output


def test_scoring_again_replaces_the_old_values(run):
    _, (row,) = run([rollout(score=7, reason="old", rubric="old", accuracy=0, format=9)])
    assert row == rollout(accuracy=1.0, format=1.0, rubric=SHOWN, score=2.5)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"ground_truth": 1, "proxy_reward": 1}', "response is missing"),
        (b'{"response": ["x"], "ground_truth": 1, "proxy_reward": 1}', "it must be text"),
        (b'{"response": "x", "proxy_reward": 1}', "ground_truth is missing"),
        (b'{"response": "x", "ground_truth": 1}', "proxy_reward is missing"),
        *[(b'{"response": "x", "ground_truth": %s, "proxy_reward": 1}' % value, "ground truth is")
          for value in (b"0", b"3", b"null", b"true", b'"1/2"', b"1.5", b'[1]', b'"\xef\xbc\x91"')],
        *[(b'{"response": "x", "ground_truth": 1, "proxy_reward": %s}' % value, "proxy reward is")
          for value in (b"0", b"0.0", b"true", b'"1"', b"NaN", b"2", b"-0.5", b"[]", b"Infinity")],
    ],
)  # fmt: skip
def test_a_row_that_is_not_a_rollout_is_named_and_left_out(run, tmp_path, line, problem):
    good = json.dumps(rollout()).encode()
    result, rows = run(b"\n".join([good, line, good]), "--max-bad", "0.5")
    assert result.exit_code == 0, result.output
    assert len(rows) == 2
    assert "a b.jsonl line 2: " in result.output
    assert problem in result.output
    (left,) = map(json.loads, (tmp_path / "scored.jsonl.dropped.jsonl").read_text().splitlines())
    assert (left["row"], left["bad"]) == (2, True)


def test_too_many_bad_rows_end_it_without_a_result_and_are_named_in_a_file(run, tmp_path):
    result, rows = run([rollout(proxy_reward=0)] + [rollout()] * 50)
    assert result.exit_code == 2
    assert rows == []
    assert "1 of 51 rows are bad" in result.output
    assert "row 1" in result.output
    named = tmp_path / "scored.jsonl.dropped.refused.jsonl"
    assert str(named) in result.output
    assert json.loads(named.read_text())["row"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a b.jsonl", named.name}


@pytest.mark.parametrize(
    "content", [b'[\n{"response": "x"}\n]\n', b"PAR1\x15\x04\n\xff\n", '{"a": 1}\n'.encode("utf-16")]
)
def test_a_file_that_is_not_jsonl_is_refused_in_one_line(run, tmp_path, content):
    result, rows = run(content)
    assert (result.exit_code, rows) == (2, [])
    assert len(result.output.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"a b.jsonl"}


def test_an_earlier_result_outlives_a_run_that_fails(run, tmp_path):
    (tmp_path / "scored.jsonl").write_text('"earlier"\n')
    result, rows = run(b"{")
    assert result.exit_code == 2
    assert rows == ["earlier"]


def test_a_list_of_dropped_rows_does_not_outlive_a_run_without_any(run, tmp_path):
    run([rollout(), rollout(proxy_reward=0)], "--max-bad", "1")
    assert (tmp_path / "scored.jsonl.dropped.jsonl").exists()
    run([rollout()])
    assert not (tmp_path / "scored.jsonl.dropped.jsonl").exists()


def test_odd_but_whole_files_are_read(run):
    line = json.dumps(rollout()).encode()
    result, rows = run(b"\xef\xbb\xbf" + line + b"\r\n\n  \r\n" + line)
    assert result.exit_code == 0
    assert [row["score"] for row in rows] == [2.5, 2.5]


def test_what_json_can_hold_and_utf8_cannot_comes_back_as_it_was(run):
    odd = rollout(note="\ud800", big=10**30, loss=float("inf"), text="‮ ü \u2028")
    result, (row,) = run([odd])
    assert result.exit_code == 0
    assert {key: row[key] for key in odd} == odd


def test_the_summary_counts_by_cause(run):
    rows = [rollout(), rollout(GOOD.format(2), proxy_reward=-1), rollout(UNCLOSED), rollout(LEAK.format(1)),
            rollout(proxy_reward=None, cause="timeout"), rollout(proxy_reward=None, cause=7)]  # fmt: skip
    result, _ = run(rows)
    said = " ".join(result.output.split())
    for text in ("rows scored 6 of 6 read, 0 bad", "mean score 1.125 over 4 rows", "accuracy 83.3%",
                 "format 83.3% unclosed rubric 1", "proxy agrees 66.7% of 3 judged", "nothing to judge 1",
                 "unscored 2 timeout 1, no cause given 1", "names the winner 1"):  # fmt: skip
        assert text in said


def test_a_file_of_bad_rows_only_has_a_summary_without_means(run):
    result, rows = run(b"{\n{\n", "--max-bad", "1")
    assert (result.exit_code, rows) == (0, [])
    assert "mean score" in result.output


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--aggregation", "bonus_evn"], "reward.unknown-aggregation"),
        (["--aggregation", "11"], "reward.unknown-aggregation"),
        (["--compat", "upstream", "--deny-leaks"], "option.conflict"),
    ],
)
def test_invalid_options_are_refused(run, options, code):
    result, rows = run([rollout()], *options)
    assert (result.exit_code, rows) == (2, [])
    assert code_of(result.output) == code


@pytest.mark.parametrize(("option", "value"), [("--compat", "downstream"), ("--max-bad", "2")])
def test_invalid_values_are_refused_by_the_name_of_their_option(run, option, value):
    result, rows = run([rollout()], option, value)
    assert (result.exit_code, rows) == (2, [])
    assert option in result.output


def test_unusable_files_are_refused_by_one_line_each(tmp_path):
    empty, full = tmp_path / "empty.jsonl", tmp_path / "full.jsonl"
    empty.write_text("\n")
    full.write_text(json.dumps(rollout()) + "\n")
    none, out = tmp_path / "none.jsonl", tmp_path / "out.jsonl"
    for source, target, code, sentence in (
        (none, out, "file.missing", f"--input {none} does not exist; give a JSONL of rollouts"),
        (tmp_path, out, "file.not-a-file", f"--input {tmp_path} is not a file; give a JSONL of rollouts"),
        (empty, out, "file.empty", f"--input {empty} has no rows; give a JSONL of rollouts"),
        (full, full, "option.out-is-input", f"--output {full} is the input; name another file"),
        (full, tmp_path, "file.not-a-file", f"--output {tmp_path} is a folder; name another file"),
        (
            full,
            full / "x",
            "file.cannot-write",
            f"{full}: File exists; free space or fix the permissions, and run again",
        ),
    ):
        result = CliRunner().invoke(main, ["reward", "score", "--input", str(source), "--out", str(target)])
        assert result.exit_code == 2
        assert code_of(result.output) == code
        assert sentence in " ".join(result.output.split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "full.jsonl"]


def test_the_folder_of_the_output_is_created(tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "new" / "deep" / "out.jsonl"
    source.write_text(json.dumps(rollout()) + "\n")
    result = CliRunner().invoke(main, ["reward", "score", "--input", str(source), "--out", str(target)])
    assert result.exit_code == 0
    assert len(target.read_text().splitlines()) == 1


def test_the_table_shows_every_aggregation_with_its_number():
    result = CliRunner().invoke(main, ["reward", "table"])
    lines = [line.split() for line in result.output.splitlines()]
    for number, name in enumerate(AGGREGATIONS):
        assert any(line[:2] == [str(number), name] and len(line) == 8 for line in lines)
    assert ["5", "bonus_even_deep", "2.5", "-0.5", "-0.5", "-3", "0.5", "-2"] in lines


OWN = {"step": 1, "group": "g", "score": -9.0, "accuracy": -9.0, "format": 0.0, "early": 0.0, "id": "p1"}
"""What RL writes beside the parts that are read."""
TAGGED = "<answer>1</answer>"


@pytest.mark.parametrize(
    ("given", "score", "cause"),
    [
        ({**OWN, "critique": RIGHT, "label": "1", "proxy": 1.0, "unscored": 0.0, "problem": ""}, 2.5, None),
        ({**OWN, "critique": RIGHT, "label": "2", "proxy": -1.0, "unscored": 0.0, "problem": ""}, -1.5, None),
        ({**OWN, "critique": RIGHT, "label": "1", "proxy": 0.0, "unscored": 1.0, "problem": "proxy_timeout"}, None,
         "proxy timeout 1"),
        ({**OWN, "critique": UNCLOSED, "label": "1", "proxy": 0.0, "unscored": 0.0, "problem": "unclosed_rubric"}, 1.0,
         None),
        ({**OWN, "critique": RIGHT, "label": "1", "proxy": 0.0, "unscored": 0.0, "problem": ""}, None, "not asked 1"),
        ({"input": "q", "output": RIGHT, "gts": "1", "score": 1.0, "step": 3}, None, "not in the file 1"),
        ({"input": "q", "output": RIGHT, "gts": "1", "score": 1.0, "step": 3, "proxy_reward": -1}, 0.5, None),
        ({"solution_str": RIGHT, "reward_model": {"ground_truth": TAGGED}, "proxy_reward": 1}, 2.5, None),
        ({"solution_str": RIGHT, "answer": [TAGGED], "proxy_reward": 1}, 2.5, None),
        (rollout(ground_truth=TAGGED), 2.5, None),
        (rollout(ground_truth=[TAGGED]), 2.5, None),
        (rollout(ground_truth="<answer>2</answer>"), 0.5, None),
    ],
)  # fmt: skip
def test_files_of_rl_of_verl_and_of_upstream_are_read_without_options(run, given, score, cause):
    result, (row,) = run([given])
    assert result.exit_code == 0, result.output
    assert row["score"] == score
    kept = given.keys() - {"score", "accuracy", "format"}
    assert {key: row[key] for key in kept} == {key: given[key] for key in kept}
    if cause:
        assert row["reason"] == "unscored"
        assert cause in " ".join(result.output.split())


def test_a_dump_without_opinions_is_told_of_the_option_that_scores_it(run):
    dump = [{"input": "q", "output": RIGHT, "gts": "1", "score": 1.0, "step": 3}] * 3
    assert "no row has the proxy's opinion; --no-proxy" in run(dump)[0].output
    result, rows = run(dump, "--no-proxy")
    assert [row["score"] for row in rows] == [1.5] * 3
    assert "no row has" not in result.output


def test_bad_rows_are_counted_by_cause(run, tmp_path):
    bad = [
        rollout(ground_truth=3),
        rollout(ground_truth=["1", "2"]),
        rollout(ground_truth=None),
        {"response": RIGHT, "proxy_reward": 1},
        rollout(label=2),
        rollout(proxy_reward=0),
        {"response": RIGHT, "ground_truth": 1},
        {"ground_truth": 1, "proxy_reward": 1},
        {**OWN, "critique": RIGHT, "label": "1", "proxy": 0.5, "unscored": 0.0},
        [],
    ]
    result, rows = run([rollout(), *bad], "--max-bad", "1")
    assert len(rows) == 1
    said = " ".join(result.output.split())
    assert "of 11 read, 10 bad: " in said
    left = [json.loads(line)["reason"] for line in (tmp_path / "scored.jsonl.dropped.jsonl").read_text().splitlines()]
    assert left == [
        "bad_label", "bad_label", "no_label", "no_label", "labels_differ", "bad_proxy_reward", "no_proxy_reward",
        "no_response", "bad_proxy_reward", "not_an_object",
    ]  # fmt: skip
