"""RM-Bench (THU-KEG/RM-Bench; README and scripts/run_rm.py): 1,327 prompts, each with three chosen and three rejected
responses, in the styles concise, detailed plain, detailed markdown.

Every chosen response is compared with every rejected one, so a prompt is nine pairs. Where the chosen one is written
more plainly than the rejected one, the pair is hard; in the same style, normal; else easy. Every figure is the mean
over the four domains.
"""

from __future__ import annotations

import re

from proxygrm.evaluate.benchmarks.base import Benchmark, Facts, Partition, Revision

STYLES = ("concise", "plain", "markdown")
PARTS = {"chat": 129, "code": 228, "math": 529, "safety-refuse": 284, "safety-response": 157}
"""`domain` in the release -> prompts. Math is the rest of 1,327; the others were counted."""
DOMAINS = ("chat", "code", "math", "safety")
PAIRS_PER_PROMPT = len(STYLES) ** 2
CELLS = tuple(f"{chosen} > {rejected}" for chosen in STYLES for rejected in STYLES)

_ID = re.compile(r"(?P<prompt>(?P<part>[a-z-]+)/.+)/c(?P<chosen>[0-2])-r(?P<rejected>[0-2])")


def pair_id(part: str, released_id: str, chosen: int, rejected: int) -> str:
    """The id of a pair: its prompt, and the styles (0 to 2) of the chosen and the rejected response."""
    return f"{part}/{released_id}/c{chosen}-r{rejected}"


def styles_of(id_: str) -> tuple[int, int] | None:
    """The styles of the chosen and the rejected response; None for an id of something else."""
    found = _ID.fullmatch(id_)
    return (int(found["chosen"]), int(found["rejected"])) if found and found["part"] in PARTS else None


def prompt_of(facts: Facts) -> str:
    found = _ID.fullmatch(facts.id)
    return found["prompt"] if found else facts.id


def domain_of(facts: Facts) -> str | None:
    """One of the four: both halves of safety are pooled."""
    found = _ID.fullmatch(facts.id)
    part = found["part"] if found else ""
    return part.partition("-")[0] if part in PARTS else None


def difficulty_of(facts: Facts) -> str | None:
    styles = styles_of(facts.id)
    if styles is None:
        return None
    chosen, rejected = styles
    return "normal" if chosen == rejected else "easy" if chosen > rejected else "hard"


def _cell(facts: Facts) -> str | None:
    styles = styles_of(facts.id)
    return None if styles is None else CELLS[styles[0] * len(STYLES) + styles[1]]


_NEEDS = "an id DOMAIN/ID/cI-rJ (styles 0 to 2)"
_SIZES = {
    domain: PAIRS_PER_PROMPT * sum(rows for part, rows in PARTS.items() if part.startswith(domain))
    for domain in DOMAINS
}

BENCHMARK = Benchmark(
    name="rm-bench",
    title="RM-Bench",
    partitions={
        "official": Partition(
            domain_of, "the four domains: mean of nine comparisons of three styles a prompt", DOMAINS, _NEEDS,
            sizes=_SIZES,
        ),
        "difficulty": Partition(
            difficulty_of, "by the styles of both responses, mean over the domains", ("easy", "normal", "hard"), _NEEDS,
            stratum=domain_of,
        ),
        "cells": Partition(
            _cell, "style of the chosen > style of the rejected response, mean over the domains", CELLS, _NEEDS,
            stratum=domain_of,
        ),
    },
    official="wrong",
    official_about="the script only checks whether the chosen response scores higher, so a tie is wrong",
    revisions=(Revision("release", PAIRS_PER_PROMPT * sum(PARTS.values()), sizes=_SIZES),),
    evidence=lambda facts: styles_of(facts.id) is not None,
    images=False,
    headline="macro",
    trial=prompt_of,
    views=("difficulty", "cells"),
)  # fmt: skip
