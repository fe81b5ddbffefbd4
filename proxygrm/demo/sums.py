"""The demo's task in steps: what an image shows, then what follows from it.

An image has one to four equal shapes. "How many shapes are there when 5 more are drawn?" is answered in two steps, of
which the first reads the image ("The number is 3.") and the second calculates ("3 + 5 = 8."). A solution is wrong by
perception (it overlooks shapes, and the sum follows) or by reasoning (one too many). Errors lean to a side, as those
of models do: were all wrong numbers equally likely, no single number would say anything about a step, and a tiny model
would not begin to learn. Numbers are digits, so that step, description and question share their tokens.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from typing import Literal

from proxygrm.demo.image_reader import ImageFacts
from proxygrm.demo.scenes import COUNTS, SHAPES, Combination, draw

MORE = (5, 6)
"""How many shapes a question adds: no number that an image can show, so that each number has one meaning."""
NUMBERS = tuple(range(1, len(COUNTS) + 1))
_QUESTION = re.compile(r"How many shapes are there when (\d) more are drawn\?")
_NUMBER = re.compile(r"\bnumber (?:of shapes )?is (\d+)")

Error = Literal["", "perception", "reasoning"]
"""What is wrong in a solution; "" for nothing."""


@dataclass(frozen=True)
class Solution:
    read: int
    """The number that it reads from the image."""
    more: int
    answer: int
    error: Error = ""

    @property
    def steps(self) -> tuple[tuple[str, str | None], ...]:
        """(text, the visual fact that it leans on)."""
        claim = f"number is {self.read}"
        return (f"The {claim}.", f"the {claim}"), (f"{self.read} + {self.more} = {self.answer}.", None)

    @property
    def labels(self) -> tuple[int, int]:
        """1 or -1 of each step, by itself: a sum of a number that was misread is right."""
        return -1 if self.error == "perception" else 1, -1 if self.error == "reasoning" else 1


def question(more: int) -> str:
    return f"How many shapes are there when {more} more are drawn?"


def read_sum_question(text: str) -> int | None:
    """How many shapes it adds; None for any other question."""
    match = _QUESTION.fullmatch(text.strip())
    return int(match[1]) if match else None


def solution(number: int, more: int, error: Error, chance: random.Random) -> Solution:
    """A solution of an image with so many shapes."""
    if error == "perception":
        read = chance.randrange(1, number) if number > 1 else 2
        return Solution(read, more, read + more, error)
    right = number + more
    if error == "reasoning":
        return Solution(number, more, right + 1, error)
    return Solution(number, more, right)


def drawn_error(chance: random.Random, perception: float, reasoning: float) -> Error:
    """The error of a solution, by the shares of both kinds."""
    value = chance.random()
    return "perception" if value < perception else "reasoning" if value < perception + reasoning else ""


def draw_number(number: int, chance: random.Random) -> bytes:
    """A PNG with so many equal shapes."""
    right, wrong = COUNTS[number - 1], COUNTS[number % len(COUNTS)]
    return draw(Combination("count", chance.choice(SHAPES), right, wrong), chance)


def describe_number(seen: ImageFacts) -> str:
    """What an image shows, for one who has to answer the question about it."""
    number = COUNTS.index(seen.count) + 1
    return f"The number of shapes is {number}. Each is a {seen.colours[0]} {seen.shape}."


def described_number(description: str) -> int | None:
    """The number of shapes that a description names."""
    match = _NUMBER.search(description)
    return int(match[1]) if match else None


def contradicts(description: str, claim: str) -> bool:
    """Whether both name a number of shapes, and not the same."""
    seen, claimed = described_number(description), described_number(claim)
    return seen is not None and claimed is not None and seen != claimed
