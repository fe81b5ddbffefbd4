"""Multiple choice: letters, in the ways that people and models write them, and the options of a question."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_LABELLED = re.compile(
    r"(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)?\s*:?\s*\(?\s*(?P<letter>[A-Za-z])\s*"
    r"(?:\)\s*[.:]?|[.:、)]|$)\s*(?P<text>.*)",
    re.IGNORECASE | re.DOTALL,
)
_LETTERS = re.compile(r"\(?[A-Z]\)?(?:\s*(?:,|;|&|\band\b|\s)\s*\(?[A-Z]\)?)+")
_LABEL = re.compile(r"(?<![A-Za-z0-9])\(?(?P<letter>[A-J])\s*[).:．、：]\s*")


def letter_in(text: str) -> tuple[str, str]:
    """(letter, text behind it) of "B", "(b)", "B.", "Option B", "B. 40"; ("", text) for anything else."""
    match = _LABELLED.fullmatch(text.strip())
    if not match:
        return "", text
    return match["letter"].upper(), match["text"].strip()


def letters_in(text: str) -> frozenset[str]:
    """Of "A, C", "A and C", "(A)(C)"; empty for fewer than two letters."""
    if not _LETTERS.fullmatch(text.strip()):
        return frozenset()
    return frozenset(re.findall(r"\b[A-Z]\b", text))


def option(choices: Sequence[str], letter: str) -> str | None:
    index = ord(letter) - ord("A")
    return choices[index] if 0 <= index < len(choices) else None


def without_label(text: str) -> str:
    """ "B. 40" -> "40"."""
    letter, rest = letter_in(text)
    return rest if letter and rest else text


def choices_of(row: Mapping[str, Any]) -> list[Any]:
    """The options of a question's row: its `choices`, else those that its text lists."""
    given, question = row.get("choices"), row.get("question")
    return given if isinstance(given, list) else choices_in(question) if isinstance(question, str) else []


def choices_in(question: str) -> list[str]:
    """The options that a question's text lists: the last run of labels A, B, C, ...; [] where there are fewer than
    two, or labels alone, whose options are in the image.

    "Choices: (A) Yes (B) No", "A. 4; B. 3", one to a line, "A:40°".
    """
    runs: list[list[re.Match[str]]] = []
    for match in _LABEL.finditer(question[-20_000:]):
        if match["letter"] == "A":
            runs.append([match])
        elif runs and ord(match["letter"]) == ord("A") + len(runs[-1]):
            runs[-1].append(match)
    complete = [run for run in runs if len(run) >= 2]
    if not complete:
        return []
    run, text = complete[-1], question[-20_000:]
    ends = [match.start() for match in run[1:]] + [len(text)]
    options = [text[match.end() : end].strip().rstrip(";,").strip() for match, end in zip(run, ends, strict=True)]
    return options if any(options) else []
