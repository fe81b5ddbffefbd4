"""Corruptions of a description: what changes, by which draws, and what stays."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxygrm.core.bad_row import BadRow
from proxygrm.process.corrupt import MARKS, MODES, NOISE_CAPTION, corrupt, generator

VISION = {"caption": "A triangle.", "key_facts": ["AB = 3", "angle C >= 90", "it is red"], "uncertain": ["the scale"]}


class Draws(random.Random):
    """The draws of a test, in order: uniform numbers, and the chosen items of each list."""

    def __init__(self, *draws: Any) -> None:
        super().__init__(0)
        self.draws = list(draws)
        self.seen: list[list[Any]] = []

    def random(self) -> float:
        return float(self.draws.pop(0))

    def choice(self, seq: Any) -> Any:
        self.seen.append(list(seq))
        return seq[self.draws.pop(0)]


@pytest.mark.parametrize("as_upstream", [False, True])
def test_drop_draws_for_the_caption_and_then_for_each_fact(as_upstream: bool) -> None:
    rng = Draws(0.3, 0.5, 0.4, 0.49)
    vision, meta = corrupt(VISION, "drop", rng, 0.5, as_upstream)
    assert vision == {"caption": "", "key_facts": ["AB = 3"], "uncertain": ["the scale"]}
    assert meta == {
        "type": "drop", "ratio": 0.5, "caption_dropped": True, "dropped_key_facts_idx": [1, 2], "key_facts_before": 3,
        "key_facts_after": 1,
    }  # fmt: skip


def test_drop_does_not_draw_for_empty_texts_and_drops_nulls() -> None:
    vision = {"caption": "", "key_facts": ["", None, " ", 5], "other": 1}
    rng = Draws(0.0, 0.9)
    dropped, meta = corrupt(vision, "drop", rng, 0.5, as_upstream=True)
    assert dropped == {"caption": "", "key_facts": ["", "5"], "uncertain": [], "other": 1}
    assert (meta["dropped_key_facts_idx"], meta["key_facts_before"]) == ([1], 3)
    assert rng.draws == []


@pytest.mark.parametrize(("facts", "coerced"), [(None, ["None"]), ("one", ["one"]), (7, ["7"]), ([None], [])])
def test_facts_that_are_not_a_list_become_one_text(facts: Any, coerced: list[str]) -> None:
    vision, _ = corrupt({"caption": "", "key_facts": facts}, "drop", random.Random(0), 0.0, as_upstream=True)
    assert vision["key_facts"] == coerced
    ours, _ = corrupt({"caption": "", "key_facts": facts, "uncertain": None}, "drop", random.Random(0), 0.0)
    assert (ours["key_facts"], ours["uncertain"]) == ([] if facts is None else coerced, [])  # nothing was said


def test_flip_picks_a_number_a_factor_and_an_offset() -> None:
    rng = Draws(0.9, 0.1, 1, 4, 2, 0.9, 0.9)
    vision = VISION | {"key_facts": ["AB = 3, BC = 4", "x", "y"]}
    flipped, meta = corrupt(vision, "flip", rng, 0.5, as_upstream=True)
    assert flipped["key_facts"] == ["AB = 3, BC = 9", "x", "y"]  # 4 x 2.0 + 1
    assert [len(items) for items in rng.seen] == [2, 5, 4]
    assert rng.seen[1:] == [[0.5, 0.8, 1.2, 1.5, 2.0], [-2, -1, 1, 2]]
    assert meta == {
        "type": "flip", "ratio": 0.5, "caption_flipped": False, "flipped_key_facts_idx": [0], "key_facts_count": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "draws", "flipped"),
    [
        ("2.50 cm", (0, 1, 0), "0 cm"),  # 2.5 x 0.8 - 2
        ("BC is 2.46", (0, 2, 3), "BC is 4.95"),  # 2.952 + 2, three digits
        ("0", (0, 4), "10"),
        ("-7", (0, 0, 0), "-6"),  # -3.5 - 2 = -5.5, rounded to even
        ("a >= b", (0, 1), "a > b"),
        ("a = b", (0, 4), "a != b"),
        ("a red shape", (), "a red shape"),
        ("A1 and x2", (), "A1 and x2"),
        ("AB = 10.", (0, 0), "AB < 10."),
    ],
)
def test_flip_changes_one_number_or_else_one_sign(text: str, draws: tuple[int, ...], flipped: str) -> None:
    vision, meta = corrupt({"caption": text}, "flip", Draws(0.0, *draws), 1.0, as_upstream=True)
    assert vision["caption"] == flipped
    assert meta["caption_flipped"] == (flipped != text)


@given(st.integers(-99, 99), st.integers(0, 10_000), st.sampled_from(["AB = {}.", "{} cm", "so {}"]))
def test_our_flip_always_changes_a_number_even_before_a_full_stop(number: int, seed: int, text: str) -> None:
    before = text.format(number)
    vision, meta = corrupt({"caption": before}, "flip", random.Random(seed), 1.0)
    assert meta["caption_flipped"]
    new = re.search(r"-?\d+", vision["caption"])
    assert new is not None
    assert int(new[0]) != number


@pytest.mark.parametrize("word", ["zero", "One", "three", "twelve"])
def test_our_flip_changes_a_number_in_words_where_there_is_no_other(word: str) -> None:
    flipped = {corrupt({"caption": f"{word} someones"}, "flip", random.Random(s), 1.0)[0]["caption"] for s in range(50)}
    assert f"{word} someones" not in flipped
    assert len(flipped) >= 3
    assert all(text.endswith(" someones") and text[0].isupper() == word[0].isupper() for text in flipped)
    both, _ = corrupt({"caption": "three of 5"}, "flip", random.Random(0), 1.0)
    assert both["caption"].startswith("three of ")
    released, meta = corrupt({"caption": "three"}, "flip", random.Random(0), 1.0, as_upstream=True)
    assert (released["caption"], meta["caption_flipped"]) == ("three", False)


@pytest.mark.parametrize(
    ("mode", "vision"),
    [
        ("empty", {"caption": "", "key_facts": []}),
        ("keep_caption_only", {"caption": "A triangle.", "key_facts": []}),
        ("drop_facts", {"caption": "A triangle.", "key_facts": []}),
        ("noise_caption", {"caption": NOISE_CAPTION, "key_facts": VISION["key_facts"]}),
    ],
)
def test_the_whole_description_is_changed(mode: str, vision: dict[str, Any]) -> None:
    given_ = VISION | {"other": 1}
    ours, meta = corrupt(given_, mode, random.Random(1))
    without = mode in ("empty", "keep_caption_only")
    assert ours == vision | {"uncertain": [] if without else ["the scale"], "other": 1}
    assert meta["type"] == mode
    released, _ = corrupt(given_, mode, random.Random(1), as_upstream=True)
    alone = mode in ("empty", "keep_caption_only")
    marked = [MARKS[mode]] if alone else ["the scale", MARKS[mode]]
    assert released == vision | {"uncertain": marked} | ({} if alone else {"other": 1})


def test_shuffled_facts_are_those_of_the_seeded_generator() -> None:
    facts = [str(number) for number in range(20)]
    expected = list(facts)
    random.Random(12345).shuffle(expected)
    for as_upstream in (False, True):
        vision, _ = corrupt(
            {"caption": "c", "key_facts": facts}, "shuffle_facts", random.Random(12345), None, as_upstream
        )
        assert vision["key_facts"] == expected
    assert facts == [str(number) for number in range(20)]


@pytest.mark.parametrize(
    ("vision", "mode"),
    [
        ({"uncertain": "much"}, "drop_facts"), ({"uncertain": "much"}, "shuffle_facts"),
        ({"key_facts": None}, "shuffle_facts"),
        ({"uncertain": "much"}, "noise_caption"), ({"key_facts": 3}, "shuffle_facts"),
    ],
)  # fmt: skip
def test_what_raises_in_the_released_code_is_a_bad_row_there_alone(vision: dict[str, Any], mode: str) -> None:
    with pytest.raises(BadRow) as caught:
        corrupt(vision, mode, random.Random(0), as_upstream=True)
    assert caught.value.cause == "cannot_corrupt"
    corrupted, _ = corrupt(vision, mode, random.Random(0))
    assert isinstance(corrupted["uncertain"], list)


@pytest.mark.parametrize("vision", [None, "text", 3, ["caption"]])
@pytest.mark.parametrize("mode", MODES)
def test_a_vision_that_is_not_an_object_is_a_bad_row(vision: Any, mode: str) -> None:
    for as_upstream in (False, True):
        with pytest.raises(BadRow) as caught:
            corrupt(vision, mode, random.Random(0), 0.5, as_upstream)
        assert caught.value.cause == "no_vision"


def test_a_number_of_thousands_of_digits_neither_hangs_nor_raises() -> None:
    vision = {"caption": "9" * 100_000, "key_facts": ["1" * 400 + ".5"]}
    ours, meta = corrupt(vision, "flip", random.Random(0), 1.0)
    assert ours["caption"] == vision["caption"]
    assert not meta["caption_flipped"]
    with pytest.raises(BadRow):
        corrupt(vision, "flip", random.Random(0), 1.0, as_upstream=True)


def test_the_generator_of_a_row_is_the_same_in_every_process() -> None:
    code = "from proxygrm.process.corrupt import generator; print(generator(7, 'id 3').random())"
    seen = {
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert seen == {f"{generator(7, 'id 3').random()}\n"}
    assert generator(7, "id 3").random() != generator(7, "id 4").random() != generator(8, "id 4").random()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["caption", "key_facts", "uncertain", "x"]), inner)
        ),
        max_leaves=12,
    ),
    st.sampled_from(MODES),
    st.booleans(),
)
def test_any_json_value_is_corrupted_or_a_bad_row(vision: Any, mode: str, as_upstream: bool) -> None:
    try:
        corrupted, meta = corrupt(vision, mode, random.Random(3), 0.5, as_upstream)
    except BadRow:
        return
    assert {"caption", "uncertain"} <= set(corrupted)
    assert meta["type"] == mode
