"""What a rubric says: its criteria and weights, and whether it gives the winner away.

Linear in the length of the rubric, like everything that reads a model's text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class RubricItem:
    description: str
    weight: float  # percent


_NUMBER = r"(?<![\d.,])(\d{1,3}(?:\.\d{1,2})?)"
_MARKED_WEIGHT = re.compile(
    rf"[(\[]\s{{0,3}}(?:weight\s{{0,3}}[:=]?\s{{0,3}})?{_NUMBER}\s{{0,3}}%\s{{0,3}}[)\]]"
    rf"|weight\s{{0,3}}[:=]?\s{{0,3}}{_NUMBER}\s{{0,3}}%",
    re.IGNORECASE,
)
_BARE_WEIGHT = re.compile(rf"{_NUMBER}\s{{0,3}}%")
_BEFORE = " \t\r\n-*•#.,:;–—"


def read_items(rubric: str) -> tuple[RubricItem, ...]:
    """Criteria and weights (percent) of a rubric's inner text.

    A weight in brackets or after "weight" is taken as one; only if there is none, every percentage counts. What
    stands before a weight describes it, and so does the rest of its line when other lines follow.
    """
    found = list(_MARKED_WEIGHT.finditer(rubric)) or list(_BARE_WEIGHT.finditer(rubric))
    if not found:
        return ()
    ends = [m.start() for m in found[1:]] + [len(rubric)]
    lead, items = rubric[: found[0].start()], []
    for match, end in zip(found, ends, strict=True):
        weight = float(next(g for g in match.groups() if g is not None))
        between = rubric[match.end() : end]
        line, newline, after = between.partition("\n")
        if end == len(rubric):
            tail, following = between, ""
        elif newline:
            tail, following = line, after
        else:
            tail, following = "", between
        items.append(RubricItem(_describe(lead, tail), weight))
        lead = following
    return tuple(items)


def _describe(lead: str, tail: str) -> str:
    tail = tail.strip(_BEFORE + ")]")
    lead = re.sub(r"^\d{1,2}[.):]\s", "", lead.strip(_BEFORE)).strip(_BEFORE + "([")
    text = f"{lead.rstrip(':')}: {tail}" if lead and tail else lead or tail
    return " ".join(text.replace("**", "").split())


_NOUN = r"(?:response|answer|assistant|candidate|output|option)"
_MENTION = re.compile(
    rf"\b{_NOUN}\s{{0,3}}\#?(?P<number>[12])\b(?!\s?%)|\bresponse\s{{1,3}}(?P<word>one|two|(?-i:[AB]))\b"
    rf"|\b(?P<ordinal>first|second|former|latter)\s{{1,3}}{_NOUN}\b",
    re.IGNORECASE,
)
_SIDE = {"1": 1, "one": 1, "a": 1, "first": 1, "former": 1, "2": 2, "two": 2, "b": 2, "second": 2, "latter": 2}
_JUDGES = re.compile(
    r"\b(?:better|best|worse|worst|wins?|winner|loses?|prefer(?:red|able)?|superior|inferior|correct|incorrect"
    r"|right|wrong|accurate|inaccurate|fails?|hallucinates?|stronger|weaker|choose|pick|favou?red?)\b",
    re.IGNORECASE,
)
_COMPARES = re.compile(
    r"\b(?:(?:better|worse|stronger|weaker|more\s\w{1,20}|less\s\w{1,20})\s{1,3}than|superior\s{1,3}to"
    r"|inferior\s{1,3}to|preferred\s{1,3}(?:to|over)|preferable\s{1,3}to|beats|outperforms)\b",
    re.IGNORECASE,
)
_DECLARES = re.compile(
    r"\b(?:verdict|winner|preference|better\s(?:one|response))\s{0,3}(?:is|:|=)\s{0,3}(?:response\s{0,3})?[12]\b",
    re.IGNORECASE,
)


def names_winner(rubric: str) -> bool:
    """Does the rubric say which response is better? Then the proxy would only repeat it.

    True for a declared verdict, for a sentence that judges one response and does not mention the other, and for
    a sentence that ranks the two. A rubric that treats both alike ("Response 1 and Response 2 must both ...") passes.
    """
    if _DECLARES.search(rubric):
        return True
    for sentence in re.split(r"[.!?;\n]", rubric):
        sides = {_SIDE[next(g for g in m.groups() if g).lower()] for m in _MENTION.finditer(sentence)}
        if len(sides) == 1 and _JUDGES.search(sentence):
            return True
        if len(sides) == 2 and _COMPARES.search(sentence):
            return True
    return False
