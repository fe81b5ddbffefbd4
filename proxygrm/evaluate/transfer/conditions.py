"""Rubric transfer: what an unseen judge sees, with and without rubrics. Pure.

An ordered pair is a pair in one of its two orders, as a reward model saw it when it wrote its critique. The unseen
judge judges each under up to four conditions, by the proxy's instruction, so it never sees more of a critique than its
closed rubric:

    none    without a rubric
    own     the rubric that the reward model wrote for this ordered pair
    other   a rubric that it wrote for another pair: of the same category where there is one, in the same order
    base    the rubric that the model before training wrote for this ordered pair

Gains count only ordered pairs that could be judged under both conditions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from proxygrm.evaluate.judges.by_rubric import PairWithRubric, with_rubric
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.transfer.controls import other_pairs
from proxygrm.evaluate.transfer.rubrics import Rubric, Rubrics

NONE, OWN, OTHER, BASE = CONDITIONS = ("none", "own", "other", "base")
NO_RUBRIC, LEAK, NO_OTHER = NOT_SENT = ("no_rubric", "leak", "no_other_pair")


@dataclass(frozen=True)
class Condition:
    """requests: one per ordered pair, None where nothing is requested; not_sent: the reasons, counted."""

    requests: tuple[PairWithRubric | None, ...]
    not_sent: Mapping[str, int]
    same_as_own: int = 0
    """Of `other`: rubrics of another pair with exactly the text of this pair's own."""


def conditions(
    ordered: Sequence[OrderedPair], source: Rubrics, base: Rubrics | None, seed: int = 0, allow_leaks: bool = False
) -> dict[str, Condition]:
    """What is requested for each of `ordered` under each condition; `base` None leaves that condition out."""
    own = [source.rubrics[pair.key] for pair in ordered]
    texts = [rubric.sendable(allow_leaks) for rubric in own]
    donors = other_pairs(ordered, [text is not None for text in texts], seed)
    by_name = {
        NONE: Condition(tuple(with_rubric(pair, None) for pair in ordered), {}),
        OWN: _with_own(ordered, own, allow_leaks),
        # Where the own rubric cannot be sent there is nothing to compare with, so another one is not requested either.
        OTHER: Condition(
            tuple(
                None if donor is None else with_rubric(pair, texts[donor])
                for pair, donor in zip(ordered, donors, strict=True)
            ),
            Counter(
                _why_not(rubric) if text is None else NO_OTHER
                for rubric, text, donor in zip(own, texts, donors, strict=True)
                if donor is None
            ),
            same_as_own=sum(
                donor is not None and texts[donor] == text for text, donor in zip(texts, donors, strict=True)
            ),
        ),
    }
    if base:
        by_name[BASE] = _with_own(ordered, [base.rubrics[pair.key] for pair in ordered], allow_leaks)
    return by_name


def _with_own(ordered: Sequence[OrderedPair], rubrics: Sequence[Rubric], allow_leaks: bool) -> Condition:
    texts = [rubric.sendable(allow_leaks) for rubric in rubrics]
    return Condition(
        tuple(with_rubric(pair, text) if text is not None else None for pair, text in zip(ordered, texts, strict=True)),
        Counter(_why_not(rubric) for rubric, text in zip(rubrics, texts, strict=True) if text is None),
    )


def _why_not(rubric: Rubric) -> str:
    return NO_RUBRIC if rubric.text is None else LEAK
