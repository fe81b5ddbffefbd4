"""What a rubric says: its criteria and weights, and whether it names the winner.

Linear in the length of the rubric, like everything that reads a model's text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

MAX_ITEMS = 100
"""Reading stops after this many weights; a real rubric has fewer."""


@dataclass(frozen=True)
class RubricItem:
    description: str
    weight: float  # percent


_NUMBER = r"(?<![\d.,])([0-9]{1,3}(?:\.[0-9]{1,2})?)"
_PERCENT = r"\s{0,3}(?:%|％|percent\b)"
_SAYS_WEIGHT = r"weight(?:ed|ing)?[*_]{0,2}\s{0,3}[:=]?[*_]{0,2}\s{0,3}"
_MARKED_WEIGHT = re.compile(
    rf"[(\[（【][*_]{{0,2}}\s{{0,3}}(?:{_SAYS_WEIGHT})?{_NUMBER}{_PERCENT}\s{{0,3}}(?:weight)?[*_]{{0,2}}[)\]）】]"
    rf"|{_SAYS_WEIGHT}{_NUMBER}(?:{_PERCENT}|(?![\d.,]))",
    re.IGNORECASE,
)
_BARE_WEIGHT = re.compile(_NUMBER + _PERCENT, re.IGNORECASE)
_BEFORE = " \t\r\n-*•#.,:;–—|"
_TOTAL = re.compile(r"(?:in\s)?(?:the\s)?(?:total|sum|overall|altogether|weights)\b", re.IGNORECASE)


def read_items(rubric: str) -> tuple[RubricItem, ...]:
    """Criteria and weights (percent) of a rubric's inner text, at most MAX_ITEMS + 1.

    A number in brackets or after "weight" is a weight (after "weight" the percent sign may be missing); only if there
    is none, every percentage counts. The text before a weight describes it, and so does the rest of its line when
    other lines follow. A closing line such as "Total: 100%" is not a criterion.
    """
    if not any(digit in rubric for digit in "123456789"):
        return ()
    matches = _first_matches(_MARKED_WEIGHT, rubric) or _first_matches(_BARE_WEIGHT, rubric)
    if not matches:
        return ()
    ends = [match.start() for match in matches[1:]] + [len(rubric)]
    lead = rubric[: matches[0].start()]
    items: list[RubricItem] = []
    for match, end in zip(matches, ends, strict=True):
        weight = float(next(group for group in match.groups() if group is not None))
        between = rubric[match.end() : end]
        line, newline, after = between.partition("\n")
        if end == len(rubric):
            tail, following = between, ""
        elif newline:
            tail, following = line, after
        else:
            tail, following = "", between
        description = _describe(lead, tail)
        if not (items and _TOTAL.match(description)):
            items.append(RubricItem(description, weight))
        lead = following
    return tuple(items)


def total_weight(items: Iterable[RubricItem]) -> float:
    """Percent; 100 for a well-formed rubric."""
    return sum(item.weight for item in items)


def _first_matches(pattern: re.Pattern[str], text: str) -> list[re.Match[str]]:
    return list(islice(pattern.finditer(text), MAX_ITEMS + 1))


def _describe(lead: str, tail: str) -> str:
    tail = tail.strip(_BEFORE + ")]）】")
    lead = re.sub(r"^\d{1,2}[.):]\s", "", lead.strip(_BEFORE)).strip(_BEFORE + "([（【")
    text = f"{lead.rstrip(':')}: {tail}" if lead and tail else lead or tail
    return " ".join(text.replace("**", "").split())


# A side is named by "Response 1", "assistant two", "the second answer", ... "answer 2", "output 1" and "model 2" may be
# things in the image or the task ("gives the answer 2", "answer 2 questions"), so these need a verb after them.
_GAP = r"[\s_#(*\[-]{0,3}"
_VERB = r"(?=\s{1,3}(?:is|was|wins?|loses?|has|does|fails|should|deserves|correctly|wrongly|gets|names|matches)\b)"
_MENTION = re.compile(
    rf"\b(?:responses?|assistants?){_GAP}(?:no\.?\s|number\s)?(?P<number>[12])(?![\d.]\d|\s?%)\b"
    rf"(?:\s{{0,3}}(?:and|or|&|/|,|vs\.?|versus)\s{{0,3}}(?P<other>[12])\b)?"
    rf"|\b(?<!correct )(?<!right )(?:answer|candidate|output|model|reply){_GAP}(?P<weak>[12])\b{_VERB}"
    rf"|\bresponse\s{{1,3}}(?P<word>one|two|(?-i:[AB]))\b"
    rf"|\b(?P<ordinal>first|second|former|latter)\s{{1,3}}"
    rf"(?:response|answer|assistant|candidate|reply|output|description|caption)\b",
    re.IGNORECASE,
)
_SIDE = {"1": 1, "one": 1, "a": 1, "first": 1, "former": 1}  # anything else is 2
_JUDGES = re.compile(
    r"\b(?:better|best|worse|worst|win(?:s|ner|ning)?|los(?:es|er|ing)|prefer(?:red|able|ence)?|superior|inferior"
    r"|(?:in)?correct(?:ly|ness)?|wrong(?:ly)?|(?:in)?accurate(?:ly)?|fail(?:s|ed)?|hallucinat\w{1,6}"
    r"|strong(?:er|est)?|weak(?:er|est)?|choose|chosen|pick(?:ed)?|select(?:ed)?|favou?r(?:ed|s)?|true|false|mistaken"
    r"|miss(?:es|ed)|mis(?:identifi|label|read|count|name|state|interpret)\w{0,6}|overlooks?|contradicts?"
    r"|match(?:es)?|errs?|erroneous(?:ly)?|faithful(?:ly)?|satisfies|meets|violates|higher|lower|more|less"
    r"|reward(?:s|ed)?|penali[sz]e[sd]?|fabricat\w{1,4}|invents?"
    r"|good|bad|poor(?:ly)?|excellent|ideal|deserves|gets\sit|rightly"
    r"|(?<!on the )(?<!to the )(?<!at the )(?<!far )(?<!lower )(?<!upper )(?<!bottom )(?<!top )"
    r"right(?!-|\s(?:side|hand|of|corner|edge|half|part|end)\b))\b",
    re.IGNORECASE,
)
_NEUTRAL = re.compile(
    r"\b(?:whether|how|(?:each|either|both|any|no)(?:\sof\sthe)?(?:\stwo)?\s(?:response|answer|assistant)s?"
    r"|(?:not|never|avoid|without)\s{1,3}(?:be\s|being\s)?(?:prefer|favou?r|penali|assum|reward|choos|pick|bias)\w{0,6}"
    r"|n't\s{1,3}(?:prefer|favou?r|penali|assum|reward|choos|pick|bias)\w{0,6})\b",
    re.IGNORECASE,
)
_COMPARES = re.compile(
    r"\b(?:(?:better|worse|stronger|weaker|more\s\w{1,20}|less\s\w{1,20}|\w{2,12}er)\s{1,3}than|superior\s{1,3}to"
    r"|inferior\s{1,3}to|prefer(?:red)?\s.{0,30}?(?:to|over)|preferable\s{1,3}to|beats|outperforms|over\s{1,3}response"
    r"|[12][*_)]{0,3}\s{0,3}[<>≻≺]{1,2}\s{0,3}[*_(]{0,3}(?:response\s?)?[12]"
    r"|,\s(?:and\s)?response\s[12]\s(?:is|does|was|has|did)(?:\snot|n't))\b",
    re.IGNORECASE,
)
_ASKS = re.compile(r"\b(?:whether|how)\b", re.IGNORECASE)
_CONTRAST = re.compile(r"\b(?:while|whereas|but|unlike|however|although|though|yet|in\scontrast)\b", re.IGNORECASE)
_SENTENCE = re.compile(r"[!?;\n。]|\.(?!\d)")
_CHOICE = r"(?:(?:the\s)?(?:response|answer)\s{0,3}#?)?[\[(*]{0,3}(?:[12]|(?-i:[AB]))\b(?!\s?%|[.,]?\d|\s[a-z])"
_DECLARES = re.compile(
    rf"\b(?:verdict|winner|preference|better\s(?:one|response|answer)|best\s(?:one|response|answer)"
    rf"|preferred\s(?:one|response|answer))\s{{0,3}}(?:is|:|=|should\sbe|must\sbe)\s{{0,3}}{_CHOICE}"
    rf"|\b(?:prefer|choose|pick|select|favou?r|vote\sfor|go\swith)\s{{1,3}}{_CHOICE}"
    rf"|(?:^|[^\w\s.,][\s*]{{0,3}}|\b(?:so|that|thus|hence|because|and|means|therefore)\s)[12]\s{{1,3}}(?:is\s(?:the\s)?(?:better|best|preferred|superior|winner)|wins)\b"
    rf"|\b(?:first|second|former|latter)(?:\sone)?\s(?:is\s(?:the\s)?(?:better|best|preferred|superior|winner)|wins)\b"
    rf"|^\W{{0,4}}(?:answer|verdict|winner|label|choice)\W{{1,4}}[12]\W{{0,4}}$"
    rf"|answer>\s{{0,3}}[12]|\[\[\s?[12AB]\s?\]\]",
    re.IGNORECASE,
)
_REFERS_BACK = re.compile(
    r"\b(?:it|this|that|this\sone|that\sone)\b.{0,40}\b(?:better|best|preferred|wins|winner|superior)\b", re.IGNORECASE
)
_LONE_DIGIT = re.compile(r"\n[\s*#>(\[]{0,4}[12][\s*)\]]{0,4}(?:\n|$)")
# A sentence that names a side matches one of these; most rubrics match none, which is fast to check: each begins with
# literal characters. The letters before a number are the ends of the nouns and verbs above.
_NUMBER_OF_A_SIDE = (
    r"\b(?!\s?%|\.\d)(?:(?<=(?:se|es|nt|ts|er|te|ut|el|ly|ct|is|be|ce|ck|or|th|ur|no|o\.|ne) .)|(?<=[a-z][_-].)"
    r"|(?<=[:=#>[].)|(?<=[:=#>[*] .)|(?<=[*(].)(?![.):*])|(?<=e\s\(.)|(?<=e\(.)|(?<=[a-z]\s.)(?![.):]|\s?[a-z])"
    r"|(?=\s(?:is|wins)\b)|(?=[\s*)\]]{0,4}(?:\n|$)))"
)
_SIDE_NOUN = r"\s{1,3}(?:response|answer|assistant|candidate|reply|output|description|caption|one|is|wins)"
_SIGNS_LOWER = [(d, re.compile(d + _NUMBER_OF_A_SIDE)) for d in "12"]
_SIGNS_LOWER += [(word, re.compile(word + _SIDE_NOUN)) for word in ("first", "second", "former", "latter")]
_SIGNS_LOWER += [(words, re.compile(re.escape(words))) for words in ("response one", "response two")]
_SIGNS = [
    (x, re.compile(x + r"\b(?:(?<=(?:se|SE|nt|NT|er|ck|ct|is|IS|or) .)|(?<=: .)(?!\s[a-z])|(?<=\[.))")) for x in "AB"
]
_INVISIBLE = dict.fromkeys([0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF])


def names_winner(rubric: str) -> bool:
    """Whether the rubric says which response is better: then the proxy would only repeat it.

    The rules, by sentence (split at . ! ? ; and line ends), with *side* for "Response 1", "the second answer" etc.:

    1. a verdict is declared: "verdict: 2", "the better response is 1", "prefer 2", "1 is better", "[[A]]", or a line
       that is the digit alone;
    2. a sentence mentions one side only and has a judging word (better, correctly, wrong, misses, matches, prefer ...);
    3. a sentence mentions both and ranks them ("better than", "prefer ... over", ">"), or has a contrast word (while,
       whereas, but ...) that separates a judgement of one side from the rest;
    4. "it is the better one" right after a sentence that mentions one side only.

    Sentences that treat both sides alike pass ("Response 1 and Response 2 must both ..."), as do neutral mentions
    ("check whether Response 1 ...", "do not favour Response 1 for its length") and sides without a judgement.
    Compatibility forms (full-width) are folded and invisible characters removed first.

    This is a heuristic for English: a rubric may state facts that only one response has, and a rubric that hints in
    other words passes. Linear in the length of the rubric.
    """
    rubric = _plain(rubric)
    if not _may_name(rubric):
        return False
    if _LONE_DIGIT.search(f"\n{rubric}"):
        return True
    sides: set[int] = set()  # that the last sentence mentions
    for sentence in _SENTENCE.split(rubric):
        if _may_name(sentence):
            if _DECLARES.search(sentence):
                return True
            sides = _sides(sentence)
            if len(sides) == 1 and _judges(sentence):
                return True
            if len(sides) == 2 and _ranks(sentence):
                return True
        elif sentence.strip():
            if len(sides) == 1 and _REFERS_BACK.search(sentence):
                return True
            sides = set()
    return False


def _plain(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_INVISIBLE)


def _may_name(text: str) -> bool:
    """A fast check that is true for every text the patterns above match."""
    lower = text.lower()
    for sign, pattern in _SIGNS_LOWER:
        if sign in lower and pattern.search(lower):
            return True
    return any(sign in text and pattern.search(text) for sign, pattern in _SIGNS)


def _sides(text: str) -> set[int]:
    return {1 if word.lower() in _SIDE else 2 for match in _MENTION.finditer(text) for word in match.groups() if word}


def _judges(text: str) -> bool:
    return _JUDGES.search(text) is not None and not _NEUTRAL.search(text)


def _ranks(text: str) -> bool:
    """Whether a sentence about both sides prefers one, or judges one of them alone."""
    if _COMPARES.search(text) and not _ASKS.search(text):
        return True
    clauses = _CONTRAST.split(text)
    return len(clauses) > 1 and any(len(_sides(clause)) == 1 and _judges(clause) for clause in clauses)
