from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from data_tools.filters.quality import REASONS, QualitySettings, image_fault, is_refusal, text_fault
from support.refusals import refused
from support.rows.filter_pairs import pair, scene

SETTINGS = QualitySettings()
SORRY = "I'm sorry, but I can't assist with that request."


def reason(question="What is shown?", one="A red bicycle.", two="A blue car.", settings=SETTINGS):
    fault = text_fault(pair("x", question, one, two), settings)
    return fault and fault.reason


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, None),
        ({"question": "?"}, "short_question"),
        ({"question": "  ?? \n"}, "short_question"),
        ({"question": "q" * 10_001}, "long_question"),
        ({"question": "q " * 2_501}, "long_question"),
        ({"one": " \n\u3000"}, "empty_response"),
        ({"two": ""}, "empty_response"),
        ({"one": "a" * 10_001}, "long_response"),
        ({"two": "a " * 2_501}, "long_response"),
        ({"one": "7", "two": "8"}, None),
        ({"one": "Yes,  it IS\n", "two": "yes, it is"}, "identical_responses"),
        ({"one": "\u200fنعم هذا", "two": "نعم هذا"}, "identical_responses"),
        ({"one": "ﬁne", "two": "fine"}, "identical_responses"),
        ({"one": SORRY, "two": "I cannot help you with this."}, "both_refuse"),
        ({"one": SORRY}, None),
        ({"one": "The cat.<|im_end|>"}, "chat_markup"),
        ({"question": "[INST] What is it? [/INST]"}, "chat_markup"),
        ({"two": "A car.</s>"}, "chat_markup"),
        ({"two": "<｜end▁of▁sentence｜>"}, "chat_markup"),
        ({"two": "A car.\n### Human: and this?"}, "chat_markup"),
        ({"question": "<image>\nWhat is it?"}, "image_placeholder"),
        ({"question": "What is in <image 1>?"}, None),
        ({"one": "A red<br/>bicycle"}, "html_markup"),
        ({"one": 'See <a href="http://x.y">this</a>'}, "html_markup"),
        ({"one": "Tom &amp; Jerry"}, "html_markup"),
        ({"one": "Write `<br>` or\n```html\n<div>a</div>\n```"}, None),
        ({"one": "if a<b and c>d then a & b"}, None),
        ({"one": "<answer>1</answer> is what the page says"}, None),
        ({"one": "Le vélo rouge est appuyé contre un mur.", "two": "这是一辆红色的自行车"}, None),
    ],
)
def test_a_row_is_dropped_for_its_fault(texts, expected):
    assert reason(**texts) == expected


def test_bounds_themselves_are_allowed():
    settings = QualitySettings(question_chars=(5, 9), response_chars=(2, 4), response_words=(1, 2))
    assert reason("12345", "ab", "a bc", settings) is None
    assert reason("1234", "ab", "cd", settings) == "short_question"
    assert reason("123456789", "ab", "cd", settings) is None
    assert reason("1234567890", "ab", "cd", settings) == "long_question"
    assert reason("12345", "a", "cd", settings) == "short_response"
    assert reason("12345", "abcde", "cd", settings) == "long_response"
    assert reason("12345", "a b", "c d ", settings) is None
    assert reason("12345", "ab", "c d", QualitySettings(response_words=(2, 2))) == "short_response"


def test_switches_turn_checks_off():
    off = QualitySettings(
        identical=False, refusals=False, chat_markup=False, image_placeholder=False, html_markup=False
    )
    assert reason(one=SORRY, two=SORRY, settings=off) is None
    assert reason(one="<image><|im_end|><br>", settings=off) is None


@pytest.mark.parametrize("bounds", [(5, 4), (-1, 4), (1, 2, 3)])
def test_invalid_bounds_are_refused(bounds):
    with refused("settings.out-of-range", name="quality.question_chars", value=list(bounds)):
        QualitySettings(question_chars=bounds)


@pytest.mark.parametrize(
    "text",
    [
        SORRY,
        "I’m sorry, I can’t help with identifying people.",
        "I cannot provide information on that.",
        "As an AI language model, I am unable to assist with this.",
        "Sorry, but I can't do that.",
        "Unfortunately, I am not able to help with that.",
        "I apologize, but I cannot fulfill this request.",
    ],
)
def test_refusals_are_recognised(text):
    assert is_refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "I cannot see a cat in the image.",
        "Sorry, the sign is too small to read, but it may say STOP.",
        "I can't tell whether it is raining.",
        "The man says: I cannot help you with that.",
        SORRY + " That said, here is what the image shows. " + "word " * 200,
        "",
    ],
)
def test_answers_that_sound_like_refusals_are_not_refusals(text):
    assert not is_refusal(text)


def test_the_language_is_checked_if_set_and_short_texts_pass():
    russian = "Красный велосипед стоит у старой стены возле гавани"
    latin = QualitySettings(latin_share=0.5)
    assert reason(russian, russian + " да", russian, latin) == "language"
    assert (
        reason(russian, "A red bicycle leans on the old wall", "it stands near the harbour in the evening", latin)
        is None
    )
    assert reason("что?", "да", "нет", latin) is None
    english = QualitySettings(stop_word_share=0.15)
    german = "Das rote Fahrrad lehnt an der alten Mauer neben zwei Leuten nahe dem stillen Hafen im Abendlicht"
    assert reason(german, german, german + " heute", english) == "language"
    assert (
        reason(
            "What is in the image and where is it?",
            "It is a bicycle that leans on the wall",
            "Yes it is not",
            english,
        )
        is None
    )


def image_bytes(tmp_path, width, height):
    path = tmp_path / f"{width}x{height}.png"
    Image.new("1", (width, height)).save(path)
    return image_fault(path, SETTINGS)


def test_images_are_judged_by_their_header(tmp_path):
    assert image_bytes(tmp_path, 28, 28) is None
    assert image_bytes(tmp_path, 27, 400).reason == "small_image"
    assert image_bytes(tmp_path, 5600, 28) is None
    assert image_bytes(tmp_path, 5601, 28).reason == "stretched_image"
    assert image_bytes(tmp_path, 16_385, 100).reason == "large_image"
    assert image_bytes(tmp_path, 8000, 6251).reason == "large_image"
    torn = tmp_path / "torn.png"
    torn.write_bytes(scene(1)[:20])
    assert image_fault(torn, SETTINGS).reason == "broken_image"
    assert image_fault(tmp_path / "none.png", SETTINGS).reason == "broken_image"
    assert image_fault(tmp_path, SETTINGS).reason == "broken_image"


@pytest.mark.parametrize("unit", ["a ", "<", "`", "&lt", "сло во ", "<|", "<br ", "[", "I'm sorry, ", "```"], ids=repr)
def test_the_time_for_megabytes_of_text_grows_with_its_length(unit):
    wide = QualitySettings(
        question_chars=(0, 10**9), question_words=(0, 10**9), response_chars=(0, 10**9), response_words=(0, 10**9),
        latin_share=0.1, stop_word_share=0.01,
    )  # fmt: skip

    def seconds(characters, settings):
        row = pair("x", "What is it?", unit * (characters // len(unit)), "b c d e f g " * 100)
        started = time.process_time()
        text_fault(row, settings)
        return time.process_time() - started

    for settings in (SETTINGS, wide):
        small, large = (min(seconds(size, settings) for _ in range(3)) for size in (2_500_000, 10_000_000))
        assert large < 8 * small + 0.05


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=200))
def test_any_text_is_checked_and_the_order_of_the_responses_does_not_matter(question, one, two):
    first, second = (
        text_fault(pair("x", question, one, two), SETTINGS),
        text_fault(pair("x", question, two, one), SETTINGS),
    )
    assert (first is None) == (second is None)
    assert first is None or first.reason in REASONS
