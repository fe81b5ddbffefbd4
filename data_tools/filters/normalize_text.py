"""Normalises texts for comparison: invisible differences are removed."""

from __future__ import annotations

import re
import unicodedata

# Zero-width characters, soft hyphens and the direction marks of right-to-left text.
_INVISIBLE = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
# Scripts without spaces between words, of which every character counts as a word: Kana, CJK, Thai to Burmese, Khmer.
_SCRIPTS_WITHOUT_SPACES = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def normalize(text: str) -> str:
    """The text in lower case and normal form NFKC, without invisible characters. Spaces are kept."""
    if text.isascii():
        return text.lower()
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).casefold()


def normalize_spaces(text: str) -> str:
    """`normalize`, with single spaces between words: equal for texts that read the same."""
    return " ".join(normalize(text).split())


def separate_words(text: str) -> str:
    """`normalize`, with ASCII white space between words; scripts without spaces are split at every character."""
    if text.isascii():
        return text.lower()
    return " ".join(_SCRIPTS_WITHOUT_SPACES.sub(r" \1 ", normalize(text)).split())
