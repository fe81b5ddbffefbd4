"""Text of the demo task, for the tiny tokenizer: everything that the demo's models read or write."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from proxygrm.critique.contract import parse
from proxygrm.critique.prompts import grm_prompt, proxy_prompt, r1_prompt
from proxygrm.critique.targets import proxy_answer
from proxygrm.demo.scenes import KINDS, combinations
from proxygrm.demo.writer import STYLES, write_critique, write_judgement


def demo_corpus(seed: int = 0, n: int = 2000, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[str]:
    """`n` times four texts: GRM instruction, critique, proxy instruction, proxy answer of one random demo pair.

    Kinds, combinations, label and style are drawn uniformly, so rare kinds are as frequent as common ones. Instructions
    have no `<image>` tag. `kinds`: of questions; a tiny model learns faster without the words of others. Deterministic.
    """
    rng = random.Random(f"corpus {seed}")
    by_kind = {kind: combinations(kind) for kind in kinds}
    for _ in range(n):
        pair = rng.choice(by_kind[rng.choice(kinds)])
        facts = [pair.right, pair.wrong]
        rng.shuffle(facts)
        first, second = (pair.response(fact) for fact in facts)
        text = write_critique(pair.question, first, second, rng.choice(facts), rng.randrange(STYLES))
        critique = parse(text)
        if critique.shown is None:
            raise AssertionError(f"the demo's own critique has no rubric: {text}")
        yield grm_prompt(pair.question, first, second, images=0)
        yield text
        yield proxy_prompt(pair.question, first, second, critique.shown, images=0)
        yield proxy_answer(critique)


def judgement_corpus(seed: int = 0, n: int = 2000, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[str]:
    """The same for models that judge by R1-Reward's contract: `n` times two texts, instruction and judgement."""
    rng = random.Random(f"corpus {seed}")
    by_kind = {kind: combinations(kind) for kind in kinds}
    for _ in range(n):
        pair = rng.choice(by_kind[rng.choice(kinds)])
        facts = [pair.right, pair.wrong]
        rng.shuffle(facts)
        first, second = (pair.response(fact) for fact in facts)
        yield r1_prompt(pair.question, first, second, images=0)
        yield write_judgement(pair.question, first, second, rng.choice(facts))
