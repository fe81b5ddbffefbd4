"""Comparing final answers, on one core: pairs per second, and the slowest of hostile ones.

    python benchmarks/answer_matching.py --pairs 20000

The pairs are made of gold answers as the released benchmarks have them (letters, numbers, units, LaTeX, words) and of
what policies write for them. Ours and the released comparison (`--compat upstream`) run over the same pairs,
interleaved, three times; the best round counts, in CPU seconds of this process. Then each hostile expression alone,
of 300 characters (which are read as a number) and of 20,000: none may take a second.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from proxygrm.process.match.answers import answers_equal

ROUNDS = 3
LIMIT_S = 1.0
GOLDS = [
    "B", "A", "E", "2", "13", "640", "37.23", "Yes", "No", "equal to", "green", "120°", "2cm", "8.5", "2005", "-4.3",
    "Area $=9 \\pi \\mathrm{cm}^{2}$", "$-\\frac{20}{21}$", "288 \\mathrm{m}^2", "10 \\sqrt { 3 }", "(0,0)",
    "y=\\sqrt{49-x^2}", "$4-2 \\sqrt{3}$", "A, C", "0.75 x^2", "242110.62",
]  # fmt: skip
WRITTEN = ["{}", "\\boxed{{{}}}", "The answer is {}.", "({})", "${}$", "Option {}", "x = {}", "{} cm", "{}^\\circ"]
HOSTILE = [
    "9^{9^{9}}", "9^9^9^9", "(", "{", "\\frac{", "\\boxed{", "1+", "9", "9^{", "-", "\\sqrt[9]{", "A, ", "\\text{",
    "1 1/2 ",
]  # fmt: skip


def pairs(count: int) -> list[tuple[str, str]]:
    """In half of them both sides are the same answer, written in some way."""
    chance = random.Random(0)
    golds = chance.choices(GOLDS, k=count)
    return [
        (chance.choice(WRITTEN).format(gold if chance.random() < 0.5 else chance.choice(GOLDS)), gold) for gold in golds
    ]


def seconds(compared: list[tuple[str, str]], as_upstream: bool) -> tuple[float, int]:
    start = time.process_time()
    equal = sum(answers_equal(pred, gold, as_upstream=as_upstream) for pred, gold in compared)
    return time.process_time() - start, equal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000)
    compared = pairs(parser.parse_args().pairs)
    answers_equal("1", "2", as_upstream=True)  # imports sympy
    best: dict[bool, tuple[float, int]] = {}
    for _ in range(ROUNDS):
        for as_upstream in (False, True):
            best[as_upstream] = min(best.get(as_upstream, (float("inf"), 0)), seconds(compared, as_upstream))
    for as_upstream, name in ((False, "ours"), (True, "released")):
        taken, equal = best[as_upstream]
        print(f"{name:9} {len(compared) / taken:10,.0f} pairs/s   {equal / len(compared):6.1%} equal")
    slowest = 0.0
    for part in HOSTILE:
        for size in (300, 20_000):
            for as_upstream in (False, True):
                taken, _ = seconds([(part * (size // len(part)), "2")], as_upstream)
                slowest = max(slowest, taken)
                if taken > LIMIT_S:
                    sys.exit(f"{part!r} x {size // len(part)} takes {taken:.2f} s")
    print(f"slowest hostile expression: {slowest * 1000:.0f} ms")


if __name__ == "__main__":
    main()
