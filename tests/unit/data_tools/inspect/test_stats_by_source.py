"""`data stats` of a mixture: what each source contributes, as JSON, as a table and as a page."""

from __future__ import annotations

import json
import re
from array import array
from pathlib import Path

import pytest
from click.testing import CliRunner

from data_tools.inspect.quantiles import half_octaves, quantiles
from data_tools.inspect.stats import stats
from data_tools.rows.preference import ImageStore, PreferencePair, write_pairs
from jobs.cli.main import main
from support.rows.filter_pairs import scene


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """`look` has images and longer better responses, `<b>text` neither; one pair of `look` occurs twice."""
    store = ImageStore(tmp_path)
    image, other = store.add(scene(1, (64, 48))), store.add(scene(2, (320, 240)))
    look = [
        PreferencePair(f"l:{i}", "look", f"question {i}", "y" * 40, "n" * 10, 1, ((image, other)[i % 2],), "")
        for i in range(6)
    ]
    again = PreferencePair("l:7", "look", "question 0", "n" * 10, "y" * 40, 2, (image,), "")
    text = [PreferencePair(f"t:{i}", "<b>text", f"q{i}", "y" * i, "n" * 3, 2 - i % 2, (), "") for i in range(1, 5)]
    shared = PreferencePair("t:9", "<b>text", "same", "a", "bb", 1, (), "")
    elsewhere = PreferencePair("o:1", "other", "same", "bb", "a", 2, (), "")
    write_pairs(tmp_path, [*look, again, *text, shared, elsewhere])
    return tmp_path


def test_each_source_has_its_lengths_labels_images_and_repeats(mixture):
    report = stats(mixture)
    assert list(report["by_source"]) == ["look", "<b>text", "other"]
    look, text, other = report["by_source"].values()
    assert (look["rows"], look["images"], look["text_only"]) == (7, 7, 0)
    assert (look["labels"], look["better_longer"], look["worse_longer"]) == ({"1": 6, "2": 1}, 7, 0)
    assert look["quantiles"]["image width"] == {"0": 64, "0.05": 64, "0.5": 64, "0.95": 320, "0.99": 320, "1": 320}
    assert look["half_octaves"]["better response"] == {10: 7}  # 32 to 45
    assert (look["repeats"], look["in_other_sources"]) == (1, 0)
    assert (text["repeats"], text["in_other_sources"], other["in_other_sources"]) == (0, 1, 1)
    assert (text["text_only"], text["better_longer"], text["worse_longer"]) == (5, 1, 3)
    assert sum(source["share"] for source in report["by_source"].values()) == pytest.approx(1)


def test_the_command_prints_a_table_of_sources_and_writes_a_page(mixture, tmp_path):
    page = tmp_path / "p" / "stats.html"
    done = CliRunner().invoke(main, ["data", "stats", str(mixture), "--out", str(page)], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert re.search(r"look .* 7 .* 85.7% .* 100.0%", done.output)
    html = page.read_text()
    assert "<b>text" not in html
    assert html.count("<figure>") == 3 * 3 + 2  # question and two responses of each source, two sides of images
    assert not re.search(r'(src|href)="(?!data:)', html)
    done = CliRunner().invoke(main, ["data", "stats", str(mixture), "--json"])
    assert json.loads(done.output)["by_source"]["look"]["half_octaves"]["image width"] == {"12": 4, "16": 3}


def test_half_octaves_and_quantiles():
    assert half_octaves(array("q", [0, 1, 2, 3, 4, 1000])) == {0: 2, 2: 1, 3: 1, 4: 1, 19: 1}
    assert quantiles(array("q", [3, 1, 2]))["0.5"] == 2
