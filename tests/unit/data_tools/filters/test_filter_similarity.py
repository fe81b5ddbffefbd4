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
from data_tools.filters.minhash import agreeing, band_keys, bands_for, signatures
from data_tools.filters.picture_likeness import LikenessIndex, likeness, look_alikes
from data_tools.filters.plain_text import spaced
from data_tools.filters.similarity import SimilaritySettings, all_near_or_same, near_duplicates
from proxygrm.core.errors import UserError
from support.rows.filter_pairs import prose, scene


def shingles(row):
    """What the module's head says, word by word."""
    found = set()
    for text in row:
        words = spaced(text).split()
        found |= {tuple(words[i : i + 3]) for i in range(max(len(words) - 2, 1 if words else 0))}
    return found


def jaccard(one, other):
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b) if a | b else 1.0


def edited(text: str, seed: int, changes: int) -> str:
    words, chance = text.split(), random.Random(seed)
    for _ in range(changes):
        words[chance.randrange(len(words))] = chance.choice(["new", "other", "third"])
    return " ".join(words)


def leaving(rows, pictures=None, images=None, **options):
    found = near_duplicates(signatures(rows), pictures or [()] * len(rows), images, SimilaritySettings(**options))
    return dict(zip(found.rows.tolist(), found.keepers.tolist(), strict=True))


def slowly(rows, pictures=None, looks=None, threshold=0.8, distance=4):
    """The same by comparing every row with every row that stays."""
    signs, pictures = signatures(rows), pictures or [()] * len(rows)
    stay: list[int] = []
    left = {}
    for row in range(len(rows)):
        for keeper in stay:
            if (signs[row] == signs[keeper]).mean() >= threshold and (
                pictures[row] == pictures[keeper]
                or all_near_or_same(pictures[row], pictures[keeper], looks or {}, distance)
            ):
                left[row] = keeper
                break
        else:
            stay.append(row)
    return left


def test_estimates_are_those_of_the_true_sets():
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
    sign = signatures([("What is it?", "A red bicycle leans on a wall.", "Ein Fahrrad – größer, 自行车")])[0]
    assert sign[:4].tolist() == [6463610, 141332229, 109569518, 229235428]


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
def test_pairs_at_the_threshold_share_a_band_by_counting(threshold):
    chance, bands = random.Random(0), bands_for(threshold)
    sign = signatures([(prose(1),)])
    for _ in range(300):
        other = sign.copy()
        other[0, chance.sample(range(128), 128 - agreeing(threshold))] ^= 1
        assert (band_keys(sign, bands) == band_keys(other, bands)).any()


def test_small_edits_are_found_and_different_texts_are_not():
    rows = [(prose(i, 12), prose(i + 100), prose(i + 200)) for i in range(20)]
    copies = [(q.upper(), two.replace(" ", "\n "), edited(one, 7, 1)) for q, one, two in rows]
    assert leaving(rows + copies) == {20 + i: i for i in range(20)}
    assert leaving(rows) == {}


def test_unicode_and_unspaced_scripts_are_compared_by_what_is_read():
    chinese = "图片中有一辆红色的自行车靠在旧墙上旁边站着两个人傍晚的港口很安静车轮看起来有点弯"
    arabic = "دراجة حمراء تستند إلى الجدار القديم بجانب شخصين قرب الميناء الهادئ في ضوء المساء والعجلات منحنية قليلا"
    rows = [
        ("问题", chinese, "不同的回答"), ("问题", chinese.replace("红", "蓝"), "不同的回答"),
        ("سؤال", arabic, "جواب"), ("سؤال", "\u202b" + arabic.replace(" ", " \u200f") + "\u202c", "جواب"),
        ("问题", "完全不同的一句话没有任何共同之处在这里出现", "别的"),
    ]  # fmt: skip
    assert leaving(rows, threshold=0.7) == {1: 0, 3: 2}


def test_the_first_of_a_chain_stays_and_so_does_the_row_that_is_only_near_its_neighbour():
    words = prose(3, 200).split()
    rows = [(" ".join([*(f"x{j}" for j in range(i * 14)), *words[i * 14 :]]),) for i in range(4)]
    assert jaccard(rows[0], rows[1]) > 0.84 > 0.78 > jaccard(rows[0], rows[2])
    assert leaving(rows) == {1: 0, 3: 2} == slowly(rows)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.7, 0.8, 0.95]))
def test_the_same_rows_stay_as_when_every_row_is_compared_with_every_other(seed, threshold):
    chance = random.Random(seed)
    rows: list[tuple[str, ...]] = []
    for i in range(60):
        if rows and chance.random() < 0.6:
            row = chance.choice(rows)
            rows.append(tuple(edited(text, seed + i, chance.randrange(4)) for text in row))
        else:
            rows.append(tuple(prose(seed + i * 10 + j, chance.randint(3, 40)) for j in range(3)))
    found = leaving(rows, threshold=threshold)
    assert found == slowly(rows, threshold=threshold)
    stay = [row for i, row in enumerate(rows) if i not in found]
    assert leaving(stay, threshold=threshold) == {}


@pytest.fixture
def images(tmp_path):
    """Three scenes, each in three encodings, a flat picture in two colours, and one that is broken."""
    for i in range(3):
        (tmp_path / f"{i}.png").write_bytes(scene(i))
        (tmp_path / f"{i}.jpg").write_bytes(scene(i, kind="JPEG", quality=40))
        (tmp_path / f"{i}.small.webp").write_bytes(scene(i, (80, 60), "WEBP"))
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200)), ("red2", (202, 1, 0))):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.png").write_bytes(scene(1)[:90])
    return tmp_path


def test_near_texts_make_a_duplicate_only_about_the_same_picture(images):
    row = (prose(1), prose(2), prose(3))
    pictures = [
        (), ("0.png",), ("1.png",), ("0.jpg",), ("1.small.webp",), ("0.png", "1.png"), ("0.jpg", "1.jpg"),
        ("1.png", "0.png"), ("red.png",), ("blue.png",), ("red2.png",), ("broken.png",), ("broken.png",),
        ("gone.png",), (),
    ]  # fmt: skip
    rows = [row] * len(pictures)
    looks = {name: likeness(images / name) for names in pictures for name in names}
    assert leaving(rows, pictures, images) == {3: 1, 4: 2, 6: 5, 10: 8, 12: 11, 14: 0}
    assert leaving(rows, pictures, images) == slowly(rows, pictures, looks)
    assert leaving(rows, pictures, images, picture_distance=0) == {12: 11, 14: 0}


def test_many_rows_of_one_text_about_different_pictures_stay_quickly(images):
    names = [(f"{i}.png",) for i in range(20_000)]  # none is there: nothing is near to it
    started = time.process_time()
    assert leaving([(prose(1), "yes", "no")] * 20_000, names, images) == {}
    assert time.process_time() - started < 5


def test_look_alikes_survive_scaling_and_compression_and_no_other_picture(images):
    looks = [likeness(images / f"{i}{kind}") for i in range(3) for kind in (".png", ".jpg", ".small.webp")]
    assert look_alikes(looks, 4).tolist() == [0, 0, 0, 3, 3, 3, 6, 6, 6]
    index = LikenessIndex([(f"{i}.png", likeness(images / f"{i}.png")) for i in range(3)], 2)
    assert [index.first_near(look) for look in looks] == [f"{i}.png" for i in range(3) for _ in range(3)]
    assert index.first_near(likeness(images / "red.png")) is None
    assert likeness(images / "broken.png") is None


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "F"])
def test_pictures_of_any_mode_have_a_likeness(tmp_path, mode):
    out = io.BytesIO()
    Image.new(mode, (33, 17)).save(out, "TIFF")
    (tmp_path / "a.tiff").write_bytes(out.getvalue())
    assert likeness(tmp_path / "a.tiff") is not None


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=6), st.integers(0, 6))
def test_bands_miss_no_picture_within_the_distance(bits, flipped, distance):
    from data_tools.filters.picture_likeness import Likeness

    one, other = Likeness(bits, (0, 0, 0)), Likeness(bits ^ sum(1 << i for i in flipped), (0, 0, 0))
    near = len(flipped) <= distance
    assert (LikenessIndex([("one", one)], distance).first_near(other) == "one") == near
    assert (look_alikes([one, other], distance).tolist() == [0, 0]) == near


def test_a_text_of_ten_megabytes_takes_little_time_and_memory():
    row = (prose(1), "word " * 2_000_000, "é" * 10_000_000)
    started = time.process_time()
    sign = signatures([row])
    assert time.process_time() - started < 2
    assert np.array_equal(sign, signatures([(row[0], row[1] + "tail", row[2])]))


@pytest.mark.parametrize(
    "options",
    [{"threshold": 0.4}, {"threshold": 1.01}, {"threshold": float("nan")}, {"picture_distance": -1},
     {"picture_distance": 17}],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(options):
    with pytest.raises(UserError):
        SimilaritySettings(**options)
