"""The form of a text in which "the same text" is decided: what the eye does not see makes no difference."""

from __future__ import annotations

import re
import unicodedata

# Zero-width characters, soft hyphens and the marks that steer right-to-left text.
_UNSEEN = re.compile("[\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]")
# Scripts that put no space between words: every character stands as a word. Kana, CJK, Thai to Burmese, Khmer.
_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])"
)


def plain(text: str) -> str:
    """Lower case and one form of each character (NFKC), with nothing unseen. Spaces stay as they are."""
    if text.isascii():
        return text.lower()
    return _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).casefold()


def squeezed(text: str) -> str:
    """`plain`, with every run of white space as one space: equal for texts that read the same."""
    return " ".join(plain(text).split())


def spaced(text: str) -> str:
    """`plain`, with only ASCII white space between words; a script without spaces is cut at every character."""
    if text.isascii():
        return text.lower()
    return " ".join(_UNSPACED.sub(r" \1 ", plain(text)).split())
