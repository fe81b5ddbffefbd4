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
from data_tools.rows.preference import read_pairs, write_pairs
from data_tools.steps.shards import carry_out
from jobs.cli.data.filter import filter_pairs as command
from support.refusals import refused
from support.rows.filter_pairs import folder, kept, left, log, pair, prose, scene

IMAGES = {"1": scene(1), "1 again": scene(1, kind="JPEG"), "2": scene(2), "bench": scene(3)}


def rows_of(seed: int, count: int = 40):
    """Rows with every reason to be dropped, in random order."""
    chance, rows = random.Random(seed), []
    for i in range(count):
        images = chance.choice([(), ("1",), ("1 again",), ("2",), ("bench",), ("2", "1")])
        texts = [prose(chance.randrange(10**9), chance.randint(1, 40)) for _ in range(3)]
        choice = chance.randrange(10)
        if choice < 4 and rows:
            other = chance.choice(rows)
            texts = [other.question, other.response_2, other.response_1 + " too" * chance.randrange(3)]
            images = other.images if chance.random() < 0.7 else images
        elif choice == 4:
            texts[chance.randrange(3)] = chance.choice(["?", "", "text<|im_end|>", "<image> text", "<br> text"])
        rows.append(pair(f"{seed}-{i}", *texts, images=images, label=chance.choice([1, 2])))
    return rows


def run(tmp_path, rows, name="out", shards=1, source=None, **options):
    source = source or folder(tmp_path / "in", rows, IMAGES)
    out = tmp_path / name
    report = carry_out(filter_step(source, out, max_bad=1.0, **options), shards, workers=1)
    return out, report


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 10**6))
def test_kept_and_dropped_rows_are_the_input_and_filtering_again_changes_nothing(tmp_path_factory, seed):
    tmp_path = tmp_path_factory.mktemp("filter")
    rows = rows_of(seed)
    bench = folder(tmp_path / "bench", [pair("b", images=["bench"]), rows[3]], IMAGES)
    out, report = run(tmp_path, rows, against=[bench])
    source = {row.id: row for row in read_pairs(tmp_path / "in")}
    kept_rows, dropped = read_pairs(out), log(out)
    assert {row.id: row for row in kept_rows} | {row["id"]: source[row["id"]] for row in dropped} == source
    assert len(kept_rows) + len(dropped) == len(rows) == report["read"]
    assert report["kept"] == len(kept_rows)
    kept_ids = {row.id for row in kept_rows}
    assert [row.id for row in kept_rows] == [row.id for row in rows if row.id in kept_ids]
    assert {path.name for path in (out / "images").iterdir()} == {name for row in kept_rows for name in row.images}
    assert report["images"] == len(list((out / "images").iterdir()))
    again, _ = run(tmp_path, rows, "again", source=out, against=[bench])
    assert read_pairs(again) == kept_rows
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
    assert report["settings"]["similarity"] == {"threshold": 0.8, "image_distance": 4}
    assert report["labels"] == {"1": 2, "2": 0}


def test_a_row_dropped_for_another_reason_does_not_make_others_near_duplicates(tmp_path):
    bad = pair("bad", one=prose(1, 90) + "<|im_end|>")
    good = pair("good", bad.question, prose(1, 90), bad.response_2)
    assert kept(run(tmp_path, [bad, good])[0]) == ["good"]


def test_rows_with_broken_images_are_bad_and_too_many_of_them_are_an_error(tmp_path):
    rows = [pair(str(i), images=["1" if i % 4 else "2"]) for i in range(12)]
    source = folder(tmp_path / "in", rows, IMAGES)
    name = read_pairs(source)[0].images[0]
    (source / "images" / name).unlink()
    with refused("data.too-many-bad-rows", bad=3, read=12, reasons={"broken_image": 3}):
        filter_pairs(source, tmp_path / "out")
    assert not (tmp_path / "out" / "pairs.parquet").exists()
    report = filter_pairs(source, tmp_path / "out", max_bad=0.5)
    assert report["bad"] == {"broken_image": 3}
    assert len(kept(tmp_path / "out")) == 9
    with refused("image.missing", path=source / "images", name=name):
        filter_pairs(source, tmp_path / "out 2", FilterSettings(quality=None))


def test_images_are_hard_links_or_copies_where_links_are_not_possible(tmp_path, monkeypatch):
    source = folder(tmp_path / "in", [pair("a", images=["1"])], IMAGES)
    out, _ = run(tmp_path, [], source=source)
    [image] = (out / "images").iterdir()
    assert image.samefile(source / "images" / image.name)

    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    out, _ = run(tmp_path, [], "copied", source=source)
    [copied] = (out / "images").iterdir()
    assert copied.read_bytes() == image.read_bytes()
    assert not copied.samefile(image)


def test_an_interrupted_run_resumes_at_the_missing_shard(tmp_path):
    source = folder(tmp_path / "in", rows_of(5), IMAGES)
    step = filter_step(source, tmp_path / "out", max_bad=1.0)
    with pytest.raises(KeyboardInterrupt):
        carry_out(step, 4, 1, lambda finished, total: stop_after_two(finished))
    assert not (tmp_path / "out" / "pairs.parquet").exists()
    times = {path.name: path.stat().st_mtime_ns for path in step.parts.iterdir()}
    carry_out(step, 4, 1)
    assert len(times) == 2 * 4
    assert not step.parts.exists()
    assert (tmp_path / "out" / "pairs.parquet").read_bytes() == (
        run(tmp_path, [], "whole", source=source)[0] / "pairs.parquet"
    ).read_bytes()


def stop_after_two(finished):
    if finished == 2:
        raise KeyboardInterrupt


def test_an_empty_folder_and_one_without_kept_rows_are_written(tmp_path):
    assert run(tmp_path, [], "a", source=folder(tmp_path / "none", []))[1]["kept"] == 0
    out, report = run(tmp_path, [pair("x", "?"), pair("y", "!")], shards=3)
    assert read_pairs(out) == []
    assert report["dropped"] == {"short_question": 2}


def test_unusual_texts_are_kept_unchanged(tmp_path):
    rows = [pair("tags", one="<answer>1</answer>\r\n</rubric>"), pair("rtl", "ما هذا؟", "دراجة", "\u202eسيارة"),
            pair("nul", one="a\x00b", two="🙂" * 50), pair("emoji", "👩‍👩‍👧", "👍🏽", "👎")]  # fmt: skip
    out, _ = run(tmp_path, rows, settings=FilterSettings(QualitySettings(question_chars=(1, 100_000))))
    assert read_pairs(out) == rows


def test_an_image_name_with_a_path_is_refused(tmp_path):
    source = folder(tmp_path / "in", [pair("a", images=["1"])], IMAGES)
    (tmp_path / "secret.png").write_bytes(scene(9))
    (source / "images" / "sub").mkdir()
    write_pairs(source, [pair("a", images=["../../secret.png"])])
    with refused("image.bad-name", name="../../secret.png"):
        filter_pairs(source, tmp_path / "out")


def test_the_input_as_output_and_a_run_without_filters_are_refused(tmp_path):
    source = folder(tmp_path / "in", [pair("a")])
    with refused("option.bad-out", path=source):
        filter_pairs(source, source)
    with refused("settings.nothing-to-do"):
        filter_pairs(source, tmp_path / "out", FilterSettings(quality=None, similarity=None))


def test_settings_come_from_a_file_and_the_command_line_changes_them(tmp_path):
    file = tmp_path / "s.toml"
    file.write_text(
        "[quality]\nquestion_chars = [1, 20]\nlatin_share = 1\n[similarity]\nthreshold = 0.9\n"
        "[decontamination]\nnear_text = false\nimage_distance = 2\n[difficulty]\nagreement = [0, 0.5]\n"
    )
    merged = read_settings(file, {"similarity": {"image_distance": 0}})
    assert merged.quality == QualitySettings(question_chars=(1, 20), latin_share=1.0)
    assert merged.similarity == SimilaritySettings(0.9, 0)
    assert (merged.decontamination.near_text, merged.decontamination.image_distance) == (None, 2)
    assert merged.difficulty.agreement == (0.0, 0.5)
    file.write_text("quality = false")
    assert read_settings(file).quality is None
    assert read_settings(None, {"similarity": False}).similarity is None


@pytest.mark.parametrize(
    ("text", "code", "values"),
    [
        ("[qualty]", "settings.unknown-name", {"name": "qualty", "near": "quality"}),
        ("[quality]\nquestion_char = [1, 2]", "settings.unknown-name", {"near": "question_chars"}),
        ("[quality]\nquestion_chars = 3", "settings.bad-value", {"name": "question_chars", "value": 3}),
        ("[quality]\nquestion_chars = [1.5, 3]", "settings.bad-value", {"name": "question_chars", "value": 1.5}),
        ("[quality]\nidentical = 1", "settings.bad-value", {"name": "identical", "value": 1}),
        ("[similarity]\nthreshold = '0.8'", "settings.bad-value", {"name": "threshold", "value": "0.8"}),
        ("[similarity]\nthreshold = 0.1", "settings.out-of-range", {"name": "similarity.threshold", "value": 0.1}),
        ("difficulty = false", "settings.bad-value", {"name": "difficulty", "value": False}),
        ("quality = {", "settings.unreadable", {}),
    ],
)
def test_invalid_settings_are_refused(tmp_path, text, code, values):
    (tmp_path / "s.toml").write_text(text)
    with refused(code, **values):
        read_settings(tmp_path / "s.toml")


def test_settings_without_effect_are_refused(tmp_path):
    (tmp_path / "s.toml").write_text("similarity = false\n[difficulty]\n")
    with refused("settings.no-effect", name="difficulty", option="--critiques"):
        read_settings(tmp_path / "s.toml", unused={"difficulty": "--critiques"})
    with refused("option.no-effect", option="--image-distance"):
        read_settings(tmp_path / "s.toml", {"similarity": {"image_distance": 3}})


def test_the_command_filters_shard_by_shard_and_prints_the_reasons(tmp_path):
    source = folder(tmp_path / "in", rows_of(7), IMAGES)
    bench = folder(tmp_path / "bench", [pair("b", images=["bench"])], IMAGES)
    options = [str(source), "--out", str(tmp_path / "out"), "--against", str(bench), "--near-duplicates", "0.9"]
    for part in ("2/2", "1/2"):
        assert CliRunner().invoke(command, [*options, "--shard", part]).exit_code == 0
    result = CliRunner().invoke(command, [*options, "--shards", "2"], catch_exceptions=False)
    assert "near duplicate" in result.output
    assert "benchmark image" in result.output
    report = json.loads((tmp_path / "out" / "filter.json").read_text())
    assert report["settings"]["similarity"]["threshold"] == 0.9
    assert "already done" in CliRunner().invoke(command, options).output


@pytest.mark.parametrize(
    ("options", "code", "values"),
    [
        (["--agreement", "0:1"], "option.missing", {"option": "--critiques"}),
        (["--agreement", "0-1", "--critiques", "x"], "option.bad-value", {"option": "--agreement", "value": "0-1"}),
        (["--near-duplicates", "some"], "option.bad-value", {"option": "--near-duplicates", "value": "some"}),
        (["--near-duplicates", "7"], "settings.out-of-range", {"name": "similarity.threshold", "value": 7.0}),
        (["--no-quality", "--near-duplicates", "off"], "settings.nothing-to-do", {}),
    ],
)
def test_invalid_options_are_refused(tmp_path, options, code, values):
    source = folder(tmp_path / "in", [pair("a")])
    with refused(code, **values):
        CliRunner().invoke(command, [str(source), "--out", str(tmp_path / "o"), *options], catch_exceptions=False)
