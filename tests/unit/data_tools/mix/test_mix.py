"""Mixtures of small pairs folders: what each source gives, what it loses and why."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_tools.filters.settings import FilterSettings
from data_tools.mix.amounts import amounts, beyond_of_each
from data_tools.mix.run import mix, mix_step
from data_tools.mix.spec import MixSource, MixSpec, read_spec, shipped
from data_tools.rows.preference import PreferencePair, read_pairs
from data_tools.sources import SOURCES, load
from data_tools.steps.shards import carry_out
from jobs.cli.data.mix import report_table
from support.refusals import refused
from support.rows.filter_pairs import folder, pair, prose, scene


def rows_of(name, count, images=()):
    """Pairs whose texts are their own."""
    texts = [[prose(f"{name} {text}{i}") for text in "qab"] for i in range(count)]
    return [PreferencePair(f"{name}:{i}", name, *three, 1 + i % 2, images, "") for i, three in enumerate(texts)]


def spec_of(tmp_path, text, **options):
    file = tmp_path / "mix.toml"
    file.write_text(text)
    return read_spec(file, tmp_path, **options)


def sources(*lines):
    return "\n".join(f'[sources.{name}]\npairs = "{name}"\n{more}' for name, more in lines)


@pytest.fixture
def three(tmp_path):
    """`a` with images, `b` and `c` without; b has two rows of a's texts and one twice; `bench` has a row of c."""
    image = {"one": scene(1), "two": scene(2), "other": scene(3)}
    a = [replace(row, images=(("one", "two")[i % 2],)) for i, row in enumerate(rows_of("a", 20))]
    b = rows_of("b", 30)
    b[4] = replace(b[4], question=b[3].question, response_1=b[3].response_2, response_2=b[3].response_1)
    c = rows_of("c", 10)
    c[5] = replace(c[5], question=b[7].question, response_1=b[7].response_1, response_2=b[7].response_2)
    folder(tmp_path / "a", a, image)
    folder(tmp_path / "b", b)
    folder(tmp_path / "c", c)
    copy = replace(c[0], id="bench:1", source="bench")
    folder(tmp_path / "bench", [copy, replace(pair("x"), images=("one",))], {"one": image["one"]})
    return tmp_path


ALL = sources(("a", ""), ("b", ""), ("c", ""))


def losses(report):
    return {name: each["lost"] for name, each in report["sources"].items()}


def test_a_mixture_drops_repeats_within_and_across_sources_and_what_a_benchmark_has(three):
    report = mix(spec_of(three, 'against = ["bench"]\n' + ALL), three / "out")
    assert losses(report) == {
        "a": {"benchmark_image": 10}, "b": {"near_duplicate": 1}, "c": {"benchmark_pair": 1, "in_another_source": 1},
    }  # fmt: skip
    assert {name: each["kept"] for name, each in report["sources"].items()} == {"a": 10, "b": 29, "c": 8}
    pairs = read_pairs(three / "out")
    assert (len(pairs), report["kept"], report["read"]) == (47, 47, 60)
    assert Counter(row.source for row in pairs) == {"a": 10, "b": 29, "c": 8}
    assert len(list((three / "out" / "images").iterdir())) == report["images"] == 1
    logged = [json.loads(line) for line in (three / "out" / "mix_dropped.jsonl").read_text().splitlines()]
    assert len(logged) == 13
    elsewhere = [row for row in logged if row["reason"] == "in_another_source"]
    assert [(row["file"], row["row"], row["id"], row["detail"][-4:]) for row in elsewhere] == [("c", 6, "c:5", " b:7")]
    assert json.loads((three / "out" / "mix.json").read_text()) == report


def test_the_first_source_of_a_spec_keeps_a_repeated_row(three):
    report = mix(spec_of(three, sources(("c", ""), ("b", ""))), three / "out")
    assert losses(report) == {"c": {}, "b": {"in_another_source": 1, "near_duplicate": 1}}


def test_the_same_image_in_two_folders_is_one_image(tmp_path):
    """Equal texts about equal images are repeats across folders, about other images they are not."""
    for name, image in (("a", scene(1)), ("b", scene(1)), ("c", scene(2)), ("d", scene(1, (80, 60), "JPEG"))):
        row = replace(rows_of("same", 1, ("i",))[0], id=f"{name}:1")
        folder(tmp_path / name, [row], {"i": image})
    report = mix(spec_of(tmp_path, sources(*((name, "") for name in "abcd"))), tmp_path / "out")
    assert losses(report) == {"a": {}, "b": {"in_another_source": 1}, "c": {}, "d": {"in_another_source": 1}}


@pytest.mark.parametrize("shards", [2, 7])
def test_the_result_does_not_depend_on_the_number_of_shards(three, shards):
    text = 'against = ["bench"]\nsize = 30\n' + ALL.replace('"b"\n', '"b"\ncap = 12\n')
    one = mix(spec_of(three, text), three / "one")
    many = carry_out(mix_step(spec_of(three, text), three / "many"), shards, workers=1)
    assert {**one, "stamp": ""} == {**many, "stamp": ""}
    assert read_pairs(three / "one") == read_pairs(three / "many")
    for name in ("pairs.parquet", "mix_dropped.jsonl"):
        assert (three / "one" / name).read_bytes() == (three / "many" / name).read_bytes()


def test_caps_weights_and_size(three):
    text = sources(("a", "weight = 1"), ("b", "weight = 2\ncap = 16"), ("c", "weight = 0"))
    report = mix(spec_of(three, text), three / "out")
    assert losses(report) == {
        "a": {"over_weight": 12}, "b": {"near_duplicate": 1, "over_cap": 13},
        "c": {"in_another_source": 1, "over_weight": 9},
    }  # fmt: skip
    assert [each["kept"] for each in report["sources"].values()] == [8, 16, 0]
    report = mix(spec_of(three, "size = 9\n" + text), three / "small")
    assert [each["kept"] for each in report["sources"].values()] == [3, 6, 0]
    with refused("data.too-few-pairs", most=24, size=60, scarcest="b"):
        mix(spec_of(three, 'size = 60\nshort = "refuse"\n' + text), three / "large")
    assert not (three / "large").exists()


def test_another_seed_takes_other_rows_and_another_order_the_same(three):
    text = sources(("b", "cap = 10"))
    taken = {seed: {row.id for row in _mixed(three, text, seed)} for seed in (1, 2)}
    assert len(taken[1]) == len(taken[2]) == 10
    assert taken[1] != taken[2]
    backwards = read_pairs(three / "b")[::-1]
    folder(three / "b", backwards)
    again = {row.id for row in _mixed(three, text, 1)}
    assert len(again & taken[1]) >= 9  # of near-duplicates the first is kept


def _mixed(tmp_path, text, seed):
    out = tmp_path / f"out-{random.random()}"
    mix(spec_of(tmp_path, text, seed=seed), out)
    return read_pairs(out)


def test_at_most_some_pairs_about_one_question(tmp_path):
    rows = [replace(row, question=f"question {i // 6} of a forum") for i, row in enumerate(rows_of("shp", 30))]
    folder(tmp_path / "shp", rows)
    report = mix(spec_of(tmp_path, sources(("shp", "per_question = 2"))), tmp_path / "out")
    assert losses(report) == {"shp": {"over_question": 20}}
    assert set(Counter(row.question for row in read_pairs(tmp_path / "out")).values()) == {2}


def test_categories_can_be_left_out(tmp_path):
    """MM-RLHF's videos are not in R1-Reward's mixture."""
    rows = [replace(row, category=("long", "video", "mcq")[i % 3]) for i, row in enumerate(rows_of("mm", 9))]
    folder(tmp_path / "mm", rows)
    report = mix(spec_of(tmp_path, sources(("mm", 'without = ["video", "mcq"]'))), tmp_path / "out")
    assert losses(report) == {"mm": {"category": 6}}
    assert {row.category for row in read_pairs(tmp_path / "out")} == {"long"}
    assert report["sources"]["mm"]["not_there"] == []


def test_a_category_to_leave_out_that_no_row_has_is_said(tmp_path):
    """A misspelt one leaves nothing out."""
    folder(tmp_path / "mm", [replace(row, category="video") for row in rows_of("mm", 9)])
    report = mix(spec_of(tmp_path, sources(("mm", 'without = ["vdeo", "mcq"]'))), tmp_path / "out")
    assert losses(report) == {"mm": {}}
    assert report["sources"]["mm"]["not_there"] == ["mcq", "vdeo"]
    assert "mm has no row of mcq, vdeo, which `without` leaves out" in str(report_table(report).caption)


@pytest.mark.parametrize("name", shipped())
def test_shipped_specs_can_be_read_and_name_sources_that_ingest_knows(name):
    spec = read_spec(name, Path("/data"))
    made = {"r1_reward_200k", "r1_reward_drawn"}  # by other specs
    known = {load(source).slug for source in SOURCES} | {f"{source}_gap" for source in ("vlfeedback", "ultrafeedback")}
    assert {folder.name for folder in (*spec.folders, *spec.against)} <= known | made
    assert all(folder.is_relative_to("/data") for folder in (*spec.folders, *spec.against))
    assert spec.about


def test_only_some_sources_for_an_ablation(three):
    report = mix(spec_of(three, ALL, only=("b",)), three / "out")
    assert list(report["sources"]) == ["b"]
    with refused("settings.unknown-name", name="d", known=["a", "b", "c"]):
        spec_of(three, ALL, only=("d",))


def test_quality_runs_where_the_spec_has_a_table_of_it(three):
    (three / "a" / "images" / read_pairs(three / "a")[1].images[0]).write_bytes(b"broken")
    text = sources(("a", "")) + "\n[quality]\n"
    with refused("data.too-many-bad-rows", reasons={"broken_image": 10}):
        mix(spec_of(three, text), three / "out")
    report = mix(spec_of(three, text), three / "out", max_bad=0.5)
    assert losses(report) == {"a": {"broken_image": 10}}


def test_a_mixture_without_a_row_is_refused_with_the_reasons(three):
    folder(three / "bench", read_pairs(three / "c"))
    with refused("mix.empty", read=10, lost={"c": {"benchmark_pair": 10}}):
        mix(spec_of(three, 'against = ["bench"]\n' + sources(("c", ""))), three / "out")
    assert not (three / "out").exists()


def test_a_source_that_has_a_weight_and_no_rows_is_named(three):
    text = sources(("a", "weight = 1"), ("c", "weight = 1"))
    folder(three / "bench", read_pairs(three / "c"))
    with refused("mix.empty", without_rows=["c"]):
        mix(spec_of(three, 'against = ["bench"]\n' + text), three / "out")


@pytest.mark.parametrize(("first", "second"), [("1e-8", "2e-8"), ("0.1", "0.2"), ("1e300", "2e300"), ("1", "2")])
def test_only_the_proportion_of_weights_matters(three, first, second):
    text = sources(("a", f"weight = {first}"), ("b", f"weight = {second}\ncap = 8"))
    report = mix(spec_of(three, text), three / "out")
    assert [each["kept"] for each in report["sources"].values()] == [4, 8]


@pytest.mark.parametrize(("text", "code"), [
    ('[sources.""]\npairs = "a"', "mix.bad-name"), ('[sources."a,b"]\npairs = "a"', "mix.bad-name"),
    ("[sources.a]\npairs = 'a'\n[sources.a]\npairs = 'b'", "settings.unreadable"),
    (sources(("a", "cap = -1")), "settings.out-of-range"), (sources(("a", "cap = 1.5")), "settings.wrong-type"),
    (sources(("a", "cap = true")), "settings.wrong-type"), ("size = -1\n" + ALL, "settings.out-of-range"),
    (sources(("a", "per_question = -1")), "settings.out-of-range"), ("against = 'a'\n" + ALL, "settings.wrong-type"),
    (sources(("a", "without = 'x'")), "settings.wrong-type"), ("[[sources]]\npairs = 'a'", "mix.no-sources"),
    ("similarity = 'x'\n" + ALL, "settings.bad-value"),
    ("", "mix.no-sources"), ("sources = 3", "mix.no-sources"), ("[sources.a]\nweight = 1", "mix.no-pairs"),
    (sources(("a", "weight = 0"), ("b", "weight = 0.0")), "mix.no-weights"),
    (sources(("a", "weight = 1"), ("b", "")), "mix.some-weights"),
    (sources(("a", "weight = -1")), "settings.out-of-range"), (sources(("a", "weight = inf")), "settings.out-of-range"),
    (sources(("a", "weight = nan")), "settings.out-of-range"), (sources(("a", 'cap = "many"')), "settings.wrong-type"),
    (sources(("a", "caps = 3")), "settings.unknown-name"), ("sise = 3\n" + ALL, "settings.unknown-name"),
    ('short = "grow"\n' + ALL, "settings.unknown-value"), ("[sources", "settings.unreadable"),
])  # fmt: skip
def test_a_spec_that_makes_no_sense_is_refused(tmp_path, text, code):
    with refused(code):
        spec_of(tmp_path, text)


def test_a_cap_of_0_is_no_cap(three):
    report = mix(spec_of(three, sources(("a", "cap = 0"), ("b", "per_question = 0"))), three / "out")
    assert [each["kept"] for each in report["sources"].values()] == [20, 29]


def test_a_damaged_or_missing_pairs_file_is_named(three):
    file = three / "a" / "pairs.parquet"
    whole = file.read_bytes()
    for broken in (whole[: len(whole) // 2], b""):
        file.write_bytes(broken)
        with refused("file.damaged", path=file):
            mix(spec_of(three, ALL), three / "out")
    file.unlink()
    file.symlink_to(three / "gone")
    with refused("file.missing", path=file):
        mix(spec_of(three, ALL), three / "out")
    with refused("file.missing", path=three / "none" / "pairs.parquet"):
        mix(spec_of(three, 'against = ["none"]\n' + sources(("b", ""))), three / "out")
    assert not (three / "out").exists()


def test_a_folder_behind_a_link_is_the_same_folder(three):
    (three / "link").symlink_to(three / "a")
    with refused("mix.repeated-folder", path=three / "a"):
        mix_step(spec_of(three, sources(("a", ""), ("link", ""))), three / "out")
    assert mix(spec_of(three, sources(("link", ""))), three / "out")["kept"] == 20


def test_folders_that_cannot_be_mixed(three):
    with refused("mix.repeated-folder", path=three / "a"):
        mix_step(spec_of(three, 'against = ["a"]\n' + ALL), three / "out")
    with refused("option.bad-out"):
        mix_step(spec_of(three, ALL), three / "b")
    with refused("file.missing", path=three / "d" / "pairs.parquet"):
        mix_step(spec_of(three, sources(("d", ""))), three / "out")
    folder(three / "twin", [replace(row, question="another") for row in read_pairs(three / "b")])
    with refused("data.repeated-ids", count=30):
        mix(spec_of(three, sources(("b", ""), ("twin", ""))), three / "out")


def test_an_unknown_spec_is_refused_with_the_shipped_ones(tmp_path):
    with refused("file.missing", known=shipped()):
        read_spec("no-such-mixture")


@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 7)), min_size=1, max_size=6),
    st.integers(0, 2000),
    st.booleans(),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_amounts_are_within_what_there_is_and_in_proportion(given_sources, size, weighted):
    made = tuple((str(i), MixSource("p", weight=weight / 2)) for i, (_, weight) in enumerate(given_sources))
    available = {str(i): count for i, (count, _) in enumerate(given_sources)}
    spec = MixSpec("", made, weighted, (), size, "take", 0, FilterSettings())
    result = amounts(spec, available) if available else {}
    assert all(0 <= result.get(name, 0) <= count for name, count in available.items())
    total = sum(result.values())
    assert not size or total <= size
    if weighted and total:
        whole = sum(source.weight for _, source in made)
        assert all(abs(result[name] - total * source.weight / whole) <= 1 for name, source in made)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1000)), max_size=40), st.integers(1, 3))
def test_the_first_of_each_group_stay(rows, wanted):
    groups, order = (np.array([row[i] for row in rows], dtype=np.uint64) for i in range(2))
    over = beyond_of_each(groups, order, wanted)
    for group in set(groups.tolist()):
        inside = groups == group
        assert (~over[inside]).sum() == min(wanted, inside.sum())
        if over[inside].any():
            assert order[inside & ~over].max() <= order[inside & over].min()
