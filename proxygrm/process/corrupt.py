"""Corrupting an image's description {caption, key_facts, uncertain}: how much does a judge depend on it?

`drop` removes and `flip` changes the caption and each fact with the probability `ratio`; the other modes change the
whole description. All chance comes from the generator that the caller seeds.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from proxygrm.core.bad_row import BadRow

WITH_RATIO = ("drop", "flip")
MARKS = {
    "empty": "ablated_empty",
    "drop_facts": "ablated_drop_facts",
    "shuffle_facts": "ablated_shuffle_facts",
    "keep_caption_only": "ablated_caption_only",
    "noise_caption": "ablated_noise_caption",
}
MODES = (*WITH_RATIO, *MARKS)
NOISE_CAPTION = "The image contains several things in some arrangement, and a few of them may matter here."
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?!\w|\.\d)")
_RELEASED_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])")
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_WORD = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.IGNORECASE)
_SIGN = re.compile(r">=|<=|!=|=|<|>")
_SIGNS = ("<", ">", "<=", ">=", "=", "!=")
_FOR_ZERO = (1, 2, 3, 5, 10)
_FACTORS = (0.5, 0.8, 1.2, 1.5, 2.0)
_OFFSETS = (-2, -1, 1, 2)
_TRIES = 20
_MAX_DIGITS = 15
"""Ours leaves longer numbers alone: a float does not hold their digits."""

Description = dict[str, Any]


def generator(seed: int, key: str) -> random.Random:
    """A generator for one row: the same in every process, and another one for every key."""
    digest = hashlib.sha256(f"{seed}\n{key}".encode(errors="surrogatepass")).digest()
    return random.Random(int.from_bytes(digest[:8], "big"))


def corrupt(
    vision: Any, mode: str, rng: random.Random, ratio: float | None = None, as_upstream: bool = False
) -> tuple[Description, dict[str, Any]]:
    """(the corrupted description, what was done). ratio: of `drop` and `flip`, from 0 to 1; ignored by the others.

    as_upstream: the released corruptions. They leave a mark in `uncertain`, which a judge can read; a flip may change
    nothing, and does not see a number before a full stop. Raises BadRow for a vision that is not an object, and
    as_upstream for what raises there.
    """
    if not isinstance(vision, Mapping):
        raise BadRow("no_vision", f"vision is {type(vision).__name__}, it must be {{caption, key_facts, uncertain}}")
    try:
        if mode in WITH_RATIO:
            assert ratio is not None
            change = _drop if mode == "drop" else _flip
            return change(_coerced(vision, as_upstream), rng, ratio, as_upstream)
        if as_upstream:
            return _released(vision, mode, rng), {"type": mode}
        return _whole(_coerced(vision), mode, rng)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadRow("cannot_corrupt", f"vision cannot be corrupted by {mode}: {error}") from None


def _coerced(vision: Mapping[str, Any], as_upstream: bool = False) -> Description:
    """caption as text, key_facts and uncertain as lists of texts without nulls; other keys as they are. as_upstream: a
    null in place of a list is the text "None"."""
    caption = vision.get("caption")
    return {
        **vision,
        "caption": "" if caption is None else str(caption),
        "key_facts": _texts(vision.get("key_facts", []), as_upstream),
        "uncertain": _texts(vision.get("uncertain", []), as_upstream),
    }


def _texts(value: Any, as_upstream: bool) -> list[str]:
    if value is None and not as_upstream:
        return []
    return [str(item) for item in value if item is not None] if isinstance(value, list) else [str(value)]


def _drop(
    vision: Description, rng: random.Random, ratio: float, as_upstream: bool
) -> tuple[Description, dict[str, Any]]:
    facts, caption = vision["key_facts"], vision["caption"]
    without_caption = bool(caption) and rng.random() < ratio
    dropped = [index for index, fact in enumerate(facts) if fact and rng.random() < ratio]
    left = [fact for index, fact in enumerate(facts) if index not in set(dropped)]
    meta = {
        "type": "drop",
        "ratio": ratio,
        "caption_dropped": without_caption,
        "dropped_key_facts_idx": dropped,
        "key_facts_before": len(facts),
        "key_facts_after": len(left),
    }
    return vision | {"caption": "" if without_caption else caption, "key_facts": left}, meta


def _flip(
    vision: Description, rng: random.Random, ratio: float, as_upstream: bool
) -> tuple[Description, dict[str, Any]]:
    change = _released_flip if as_upstream else _other_flip
    facts, caption = list(vision["key_facts"]), vision["caption"]
    new_caption = change(caption, rng) if caption and rng.random() < ratio else caption
    flipped = []
    for index, fact in enumerate(facts):
        if fact and rng.random() < ratio:
            facts[index] = change(fact, rng)
            if facts[index] != fact:
                flipped.append(index)
    meta = {
        "type": "flip",
        "ratio": ratio,
        "caption_flipped": new_caption != caption,
        "flipped_key_facts_idx": flipped,
        "key_facts_count": len(facts),
    }
    return vision | {"caption": new_caption, "key_facts": facts}, meta


def _released_flip(text: str, rng: random.Random) -> str:
    return _flipped(text, rng, list(_RELEASED_NUMBER.finditer(text)), _new_number)


def _other_flip(text: str, rng: random.Random) -> str:
    """The text with a number or a sign that is another one, or else a number that is a word; unchanged where it has
    none of them."""
    numbers = [match for match in _NUMBER.finditer(text) if match[0].isascii() and len(match[0]) <= _MAX_DIGITS]
    if not numbers and not _SIGN.search(text):
        return _flipped(text, rng, list(_WORD.finditer(text)), _other_word)
    return _flipped(text, rng, numbers, _other_number)


def _flipped(
    text: str, rng: random.Random, numbers: list[re.Match[str]], new_number: Callable[[str, random.Random], str]
) -> str:
    if numbers:
        match = rng.choice(numbers)
        new = new_number(match[0], rng)
    elif signs := list(_SIGN.finditer(text)):
        match = rng.choice(signs)
        new = rng.choice([sign for sign in _SIGNS if sign != match[0]])
    else:
        return text
    return text[: match.start()] + new + text[match.end() :]


def _new_number(text: str, rng: random.Random) -> str:
    value = float(text)
    value = rng.choice(_FOR_ZERO) if abs(value) < 1e-9 else value * rng.choice(_FACTORS) + rng.choice(_OFFSETS)
    return f"{value:.3g}" if "." in text else str(round(value))


def _other_number(text: str, rng: random.Random) -> str:
    """Drawn until its value is another one."""
    for _ in range(_TRIES):
        new = _new_number(text, rng)
        if float(new) != float(text):
            return new
    return str(round(float(text)) + 1)


def _other_word(word: str, rng: random.Random) -> str:
    """A number at most three away."""
    value = _WORDS.index(word.lower())
    new = rng.choice([other for other in _WORDS[max(1, value - 3) : value + 4] if other != word.lower()])
    return new.capitalize() if word[0].isupper() else new


def _whole(vision: Description, mode: str, rng: random.Random) -> tuple[Description, dict[str, Any]]:
    before = vision["key_facts"]
    facts = list(before)
    if mode == "shuffle_facts":
        rng.shuffle(facts)
    elif mode != "noise_caption":
        facts = []
    caption = {"empty": "", "noise_caption": NOISE_CAPTION}.get(mode, vision["caption"])
    uncertain = [] if mode in ("empty", "keep_caption_only") else vision["uncertain"]
    meta = {"type": mode, "key_facts_before": len(before), "key_facts_after": len(facts)}
    return vision | {"caption": caption, "key_facts": facts, "uncertain": uncertain}, meta


def _released(vision: Mapping[str, Any], mode: str, rng: random.Random) -> Description:
    """Raises TypeError where the released code does."""
    mark = MARKS[mode]
    if mode in ("empty", "keep_caption_only"):
        caption = "" if mode == "empty" else vision.get("caption", "")
        return {"caption": caption, "key_facts": [], "uncertain": [mark]}
    out = {"caption": "", **vision}
    if mode == "drop_facts":
        out["key_facts"] = []
    elif mode == "shuffle_facts":
        out["key_facts"] = list(vision.get("key_facts", []))
        rng.shuffle(out["key_facts"])
    else:
        out["caption"] = NOISE_CAPTION
    uncertain = vision.get("uncertain", [])
    if not isinstance(uncertain, list):
        raise TypeError("uncertain is not a list")
    out["uncertain"] = [*uncertain, mark]
    return out
