"""RewardBench's and RM-Bench's own result files, and files of no known layout."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxygrm.core.errors import UserError
from proxygrm.evaluate.benchmarks.rewardbench import SIZES
from proxygrm.evaluate.scores.compare import compare_pairs
from proxygrm.evaluate.scores.score import read, score
from support.evaluate.foreign import CASES, kit_row, lmms_row
from support.evaluate.runs import call, write
from support.refusals import refused

SCORES = {
    "subset": ["donotanswer", "donotanswer", "hep-go", "hep-go"], "id": [1, 2, 1, 2], "results": [1, 0, 0, 1],
    "scores_chosen": [2.5, [1.0], 0.5, 3], "scores_rejected": [1, [1.0], 0.75, -1], "model": "m",
    "model_type": "Seq. Classifier", "chat_template": None, "text_chosen": ["a"] * 4,
}  # fmt: skip


def saved(path, value):
    path.write_text(json.dumps(value, indent=4, sort_keys=True))
    return path


def figures(bench, path, **options):
    policy = options.pop("policy", "wrong")
    return score(read(bench, [path], partial=True, **options), policy=policy)


def test_the_scores_of_a_scalar_model(tmp_path):
    found = figures("rewardbench", saved(tmp_path / "m.json", SCORES))
    assert (found["n"], found["ties"], found["layouts"]) == (4, 1, ["rewardbench"])
    assert {name: c["accuracy"] for name, c in found["categories"].items()} == {"safety": 0.5, "reasoning": 0.5}
    assert found["notes"][0].startswith("PARTIAL: 4 of 2,985 pairs")
    assert not any("`reverse`" in note for note in found["notes"])


def test_a_generative_judges_half_results_are_unparsed(tmp_path):
    fields = {name: SCORES[name] for name in ("subset", "id", "model")} | {"results": [1, 0.5, 0.5, 0]}
    path = saved(tmp_path / "m.json", fields)
    found = figures("rewardbench", path)
    assert (found["unparsed"], found["overall"], found["policies"]["official"]["overall"]) == (2, 0.25, 0.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"subset": ["donotanswer", "x", "hep-go", "hep-go"]}, "`subset` is none of RewardBench's"),
        ({"id": [1, True, 1, 2]}, "id is bool"),
        ({"results": [1, 0.7, 0, 1]}, "`results` is none of 1, 0.5 and 0"),
        ({"results": [1, 1, 0, 1]}, "`results` contradicts the scores"),
        ({"scores_chosen": [2.5, "1", 0.5, 3]}, "a score is not a finite number"),
    ],
)
def test_rows_of_scores_that_cannot_be_used(tmp_path, change, reason):
    path = saved(tmp_path / "m.json", SCORES | change)
    with refused("eval.unusable-rows", reasons={reason: [2]}, layout="rewardbench"):
        read("rewardbench", [path])
    assert figures("rewardbench", path)["n"] == 3


def test_columns_of_different_lengths_are_refused(tmp_path):
    path = saved(tmp_path / "m.json", SCORES | {"id": [1]})
    with refused("eval.bad-columns", path=path):
        read("rewardbench", [path])


@pytest.mark.parametrize("nested", [False, True])
def test_a_leaderboards_shares_are_audited_with_intervals(tmp_path, nested):
    """The shares alone give the counts, the sections and their intervals."""
    shares = {subset: (rows // 2) / rows for subset, rows in SIZES.items()}
    rows = {"model": "m", "extra_results": shares, "accuracy": 0.5} if nested else {"model": "m", **shares}
    path = saved(tmp_path / "m.json", rows)
    page = call("score", "--bench", "rewardbench", "--answers", path)
    assert "which of their rows are right is not known" in " ".join(page.split())
    found = score(read("rewardbench", [path]))
    assert (found["n"], found["partial"]) == (2985, False)
    reasoning = (984 * 223 / 447 + 984 * 0.5) / 1968
    assert found["categories"]["reasoning"]["accuracy"] == pytest.approx(reasoning)
    assert found["categories"]["reasoning"]["low"] < reasoning < found["categories"]["reasoning"]["high"]
    runs = {name: read("rewardbench", [path]) for name in "ab"}
    with refused("eval.no-rows", run="a", path=path):
        compare_pairs(runs, [("a", "b")])


def test_published_sections_are_audited_by_their_mean(tmp_path):
    path = saved(tmp_path / "m.json", {"model": "m", **dict.fromkeys(SIZES, 1.0)})
    numbers = "chat=96.6,chat-hard=76.9,safety=90.4,reasoning=91.9,macro=89.0,llmbar-adver-gptinst=80.4"
    words = ("--bench", "rewardbench", "--answers", path, "--audit", "--published", numbers, "--json")
    audit = json.loads(call("score", *words))["audit"]
    fits = {verdict["partition"]: (verdict["fits"], verdict["checks"]) for verdict in audit["partitions"]}
    assert fits["official"] == fits["upstream"] == (True, {"macro": True})
    assert fits["subset"] == (True, {"llmbar-adver-GPTInst": True})
    assert "weighted" not in audit  # overall is not a mean of sections


def test_a_share_that_its_subset_cannot_have_is_refused(tmp_path):
    path = saved(tmp_path / "m.json", {"model": "m", "hep-go": 0.5, "math-prm": 0.5001})
    with refused("eval.unusable-rows", reasons={"the share is not one of 447 rows": [2]}) as caught:
        read("rewardbench", [path])
    assert '{"math-prm": 0.5001}' in str(caught.value)
    half = figures("rewardbench", saved(tmp_path / "h.json", {"hep-go": 81.5 / 164}))
    assert (half["unparsed"], half["policies"]["official"]["overall"]) == (1, pytest.approx(81.5 / 164))


def test_lines_without_ids_are_taken_in_the_order_of_the_pairs(tmp_path):
    lines = write(tmp_path / "m_all.jsonl", [{"chosen": 1.5, "rejected": 1}, {"chosen": [1.0], "rejected": [2.0]}])
    with refused("eval.layout-needs-pairs"):
        read("rewardbench", [lines], partial=True)
    pairs = write(tmp_path / "p.jsonl", [
        {"id": f"rewardbench:{subset}/1", "source": "rewardbench", "category": subset, "question": "q",
         "chosen": "a", "rejected": "b"}
        for subset in ("math-prm", "donotanswer")
    ])  # fmt: skip
    found = figures("rewardbench", lines, pairs=pairs)
    assert {name: c["accuracy"] for name, c in found["categories"].items()} == {"safety": 0, "reasoning": 1}
    with refused("eval.layout-other-length", lines=1, pairs=2):
        read("rewardbench", [write(tmp_path / "one.jsonl", [{"chosen": 1, "rejected": 0}])], True, pairs=pairs)


def rm_row(**changes):
    return {
        "id": 7, "domain": "chat", "prompt": "p", "chosen": ["a"] * 3, "rejected": ["b"] * 3,
        "score_chosen": [1, 2, 3], "score_rejected": [1, 2, 3],
    } | changes  # fmt: skip


def test_rm_benchs_six_scores_a_row_are_nine_comparisons(tmp_path):
    path = saved(tmp_path / "total_m.json", [rm_row(), rm_row(id=8, score_chosen=[[9], [9], [9]])])
    found = figures("rm-bench", path)
    assert (found["n"], found["ties"], found["layouts"]) == (18, 3, ["rm-bench"])
    assert {name: c["accuracy"] for name, c in found["views"]["difficulty"].items()} == {
        "easy": 1, "normal": 0.5, "hard": 0.5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"domain": None}, "`domain` is none of chat, code, math, safety-refuse, safety-response"),
        ({"id": None}, "no id"),
        ({"score_chosen": [1, 2]}, "`score_chosen` is not three finite numbers"),
        ({"score_rejected": [1, 2, None]}, "`score_rejected` is not three finite numbers"),
    ],
)
def test_rows_of_rm_bench_that_cannot_be_used(tmp_path, change, reason):
    path = saved(tmp_path / "m.json", [rm_row(), rm_row(id=8) | change])
    with refused("eval.unusable-rows", reasons={reason: [2]}):
        read("rm-bench", [path])
    assert figures("rm-bench", path)["n"] == 9


UNKNOWN = [
    {"id": "a", "prediction": "Answer 1"},
    [{"id": "a"}],
    {"results": {"vl_rewardbench": {"vlreward_score": 0.5}}},
    [],
    [1],
]


@pytest.mark.parametrize("value", UNKNOWN)
def test_an_unknown_layout_is_one_line_with_its_first_row(tmp_path, value):
    path = saved(tmp_path / "x.json", value)
    with refused("eval.unknown-layout", path=path) as caught:
        read("vl-rewardbench", [path])
    row = json.dumps(value[0] if isinstance(value, list) and value else value or {})
    assert str(caught.value).endswith(f"its first row is {row}")


def test_a_table_of_another_kind_is_unknown_too(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("general,Macro Accuracy\n0.5,0.6\n")
    with refused("eval.unknown-layout", row={"general": "0.5", "Macro Accuracy": "0.6"}):
        read("vl-rewardbench", [path])


def test_a_layout_of_another_benchmark_or_another_layout_than_said(tmp_path):
    path = saved(tmp_path / "m.json", SCORES)
    with refused("bench.other-layout", layout="rewardbench", bench="vl-rewardbench"):
        read("vl-rewardbench", [path])
    with refused("eval.other-layout", layout="lmms-eval"):
        read("rewardbench", [path], layout="lmms-eval")
    own = write(tmp_path / "own.jsonl", [{"id": "mmmu_1", "rewards": [1, 0]}])
    with refused("eval.not-foreign", layout="lmms-eval"):
        read("vl-rewardbench", [own], layout="lmms-eval")
    both = saved(tmp_path / "both.json", [lmms_row(0, CASES[0], True) | kit_row(0, CASES[0], True)])
    with refused("eval.ambiguous-layout", layouts=["lmms-eval", "vlmevalkit"]):
        read("vl-rewardbench", [both])
    assert read("vl-rewardbench", [both], partial=True, layout="lmms-eval").layouts == ("lmms-eval",)


def test_predictions_without_scores_are_refused(tmp_path):
    row = kit_row(0, CASES[0], True)
    del row["score"]
    with refused("eval.unscored-predictions"):
        read("vl-rewardbench", [saved(tmp_path / "p.json", [row])])


VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5) | st.sampled_from(["hep-go", "chat"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_value_in_any_field_is_scored_or_refused(tmp_path, data):
    kit = [kit_row(0, CASES[0], True, id="mmmu_1"), kit_row(1, CASES[1], True, id="x")]
    files = [
        ("vl-rewardbench", [lmms_row(0, CASES[0], True), lmms_row(1, CASES[1], True)]),
        ("vl-rewardbench", kit),
        ("rewardbench", SCORES),
        ("rewardbench", {"hep-go": 0.5, "math-prm": 1.0}),
        ("rm-bench", [rm_row(), rm_row(id=8)]),
    ]
    bench, whole = data.draw(st.sampled_from(files))
    changed = json.loads(json.dumps(whole))
    fields = changed if isinstance(changed, dict) else changed[1]
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(VALUES)
    refusal = None
    try:
        read(bench, [saved(tmp_path / "x.json", changed)], partial=data.draw(st.booleans()))
    except UserError as error:
        refusal = error
    assert refusal is None or (refusal.code and len(str(refusal).splitlines()) == 1)


@pytest.mark.parametrize("content", [b"PK\x03\x04 no", b"", b"text"])
def test_a_damaged_sheet_is_refused(tmp_path, content):
    path = tmp_path / "x.xlsx"
    path.write_bytes(content)
    with refused("file.damaged", path=path):
        read("vl-rewardbench", [path])
