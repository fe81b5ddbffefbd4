from __future__ import annotations

import io
import random
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from data_tools.filters import minhash
from data_tools.filters.minhash import band_keys, bands_for, min_matches, signatures
from data_tools.filters.normalize_text import separate_words
from data_tools.filters.perceptual_hash import PerceptualHash, PerceptualHashIndex, look_alike_groups, perceptual_hash
from data_tools.filters.similarity import SimilaritySettings, all_near_or_same, near_duplicates
from support.linear_time import assert_linear
from support.refusals import refused
from support.rows.filter_pairs import prose, scene


def shingles(row):
    """The definition in the docstring of the module, word by word."""
    grams = set()
    for text in row:
        words = separate_words(text).split()
        grams |= {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1 if words else 0))}
    return grams


def jaccard(row, other):
    a, b = shingles(row), shingles(other)
    return len(a & b) / len(a | b) if a | b else 1.0


def edited(text: str, seed: int, changes: int) -> str:
    words, chance = text.split(), random.Random(seed)
    for _ in range(changes):
        words[chance.randrange(len(words))] = chance.choice(["new", "other", "third"])
    return " ".join(words)


def dropped_rows(rows, images=None, folder=None, **options):
    images = images or [()] * len(rows)
    duplicates = near_duplicates(signatures(rows), images, folder, SimilaritySettings(**options))
    return dict(zip(duplicates.rows.tolist(), duplicates.keepers.tolist(), strict=True))


def pairwise_dropped(rows, images=None, hashes=None, threshold=0.8, distance=4):
    """The same by comparing every row with every kept row."""
    all_signatures, images = signatures(rows), images or [()] * len(rows)
    kept: list[int] = []
    dropped = {}
    for row in range(len(rows)):
        for keeper in kept:
            if (all_signatures[row] == all_signatures[keeper]).mean() >= threshold and (
                images[row] == images[keeper] or all_near_or_same(images[row], images[keeper], hashes or {}, distance)
            ):
                dropped[row] = keeper
                break
        else:
            kept.append(row)
    return dropped


def test_estimates_are_close_to_the_true_similarities():
    rows = [(prose(i, 10), prose(i + 1000, 80), prose(i + 2000, 80)) for i in range(200)]
    for changes in (1, 5, 15):
        others = [tuple(edited(text, i, changes) for text in row) for i, row in enumerate(rows)]
        error = (signatures(rows) == signatures(others)).mean(axis=1) - [
            jaccard(*pair) for pair in zip(rows, others, strict=True)
        ]
        assert abs(error.mean()) < 0.01
        assert np.abs(error).max() < 0.18  # four standard deviations at their widest


def test_a_signature_does_not_depend_on_the_batch_nor_on_the_order_of_the_texts(monkeypatch):
    rows = [(prose(i, i % 7), "x" * (i * 37 % 500), prose(i + 50, i * 11 % 90)) for i in range(60)]
    whole = signatures(rows)
    assert whole.shape == (60, 128)
    assert np.array_equal(whole, np.concatenate([signatures([row]) for row in rows]))
    assert np.array_equal(whole, signatures([(b, c, a) for a, b, c in rows]))
    monkeypatch.setattr(minhash, "_BLOCK", 64)
    monkeypatch.setattr(minhash, "_CHUNK", 8)
    assert np.array_equal(whole, signatures(rows))
    assert signatures([]).shape == (0, 128)


def test_signatures_never_change():
    """Parts of one run may be computed on different machines."""
    signature = signatures([("What is it?", "A red bicycle leans on a wall.", "Ein Fahrrad – größer, 自行车")])[0]
    assert signature[:4].tolist() == [6463610, 141332229, 109569518, 229235428]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.text("ab \n\té\u200f漢İ", max_size=12)] * 3), min_size=1, max_size=8))
def test_shingles_are_word_three_grams_whatever_the_text(rows):
    hashes, first = minhash._shingles(rows)
    sets = [set(hashes[a:b].tolist()) for a, b in pairwise(first.tolist())]
    for i, row in enumerate(rows):
        assert len(sets[i]) == len(shingles(row))
        for j in range(i):
            assert len(sets[i] & sets[j]) == len(shingles(row) & shingles(rows[j]))


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.75, 0.8, 0.9, 0.95, 0.999, 1.0])
def test_pairs_at_the_threshold_always_share_a_band(threshold):
    chance, bands = random.Random(0), bands_for(threshold)
    signature = signatures([(prose(1),)])
    for _ in range(300):
        other = signature.copy()
        other[0, chance.sample(range(128), 128 - min_matches(threshold))] ^= 1
        assert (band_keys(signature, bands) == band_keys(other, bands)).any()


def test_small_edits_are_found_and_different_texts_are_not():
    rows = [(prose(i, 12), prose(i + 100), prose(i + 200)) for i in range(20)]
    copies = [(q.upper(), two.replace(" ", "\n "), edited(one, 7, 1)) for q, one, two in rows]
    assert dropped_rows(rows + copies) == {20 + i: i for i in range(20)}
    assert dropped_rows(rows) == {}


def test_unicode_and_scripts_without_spaces_are_compared_by_visible_text():
    chinese = "图片中有一辆红色的自行车靠在旧墙上旁边站着两个人傍晚的港口很安静车轮看起来有点弯"
    arabic = "دراجة حمراء تستند إلى الجدار القديم بجانب شخصين قرب الميناء الهادئ في ضوء المساء والعجلات منحنية قليلا"
    rows = [
        ("问题", chinese, "不同的回答"), ("问题", chinese.replace("红", "蓝"), "不同的回答"),
        ("سؤال", arabic, "جواب"), ("سؤال", "\u202b" + arabic.replace(" ", " \u200f") + "\u202c", "جواب"),
        ("问题", "完全不同的一句话没有任何共同之处在这里出现", "别的"),
    ]  # fmt: skip
    assert dropped_rows(rows, threshold=0.7) == {1: 0, 3: 2}


def test_of_a_chain_the_first_row_is_kept_and_the_one_that_is_near_a_dropped_row_only():
    words = prose(3, 200).split()
    rows = [(" ".join([*(f"x{j}" for j in range(i * 14)), *words[i * 14 :]]),) for i in range(4)]
    assert jaccard(rows[0], rows[1]) > 0.84 > 0.78 > jaccard(rows[0], rows[2])
    assert dropped_rows(rows) == {1: 0, 3: 2} == pairwise_dropped(rows)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.7, 0.8, 0.95]))
def test_the_same_rows_are_kept_as_by_comparing_every_row_with_every_other(seed, threshold):
    chance = random.Random(seed)
    rows: list[tuple[str, ...]] = []
    for i in range(60):
        if rows and chance.random() < 0.6:
            row = chance.choice(rows)
            rows.append(tuple(edited(text, seed + i, chance.randrange(4)) for text in row))
        else:
            rows.append(tuple(prose(seed + i * 10 + j, chance.randint(3, 40)) for j in range(3)))
    dropped = dropped_rows(rows, threshold=threshold)
    assert dropped == pairwise_dropped(rows, threshold=threshold)
    kept = [row for i, row in enumerate(rows) if i not in dropped]
    assert dropped_rows(kept, threshold=threshold) == {}


@pytest.fixture
def folder(tmp_path):
    """Three scenes, each in three encodings, a flat image in two colours, and one that is broken."""
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(scene(i))
        (tmp_path / f"{i}.jpg").write_bytes(scene(i, kind="JPEG", quality=40))
        (tmp_path / f"{i}.small.webp").write_bytes(scene(i, (80, 60), "WEBP"))
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200)), ("red2", (202, 1, 0))):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(scene(1)[:90])
    return tmp_path


def test_rows_with_near_texts_are_duplicates_only_with_the_same_image(folder):
    row = (prose(1), prose(2), prose(3))
    images = [
        (), ("0.png",), ("1.png",), ("0.jpg",), ("1.small.webp",), ("0.png", "1.png"), ("0.jpg", "1.jpg"),
        ("1.png", "0.png"), ("red.png",), ("blue.png",), ("red2.png",), ("broken.png",), ("broken.png",),
        ("gone.png",), (),
    ]  # fmt: skip
    rows = [row] * len(images)
    hashes = {name: perceptual_hash(folder / name) for names in images for name in names}
    assert dropped_rows(rows, images, folder) == {3: 1, 4: 2, 6: 5, 10: 8, 12: 11, 14: 0}
    assert dropped_rows(rows, images, folder) == pairwise_dropped(rows, images, hashes)
    assert dropped_rows(rows, images, folder, image_distance=0) == {12: 11, 14: 0}


def test_the_time_for_rows_of_one_text_about_different_images_grows_with_their_number(folder):
    def work(count):
        names = [(f"missing {i}.png",) for i in range(count)]  # near to none
        assert dropped_rows([(prose(1), "yes", "no")] * count, names, folder) == {}

    assert_linear(work, 2_000)


def test_look_alikes_are_recognised_after_scaling_and_compression_and_no_other_image_is(folder):
    hashes = [perceptual_hash(folder / f"{i}{kind}") for i in range(3) for kind in (".png", ".jpg", ".small.webp")]
    assert look_alike_groups(hashes, 4).tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6]
    index = PerceptualHashIndex([(f"{i}.png", perceptual_hash(folder / f"{i}.png")) for i in range(3)], 2)
    assert [index.first_near(image) for image in hashes] == [f"{i}.png" for i in range(3) for _ in range(3)]
    assert index.first_near(perceptual_hash(folder / "red.png")) is None
    assert perceptual_hash(folder / "broken.png") is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_images_of_any_mode_have_a_perceptual_hash(tmp_path, mode):
    out = io.BytesIO()
    Image.new(mode, (33, 17)).save(out, "TIFF")
    (tmp_path / "a.tiff").write_bytes(out.getvalue())
    assert perceptual_hash(tmp_path / "a.tiff") is not None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=6), st.integers(0, 6))
def test_bands_miss_no_image_within_the_distance(bits, flipped, distance):
    image, other = PerceptualHash(bits, (0, 0, 0)), PerceptualHash(bits ^ sum(1 << i for i in flipped), (0, 0, 0))
    near = len(flipped) <= distance
    assert (PerceptualHashIndex([("image", image)], distance).first_near(other) == "image") == near
    assert (look_alike_groups([image, other], distance).tolist() == [0, 0]) == near


def test_only_the_first_million_characters_of_a_text_count_and_take_time():
    def seconds(times):
        row = (prose(1), "word " * 250_000 * times, "é" * 1_250_000 * times)
        started = time.process_time()
        signatures([row])
        return time.process_time() - started

    small, large = (min(seconds(times) for _ in range(3)) for times in (1, 8))
    assert large < 3 * small + 0.05
    row = (prose(1), "word " * 2_000_000, "é" * 10_000_000)
    assert np.array_equal(signatures([row]), signatures([(row[0], row[1] + "tail", row[2])]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("threshold", 0.4), ("threshold", 1.01), ("threshold", float("nan")), ("image_distance", -1),
     ("image_distance", 17)],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name, value):
    with refused("settings.out-of-range", name=f"similarity.{name}", value=value):
        SimilaritySettings(**{name: value})
