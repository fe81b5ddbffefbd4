from __future__ import annotations

import pytest

from data_tools.filters.decontamination import DecontaminationSettings
from data_tools.filters.run import filter_pairs
from data_tools.filters.settings import FilterSettings
from data_tools.ingest.image_paths import blank_image
from proxygrm.core.errors import UserError
from support.rows.filter_pairs import folder, kept, left, log, pair, prose, scene


def clean(tmp_path, rows, bench_rows, store=None, **options):
    bench = folder(tmp_path / "bench", bench_rows, store)
    settings = FilterSettings(quality=None, similarity=None, decontamination=DecontaminationSettings(**options))
    filter_pairs(folder(tmp_path / "in", rows, store), tmp_path / "out", settings, against=[bench])
    return tmp_path / "out"


def test_either_order_of_the_responses_is_found_and_the_benchmark_row_is_named(tmp_path):
    q, a, b = prose(1, 8), prose(2), prose(3)
    rows = [pair("same", q, a, b), pair("swapped", f" {q.upper()}\n", b, a.replace(" ", "  ")), pair("other")]
    out = clean(tmp_path, rows, [pair("elsewhere"), pair("b1", q, a, b, label=2)])
    assert kept(out) == ["other"]
    assert left(out) == {"same": "benchmark_pair", "swapped": "benchmark_pair"}
    assert {row["detail"] for row in log(out)} == {"the texts of bench/s:b1"}


def test_nearly_the_same_texts_are_found_in_either_order(tmp_path):
    q, a, b = prose(1, 8), prose(2, 90), prose(3, 90)
    rows = [
        pair("edited", q, b + " and yet more to say", a),
        pair("one response", q, a, prose(9, 90)),
        pair("question", q),
    ]
    out = clean(tmp_path, rows, [pair("b1", q, a, b), pair("b2", q, b, a + " too and that is all")])
    assert left(out) == {"edited": "benchmark_near_pair"}
    assert log(out)[0]["detail"].startswith("similarity 0.9")
    assert log(out)[0]["detail"].endswith(" to bench/s:b1")


def test_near_texts_can_be_allowed(tmp_path):
    row = pair("a")
    out = clean(tmp_path, [pair("b", row.question, row.response_1 + " and", row.response_2)], [row], near_text=None)
    assert kept(out) == ["b"]


def test_one_shared_image_is_enough(tmp_path):
    images = {"1": scene(1), "2": scene(2), "3": scene(3)}
    rows = [pair("both", images=["2", "1"]), pair("none", images=["2"]), pair("text only")]
    out = clean(tmp_path, rows, [pair("b1", images=["3"]), pair("b2", images=["1"])], images)
    assert left(out) == {"both": "benchmark_image"}
    assert log(out)[0]["detail"] == "the image of bench/s:b2"


def test_shared_images_can_be_allowed(tmp_path):
    assert kept(clean(tmp_path, [pair("a", images=["1"])], [pair("b", images=["1"])], {"1": scene(1)}, images=False))


def test_look_alikes_are_found_if_a_distance_is_set(tmp_path):
    images = {"1": scene(1), "1 again": scene(1, kind="JPEG", quality=60), "2": scene(2)}
    rows = [pair("again", images=["1 again"]), pair("other", images=["2"])]
    (tmp_path / "off").mkdir()
    assert left(clean(tmp_path / "off", rows, [pair("b", images=["1"])], images)) == {}
    out = clean(tmp_path, rows, [pair("b", images=["1"])], images, image_distance=2)
    assert left(out) == {"again": "benchmark_near_image"}
    assert log(out)[0]["detail"] == "an image like that of bench/s:b"


def test_the_grey_image_for_missing_ones_is_not_a_shared_image(tmp_path):
    rows, bench = [pair("a", images=["blank"])], [pair("b", images=["blank"])]
    assert kept(clean(tmp_path, rows, bench, {"blank": blank_image()}, image_distance=0)) == ["a"]


def test_several_benchmarks_are_searched_and_an_empty_one_is_allowed(tmp_path):
    rows = [pair(str(i)) for i in range(6)]
    benches = [folder(tmp_path / "a", [rows[1]]), folder(tmp_path / "b", []), folder(tmp_path / "c", [rows[4]])]
    settings = FilterSettings(quality=None, similarity=None)
    report = filter_pairs(folder(tmp_path / "in", rows), tmp_path / "out", settings, against=benches)
    assert [row["detail"] for row in log(tmp_path / "out")] == ["the texts of a/s:1", "the texts of c/s:4"]
    assert report["dropped"] == {"benchmark_pair": 2}


def test_a_benchmark_that_is_not_a_pairs_folder_is_an_error_before_any_work(tmp_path):
    source = folder(tmp_path / "in", [pair("a")])
    with pytest.raises(UserError, match="nowhere"):
        filter_pairs(source, tmp_path / "out", against=[tmp_path / "nowhere"])
    assert not (tmp_path / "out").exists()
