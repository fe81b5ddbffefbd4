"""Text of the demo task, for the tiny tokenizer: everything the demo's models will ever read or write."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from proxygrm.critique.contract import parse, rubric_for_proxy
from proxygrm.critique.prompts import grm_prompt, proxy_prompt
from proxygrm.critique.targets import proxy_answer
from proxygrm.demo.scenes import KINDS, combinations
from proxygrm.demo.writer import STYLES, write_critique


def demo_corpus(seed: int = 0, n: int = 2000, kinds: Sequence[str] = tuple(KINDS)) -> Iterator[str]:
    """`n` times four texts: GRM instruction, critique, proxy instruction, proxy answer of one random demo pair.

    Kinds, combinations, label and style are drawn evenly, so rare kinds are as frequent as common ones. Instructions
    carry no `<image>` tag. `kinds`: of questions; the words of others cost a tiny model's time. Deterministic.
    """
    rng = random.Random(f"corpus {seed}")
    every = {kind: combinations(kind) for kind in kinds}
    for _ in range(n):
        pair = rng.choice(every[rng.choice(kinds)])
        facts = [pair.right, pair.wrong]
        rng.shuffle(facts)
        first, second = (pair.response(fact) for fact in facts)
        critique = write_critique(pair.question, first, second, rng.choice(facts), rng.randrange(STYLES))
        rubric = rubric_for_proxy(critique)
        if rubric is None:
            raise AssertionError(f"the demo's own critique has no rubric: {critique}")
        yield grm_prompt(pair.question, first, second, images=0)
        yield critique
        yield proxy_prompt(pair.question, first, second, rubric, images=0)
        yield proxy_answer(parse(critique))
