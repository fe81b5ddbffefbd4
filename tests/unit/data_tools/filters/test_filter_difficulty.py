from __future__ import annotations

import json

import pytest

from data_tools.filters.difficulty import DifficultySettings
from data_tools.filters.run import filter_pairs
from data_tools.filters.settings import FilterSettings
from proxygrm.core.errors import UserError
from support.refusals import refused
from support.rows.filter_pairs import folder, kept, left, log, pair


def critique(verdict: int | None) -> str:
    return f"<answer>{verdict}</answer>" if verdict else "..."


def critiques(path, verdicts: dict[str, list[int | None]]):
    """k samples of each pair in k files; the verdicts recorded beside the critiques are all wrong."""
    path.mkdir()
    for sample in range(max(map(len, verdicts.values()))):
        lines = [
            json.dumps({"id": f"s:{name}", "critique": critique(verdicts_of_pair[sample]), "verdict": 2, "model": "t"})
            for name, verdicts_of_pair in verdicts.items()
            if sample < len(verdicts_of_pair)
        ]
        (path / f"shard-{sample}.jsonl").write_text("\n".join(lines) + "\n")
    return path


VERDICTS = {
    "right": [1, 1, 1, 1], "half": [1, 2, 2, 1], "wrong": [2, 2, 2, 2], "label 2": [2, 2, 2, 1],
    "unparsed": [None, None], "partly": [None, 1], "stranger": [1],
}  # fmt: skip


def judged(tmp_path, low=0.0, high=1.0, without="keep"):
    rows = [pair(name, label=2 if name == "label 2" else 1) for name in VERDICTS if name != "stranger"] + [pair("none")]
    settings = FilterSettings(None, None, DifficultySettings((low, high), without))
    source = folder(tmp_path / "in", rows)
    return filter_pairs(source, tmp_path / "out", settings, critiques=[critiques(tmp_path / "c", VERDICTS)])


def test_agreement_is_the_share_of_right_verdicts_and_the_bounds_are_inclusive(tmp_path):
    judged(tmp_path, 0.5, 0.75)
    assert kept(tmp_path / "out") == ["half", "label 2", "unparsed", "none"]
    assert left(tmp_path / "out") == {"right": "too_easy", "wrong": "too_hard", "partly": "too_easy"}
    assert log(tmp_path / "out")[0]["detail"] == "4 of 4 verdicts are right"


def test_all_pairs_are_kept_by_default_and_the_report_has_their_difficulty(tmp_path):
    report = judged(tmp_path)
    assert report["kept"] == report["read"] == 7
    assert report["difficulty"] == {
        "pairs_with_samples": 5,
        "pairs_without_samples": 2,
        "samples_without_verdict": 3,
        "mean_agreement": 0.65,
        "agreement": {"0/4": 1, "1/1": 1, "2/4": 1, "3/4": 1, "4/4": 1},
    }


def test_pairs_without_critiques_can_be_dropped(tmp_path):
    judged(tmp_path, without="drop")
    assert left(tmp_path / "out") == {"unparsed": "no_samples", "none": "no_samples"}


def test_bounds_may_be_shares_without_an_exact_binary_fraction(tmp_path):
    rows = [pair("a")]
    folder_of_critiques = critiques(tmp_path / "c", {"a": [1] * 7 + [2] * 3})
    settings = FilterSettings(None, None, DifficultySettings((0.7, 0.7)))
    assert (
        filter_pairs(folder(tmp_path / "in", rows), tmp_path / "out", settings, critiques=[folder_of_critiques])["kept"]
        == 1
    )


def test_a_folder_without_critiques_and_a_torn_line_are_errors(tmp_path):
    source = folder(tmp_path / "in", [pair("a")])
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        with refused("critique.none", files=[str(path)]):
            filter_pairs(source, tmp_path / "out", critiques=[path])
    torn = tmp_path / "torn.jsonl"
    torn.write_text('{"id": "s:a", "crit')
    with pytest.raises(UserError, match="line 1"):
        filter_pairs(source, tmp_path / "out", critiques=[torn])
    assert not (tmp_path / "out" / "pairs.parquet").exists()


@pytest.mark.parametrize("bounds", [(0.6, 0.5), (-0.1, 1.0), (0.0, 1.1), (float("nan"), 1.0)])
def test_invalid_bounds_are_refused(bounds):
    with refused("settings.out-of-range", name="difficulty.agreement", value=list(bounds)):
        DifficultySettings(bounds)
