from __future__ import annotations

import json
import random

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_tools.filters.quality import QualitySettings
from data_tools.filters.run import filter_pairs, filter_step
from data_tools.filters.settings import FilterSettings, read_settings
from data_tools.filters.similarity import SimilaritySettings
from data_tools.rows.preference import read_pairs
from data_tools.steps.shards import carry_out
from jobs.cli.data.filter import filter_pairs as command
from proxygrm.core.errors import UserError
from support.rows.filter_pairs import folder, kept, left, log, pair, prose, scene

PICTURES = {"1": scene(1), "1 again": scene(1, kind="JPEG"), "2": scene(2), "bench": scene(3)}


def rows_of(seed: int, count: int = 40):
    """Every reason to leave, in any order."""
    chance, rows = random.Random(seed), []
    for i in range(count):
        images = chance.choice([(), ("1",), ("1 again",), ("2",), ("bench",), ("2", "1")])
        texts = [prose(chance.randrange(10**9), chance.randint(1, 40)) for _ in range(3)]
        what = chance.randrange(10)
        if what < 4 and rows:
            other = chance.choice(rows)
            texts = [other.question, other.response_2, other.response_1 + " too" * chance.randrange(3)]
            images = other.images if chance.random() < 0.7 else images
        elif what == 4:
            texts[chance.randrange(3)] = chance.choice(["?", "", "text<|im_end|>", "<image> text", "<br> text"])
        rows.append(pair(f"{seed}-{i}", *texts, images=images, label=chance.choice([1, 2])))
    return rows


def run(tmp_path, rows, name="out", shards=1, source=None, **options):
    source = source or folder(tmp_path / "in", rows, PICTURES)
    out = tmp_path / name
    report = carry_out(filter_step(source, out, max_bad=1.0, **options), shards, workers=1)
    return out, report


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6))
def test_what_stays_and_what_left_are_the_input_and_filtering_again_changes_nothing(tmp_path_factory, seed):
    tmp_path = tmp_path_factory.mktemp("filter")
    rows = rows_of(seed)
    bench = folder(tmp_path / "bench", [pair("b", images=["bench"]), rows[3]], PICTURES)
    out, report = run(tmp_path, rows, against=[bench])
    source = {row.id: row for row in read_pairs(tmp_path / "in")}
    stays, went = read_pairs(out), log(out)
    assert {row.id: row for row in stays} | {row["id"]: source[row["id"]] for row in went} == source
    assert len(stays) + len(went) == len(rows) == report["read"]
    assert report["kept"] == len(stays)
    assert [row.id for row in stays] == [row.id for row in rows if row.id in {stay.id for stay in stays}]
    assert {path.name for path in (out / "images").iterdir()} == {name for row in stays for name in row.images}
    assert report["pictures"] == len(list((out / "images").iterdir()))
    again, _ = run(tmp_path, rows, "again", source=out, against=[bench])
    assert read_pairs(again) == stays
    many, report_many = run(tmp_path, rows, "many", 7, source=tmp_path / "in", against=[bench])
    for file in ("filter_dropped.jsonl", "pairs.parquet"):
        assert (many / file).read_bytes() == (out / file).read_bytes()
    assert report_many == report


def test_each_row_is_named_with_the_row_it_collides_with(tmp_path):
    first = pair("first", images=["1"])
    rows = [
        first, pair("copy", first.question, first.response_2, first.response_1 + " and a few words more", ["1 again"]),
        pair("text", first.question, first.response_1, first.response_2, ["2"]), pair("short", "?"),
    ]  # fmt: skip
    out, report = run(tmp_path, rows)
    assert left(out) == {"copy": "near_duplicate", "short": "short_question"}
    [copy] = [row for row in log(out) if row["reason"] == "near_duplicate"]
    assert copy["row"] == 2
    assert copy["detail"].startswith("similarity 0.9")
    assert copy["detail"].endswith(" to s:first")
    assert report["dropped"] == {"near_duplicate": 1, "short_question": 1}
    assert report["settings"]["similarity"] == {"threshold": 0.8, "picture_distance": 4}
    assert report["labels"] == {"1": 2, "2": 0}


def test_a_row_that_left_for_another_reason_keeps_no_copy_from_staying(tmp_path):
    bad = pair("bad", one=prose(1, 90) + "<|im_end|>")
    good = pair("good", bad.question, prose(1, 90), bad.response_2)
    assert kept(run(tmp_path, [bad, good])[0]) == ["good"]


def test_broken_pictures_are_bad_rows_and_too_many_of_them_end_the_run(tmp_path):
    rows = [pair(str(i), images=["1" if i % 4 else "2"]) for i in range(12)]
    source = folder(tmp_path / "in", rows, PICTURES)
    name = read_pairs(source)[0].images[0]
    (source / "images" / name).unlink()
    with pytest.raises(UserError, match=r"3 of 12 rows are bad.*broken_picture"):
        filter_pairs(source, tmp_path / "out")
    assert not (tmp_path / "out" / "pairs.parquet").exists()
    report = filter_pairs(source, tmp_path / "out", max_bad=0.5)
    assert report["bad"] == {"broken_picture": 3}
    assert len(kept(tmp_path / "out")) == 9
    with pytest.raises(UserError, match="is not in"):
        filter_pairs(source, tmp_path / "out 2", FilterSettings(quality=None))


def test_pictures_are_hard_links_and_copies_where_that_is_not_possible(tmp_path, monkeypatch):
    source = folder(tmp_path / "in", [pair("a", images=["1"])], PICTURES)
    out, _ = run(tmp_path, [], source=source)
    [picture] = (out / "images").iterdir()
    assert picture.samefile(source / "images" / picture.name)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    out, _ = run(tmp_path, [], "copied", source=source)
    [copied] = (out / "images").iterdir()
    assert copied.read_bytes() == picture.read_bytes()
    assert not copied.samefile(picture)


def test_an_interrupted_run_goes_on_at_the_shard_that_is_missing(tmp_path):
    source = folder(tmp_path / "in", rows_of(5), PICTURES)
    step = filter_step(source, tmp_path / "out", max_bad=1.0)
    done = []
    with pytest.raises(KeyboardInterrupt):
        carry_out(step, 4, 1, lambda finished, total: done.append(finished) or stop(finished))
    assert not (tmp_path / "out" / "pairs.parquet").exists()
    times = {path.name: path.stat().st_mtime_ns for path in step.parts.iterdir()}
    carry_out(step, 4, 1)
    assert len(times) == 2 * 4
    assert not step.parts.exists()
    assert (tmp_path / "out" / "pairs.parquet").read_bytes() == (
        run(tmp_path, [], "whole", source=source)[0] / "pairs.parquet"
    ).read_bytes()


def stop(finished):
    if finished == 2:
        raise KeyboardInterrupt


def test_an_empty_folder_and_one_of_which_nothing_stays_are_written_as_such(tmp_path):
    assert run(tmp_path, [], "a", source=folder(tmp_path / "none", []))[1]["kept"] == 0
    out, report = run(tmp_path, [pair("x", "?"), pair("y", "!")], shards=3)
    assert read_pairs(out) == []
    assert report["dropped"] == {"short_question": 2}


def test_strange_texts_pass_whole(tmp_path):
    rows = [pair("tags", one="<answer>1</answer>\r\n</rubric>"), pair("rtl", "ما هذا؟", "دراجة", "\u202eسيارة"),
            pair("nul", one="a\x00b", two="🙂" * 50), pair("emoji", "👩‍👩‍👧", "👍🏽", "👎")]  # fmt: skip
    out, _ = run(tmp_path, rows, settings=FilterSettings(QualitySettings(question_chars=(1, 100_000))))
    assert read_pairs(out) == rows


def test_a_picture_name_that_leads_elsewhere_is_refused(tmp_path):
    source = folder(tmp_path / "in", [pair("a", images=["1"])], PICTURES)
    (tmp_path / "secret.png").write_bytes(scene(9))
    from data_tools.rows.preference import write_pairs

    (source / "images" / "sub").mkdir()
    write_pairs(source, [pair("a", images=["../../secret.png"])])
    with pytest.raises(UserError, match="no file name"):
        filter_pairs(source, tmp_path / "out")


def test_a_run_over_its_own_input_and_a_run_with_nothing_to_do_are_refused(tmp_path):
    source = folder(tmp_path / "in", [pair("a")])
    with pytest.raises(UserError, match="other than"):
        filter_pairs(source, source)
    with pytest.raises(UserError, match="every filter is off"):
        filter_pairs(source, tmp_path / "out", FilterSettings(quality=None, similarity=None))


def test_settings_come_from_a_file_and_the_command_line_changes_them(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(
        "[quality]\nquestion_chars = [1, 20]\nlatin_share = 1\n[similarity]\nthreshold = 0.9\n"
        "[decontamination]\nnear_text = false\npicture_distance = 2\n[difficulty]\nagreement = [0, 0.5]\n"
    )
    made = read_settings(file, {"similarity": {"picture_distance": 0}})
    assert made.quality == QualitySettings(question_chars=(1, 20), latin_share=1.0)
    assert made.similarity == SimilaritySettings(0.9, 0)
    assert (made.decontamination.near_text, made.decontamination.picture_distance) == (None, 2)
    assert made.difficulty.agreement == (0.0, 0.5)
    file.write_text("quality = false")
    assert read_settings(file).quality is None
    assert read_settings(None, {"similarity": False}).similarity is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[qualty]", "did you mean quality"),
        ("[quality]\nquestion_char = [1, 2]", "did you mean question_chars"),
        ("[quality]\nquestion_chars = 3", "least, most"),
        ("[quality]\nquestion_chars = [1.5, 3]", "must be int"),
        ("[quality]\nidentical = 1", "must be bool"),
        ("[similarity]\nthreshold = '0.8'", "must be int or float"),
        ("[similarity]\nthreshold = 0.1", "from 0.5"),
        ("difficulty = false", r"write a table \[difficulty\]"),
        ("quality = {", "TOML"),
    ],
)
def test_settings_that_are_not_known_say_what_is_meant(tmp_path, text, message):
    (tmp_path / "s.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        read_settings(tmp_path / "s.toml")


def test_the_command_filters_shard_by_shard_and_prints_what_left(tmp_path):
    source = folder(tmp_path / "in", rows_of(7), PICTURES)
    bench = folder(tmp_path / "bench", [pair("b", images=["bench"])], PICTURES)
    options = [str(source), "--out", str(tmp_path / "out"), "--against", str(bench), "--near-duplicates", "0.9"]
    for part in ("2/2", "1/2"):
        assert CliRunner().invoke(command, [*options, "--shard", part]).exit_code == 0
    result = CliRunner().invoke(command, [*options, "--shards", "2"], catch_exceptions=False)
    assert "near duplicate" in result.output
    assert "benchmark picture" in result.output
    report = json.loads((tmp_path / "out" / "filter.json").read_text())
    assert report["settings"]["similarity"]["threshold"] == 0.9
    assert "was done before" in CliRunner().invoke(command, options).output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--agreement", "0:1"], "needs critiques"),
        (["--near-duplicates", "some"], "neither a share"),
        (["--near-duplicates", "7"], "from 0.5 to 1"),
        (["--no-quality", "--near-duplicates", "off"], "every filter is off"),
    ],
)
def test_options_that_cannot_be_meant_are_errors(tmp_path, options, message):
    source = folder(tmp_path / "in", [pair("a")])
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(command, [str(source), "--out", str(tmp_path / "o"), *options], catch_exceptions=False)
