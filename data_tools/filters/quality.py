"""Finds rows that are not useful for training or evaluation, each for one of a fixed set of reasons.

A row is examined by itself: its texts, and the headers of its images (nothing is decoded). All work is linear in the
length of the texts, and checks of the form of a text read only its beginning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from data_tools.filters.normalize_text import normalize, normalize_spaces
from data_tools.rows.preference import PreferencePair
from proxygrm.core.errors import UserError
from proxygrm.core.images.settle import MAX_ASPECT, UnreadableImage, size_of, too_thin

Reason = Literal[
    "short_question",
    "long_question",
    "empty_response",
    "short_response",
    "long_response",
    "identical_responses",
    "both_refuse",
    "chat_markup",
    "image_placeholder",
    "html_markup",
    "language",
    "broken_image",
    "small_image",
    "large_image",
    "stretched_image",
]
REASONS: tuple[str, ...] = get_args(Reason)
BAD_REASONS = frozenset({"broken_image"})  # the row is damaged, not only unwanted


@dataclass(frozen=True)
class QualitySettings:
    """Bounds are (least, most), inclusive. A switch turns a check off."""

    question_chars: tuple[int, int] = (3, 10_000)
    """A question of one or two characters is a stray mark. Above 10,000 (about 2,500 tokens) no pair fits into RL's
    prompt of 4,096 tokens with an image (up to 1,280) and the instruction (about 300)."""
    question_words: tuple[int, int] = (1, 2_500)
    """The same bound in words, for texts of many short words. One word ("Translate!") can be a question."""
    response_chars: tuple[int, int] = (1, 10_000)
    """"A" or "7" is the right answer to many questions, so one character is enough."""
    response_words: tuple[int, int] = (1, 2_500)
    """As for the question."""
    identical: bool = True
    """Responses that differ only in case and white space: the label says nothing."""
    refusals: bool = True
    """Both responses refuse, so neither is better. A pair with one refusal is kept: if the request is harmful the
    refusal is the better response, and if it is harmless it shows a worse one."""
    chat_markup: bool = True
    """Control tokens of a chat template (<|im_start|>, [INST], </s>): a model's raw output, cut in the wrong place."""
    image_placeholder: bool = True
    """<image> and similar tags in a text: they stand for an image that may be missing. Numbered ones (<image 1>, as in
    MMMU) refer to an image in the text and are kept."""
    html_markup: bool = True
    """HTML tags and entities outside code: a scraped page. Code in back-quotes is ignored."""
    latin_share: float = 0.0
    """Share of Latin letters among the letters of question and responses. Off by default: the released sets are
    English except for valid questions about signs, translations and formulas. 0.5 keeps rows that are mostly Latin."""
    stop_word_share: float = 0.0
    """Share of common English words among the words. Off by default: short answers, formulas and code have few. 99 %
    of VL-RewardBench's rows have 0.2 or more, sentences in other languages under 0.1: 0.15 keeps English rows."""
    image_side: tuple[int, int] = (28, 16_384)
    """Least pixels of the shorter side: one visual token of Qwen2.5-VL is 28 x 28. Most of the longer side: a larger
    image is scaled down to 1 % of its pixels before the model sees it (MAX_PIXELS 1003520)."""
    image_pixels: int = 50_000_000
    """Decoding takes 3 bytes per pixel in every worker; Pillow itself refuses more than 179 million pixels."""
    image_aspect: float = MAX_ASPECT
    """Most ratio of the longer to the shorter side: above it Qwen's processor raises an error during training."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and not (len(value) == 2 and 0 <= value[0] <= value[1]):
                raise UserError(
                    f"quality.{field.name} is {list(value)}; it must be [least, most] with 0 <= least <= most",
                    code="settings.out-of-range", name=f"quality.{field.name}", value=list(value),
                )  # fmt: skip


class Fault(NamedTuple):
    reason: Reason
    detail: str


def text_fault(pair: PreferencePair, settings: QualitySettings) -> Fault | None:
    """The first fault of the texts; lengths are checked first, so that a huge text costs no more."""
    question, responses = pair.question, (pair.response_1, pair.response_2)
    fault = _length("question", question, settings.question_chars, settings.question_words)
    for text in responses:
        fault = fault or _length("response", text, settings.response_chars, settings.response_words)
    if fault:
        return fault
    if settings.identical and _reads_same(*responses):
        return Fault("identical_responses", "")
    if settings.refusals and all(map(is_refusal, responses)):
        return Fault("both_refuse", "")
    texts = (question, *responses)
    return _markup(texts, settings) or _language(texts, settings)


def image_fault(path: Path, settings: QualitySettings) -> Fault | None:
    """The fault of an image, judged by its header."""
    try:
        width, height = size_of(path)
    except UnreadableImage as error:
        return Fault("broken_image", f"{path.name}: {error}"[:300])
    size, (least, most) = f"{path.name} is {width} x {height}", settings.image_side
    short, long = min(width, height), max(width, height)
    if short < least:
        return Fault("small_image", size)
    if long > most or width * height > settings.image_pixels:
        return Fault("large_image", size)
    if too_thin(width, height, settings.image_aspect):
        return Fault("stretched_image", size)
    return None


def _length(name: str, text: str, chars: tuple[int, int], words: tuple[int, int]) -> Fault | None:
    count = len(text)
    if count > chars[1]:
        return Fault("long_question" if name == "question" else "long_response", f"{count} characters")
    stripped = len(text.strip())
    if name == "response" and not stripped:
        return Fault("empty_response", "")
    if stripped < chars[0]:
        return Fault("short_question" if name == "question" else "short_response", f"{stripped} characters")
    count = len(text.split())
    if count < words[0]:
        return Fault("short_question" if name == "question" else "short_response", f"{count} words")
    if count > words[1]:
        return Fault("long_question" if name == "question" else "long_response", f"{count} words")
    return None


def _reads_same(one: str, other: str) -> bool:
    heads = [normalize_spaces(text[:1000]) for text in (one, other)]
    if min(map(len, heads)) > 200 and heads[0][:100] != heads[1][:100]:
        return False  # saves normalising most long texts
    return normalize_spaces(one) == normalize_spaces(other)


_CANNOT = r"(?:can(?:no|'|\s?no)?t|am (?:not able|unable) to|will not|won't|must decline to|have to decline to)"
_HELP = (
    r"(?:assist|help|comply|fulfil+|support that|support this|provide (?:that|this|you with|assistance|help|"
    r"information|instructions|any)|do that|answer (?:that|this|your)|engage|discuss|participate|"
    r"(?:generate|create) (?:that|this|such)|"
    r"identify (?:real|people|individuals|who|the (?:person|people|individual|man|woman))|"
    r"proceed|continue with|respond to)"
)
_REFUSAL = re.compile(
    r"^\W*(?:(?:i(?:'m| am)|we(?:'re| are))?\s*(?:very |really |so )?(?:sorry|afraid)\b\W*(?:but\b\W*|that\b\W*)?)?"
    r"(?:(?:i apologi[sz]e|my apologies|unfortunately)\b[^.!\n]{0,40}?\W*(?:but\b\W*)?)?"
    r"(?:as an? (?:ai|artificial intelligence|large language model|language model)\b[^.!\n]{0,60}?,?\s*)?"
    rf"(?:i|we)\s*{_CANNOT}\s*(?:be able to\s*)?{_HELP}\b"
)
_REFUSAL_CHARS = 600  # a longer response says more than a refusal


def is_refusal(response: str) -> bool:
    """Whether a response refuses in its first words and says little else. "I cannot see a cat" is an answer."""
    text = response.strip()
    return len(text) <= _REFUSAL_CHARS and _REFUSAL.match(normalize(text[:300]).replace("’", "'")) is not None


_CHAT = re.compile(
    r"<\|[A-Za-z0-9_ ▁]{1,40}\|>|<｜[^｜<>\n]{1,40}｜>|\[/?INST\]|<</?SYS>>|</?s>|<(?:pad|unk|bos|eos|eot)>"
    r"|<(?:start|end)_of_turn>|<\|?(?:im_start|im_end|endoftext)\|?>|^###\s?(?:Human|Assistant):|^(?:USER|ASSISTANT):\s",
    re.MULTILINE,
)
_PLACEHOLDER = re.compile(
    r"<(?:image|img|video|audio|ImageHere|image_placeholder)>|</(?:img|image|video)>|\[(?:IMG|IMAGE)\]|<image_\w{1,20}>"
)
_HTML = re.compile(
    r"</?(?:p|br|hr|div|span|a|b|i|u|em|strong|ul|ol|li|h[1-6]|table|thead|tbody|tr|td|th|font|center|html|head|body"
    r"|script|style|iframe|blockquote)(?:\s+[a-z-]{1,30}\s?=\s?[\"'][^<>]{0,300})?\s?/?>"
    r"|&(?:nbsp|amp|lt|gt|quot|apos|#\d{2,6}|#x[0-9a-fA-F]{2,5});",
    re.IGNORECASE,
)
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]{1,500}`", re.DOTALL)


_ENDS = 1 << 18  # characters examined at each end of a longer text, where a template leaves its tokens


def _markup(texts: Sequence[str], settings: QualitySettings) -> Fault | None:
    for text in (text if len(text) <= 2 * _ENDS else f"{text[:_ENDS]}\n{text[-_ENDS:]}" for text in texts):
        if "<" in text or "[" in text or "#" in text or "USER:" in text or "ASSISTANT:" in text:
            if settings.chat_markup and (match := _CHAT.search(text)):
                return Fault("chat_markup", match.group())
            if settings.image_placeholder and (match := _PLACEHOLDER.search(text)):
                return Fault("image_placeholder", match.group())
        if settings.html_markup and ("<" in text or "&" in text) and (match := _HTML.search(_CODE.sub(" ", text))):
            return Fault("html_markup", match.group()[:100])
    return None


_LANGUAGE_CHARS = 10_000  # characters of each text that are examined
_FEW = 20  # with fewer letters or words the language is not judged
_LETTERS = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z\u00aa\u00ba\u00c0-\u024f\u1e00-\u1eff]+")
_STOP_WORDS_TEXT = """a about all also an and are as at be because been both but by can could do does for from had has
have he her his how i if in into is it its more most no not of on one or other out she so some such than that the their
them then there these they this those to up was we were what when where which while who why will with would you your"""
_STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())


def _language(texts: Sequence[str], settings: QualitySettings) -> Fault | None:
    heads = [text[:_LANGUAGE_CHARS] for text in texts]
    if settings.latin_share > 0:
        letters = sum(len(run) for text in heads for run in _LETTERS.findall(text))
        latin = sum(len(run) for text in heads for run in _LATIN.findall(text))
        if letters >= _FEW and latin < settings.latin_share * letters:
            return Fault("language", f"{latin / letters:.2f} of the letters are Latin")
    if settings.stop_word_share > 0:
        words = [word for text in heads for word in _LETTERS.findall(text.lower())]
        common = sum(word in _STOP_WORDS for word in words)
        if len(words) >= _FEW and common < settings.stop_word_share * len(words):
            return Fault("language", f"{common / len(words):.2f} of the words are common English ones")
    return None
