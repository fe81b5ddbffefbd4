"""Reward arithmetic alone, on one core: read the critique, find the rubric to judge, look for leaks, score.

    python benchmarks/reward_arithmetic.py --rollouts 20000

No proxy and no disk: every rollout's proxy reward is there already. Beside ours stands a plain version of upstream's
reading as it is described (regular expressions over the whole text), and our linear `--compat upstream`. All run over
the same generated critiques, interleaved, five times; the best round counts, in CPU seconds of this process.

The critiques: *long* are 3 to 4 kB with five weighted criteria, *short* 0.2 to 0.3 kB. One in ten departs from the
contract in some way; of the long rubrics one in ten counts something ("2 boats") or says "first", which makes the
search for leaks look closer, and one in thirty names the winner.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from proxygrm.critique.contract import parse
from proxygrm.rewards import upstream
from proxygrm.rewards.proxy_agreement import AGGREGATIONS, rubric_to_judge, score

Rollout = tuple[str, int, float | None]
ROUNDS = 5
_NAMES = ["Accuracy of the main objects", "Attributes and positions", "Absence of hallucination", "Relevance to the "
          "question", "Clarity and order", "Text in the image", "Completeness", "Reasoning"]  # fmt: skip
_CRITERIA = [
    "A good response must identify the red bicycle leaning on the wall and the people near the harbour.",
    "Naming a motorcycle or a scooter instead is a factual error and costs most of the points.",
    "Colours, materials and positions must agree with the image; the umbrella is blue, not green.",
    "No objects, people or words may be added that are not visible, such as dogs, cars or signs.",
    "The response should answer what was asked and add only details that help the reader.",
    "Short sentences, no repetition and a natural order of description are expected.",
    "Uncertainty about small or hidden things is stated as such, and never as a fact.",
]
_CLOSER = ["It must say that there are 2 boats on the left.", "First the subject, then the background, is described."]
_LEAK = "Response 1 correctly names the bicycle, so it should be preferred."
_JUDGED = [
    'Response 1 says "a red bicycle leans against the wall", which the image shows.',
    'Response 2 says "a motorcycle is parked by the wall", which is wrong, although it reads fluently.',
    "On attributes, Response 1 calls the umbrella blue, as it is, and Response 2 leaves it out.",
    "Neither response adds people that are not there; both mention the evening light.",
    "Response 2 answers the question in its opening words, while Response 1 begins with the harbour.",
    "Weighed by the criteria, the difference in accuracy counts for more than the one in style.",
]
_WEIGHTS = [(35, 25, 20, 12, 8), (30, 30, 20, 10, 10), (40, 20, 20, 15, 5), (25, 25, 20, 20, 10)]
_SPOIL: list[Callable[[str], str]] = [
    lambda text: text.replace("</rubric>", ""),
    lambda text: "Here is my critique:\n" + text,
    lambda text: text.replace("</answer>", ""),
    lambda text: re.sub("<answer>.", "<answer>Response 1", text),
    lambda text: text[: len(text) * 3 // 4],
    lambda text: re.sub("<justify>.*</justify>", "", text, flags=re.DOTALL),
]


def long_critique(chance: random.Random) -> str:
    items = []
    for number, weight in enumerate(chance.choice(_WEIGHTS), 1):
        name, said = chance.choice(_NAMES), chance.sample(_CRITERIA, 2)
        items.append(f"{number}. **{name} ({weight}%)**: {' '.join(said)}")
    roll = chance.random()
    if roll < 1 / 10:
        items[1] += " " + chance.choice(_CLOSER)
    elif roll < 1 / 10 + 1 / 30:
        items[0] += " " + _LEAK
    why = " ".join(chance.choices(_CRITERIA, k=5))
    judged = " ".join(chance.choices(_JUDGED, k=chance.randint(14, 19)))
    return _put_together("\n".join(items), why, judged, chance)


def short_critique(chance: random.Random) -> str:
    colour = chance.choice(["red", "blue", "green"])
    rubric = f"1. Names the colour {colour} (80%)\n2. Adds nothing else (20%)"
    judged = f"The image shows {colour}. Response 1 says red: right. Response 2 says blue: wrong."
    return _put_together(rubric, "The colour is asked for.", judged, chance)


def _put_together(rubric: str, why: str, judged: str, chance: random.Random) -> str:
    text = (
        f"<rubric>\n{rubric}\n<justify>{why}</justify>\n</rubric>\n<eval>\n{judged}\n</eval>\n"
        f"<answer>{chance.randint(1, 2)}</answer>"
    )
    return chance.choice(_SPOIL)(text) if chance.random() < 0.1 else text


def ours(rollout: Rollout) -> float:
    text, label, proxy = rollout
    critique = parse(text)
    rubric_to_judge(critique)
    return score(critique, label, proxy).score


def ours_as_upstream(rollout: Rollout) -> float:
    text, label, proxy = rollout
    upstream.rubric_for_proxy(text)
    return upstream.score(text, label, proxy).score


_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LAYOUTS = [
    (re.compile("".join(f"<{part}>.*?</{part}>" for part in parts)), parts)
    for parts in (("rubric", "eval", "answer"), ("think", "summary", "answer"))
]


def plain_upstream(rollout: Rollout) -> float:
    """Upstream's parsing, written down straight from its description."""
    text, label, proxy = rollout
    found = _ANSWER.search(text)
    kept = re.sub(r"[^A-Za-z0-9]", "", found.group(1) if found else text)
    right = str(label) in kept and str(3 - label) not in kept
    flat = text.replace("\n", "")
    in_form = any(
        pattern.fullmatch(flat) and all(flat.count(f"<{part}>") == 1 for part in parts) for pattern, parts in _LAYOUTS
    )
    text.split("</rubric>")[0].split("<justify>")[0] + "</rubric>"
    return AGGREGATIONS["sum"].value(right, None if proxy is None else proxy > 0) + 0.5 * in_form


READERS: dict[str, Callable[[Rollout], float]] = {
    "proxygrm.rewards.proxy_agreement": ours,
    "proxygrm.rewards.proxy_agreement, --compat upstream": ours_as_upstream,
    "upstream's parsing, plainly": plain_upstream,
}


def rates(rollouts: list[Rollout]) -> dict[str, float]:
    """Rollouts per CPU second of each reader: the best of the rounds."""
    best = dict.fromkeys(READERS, float("inf"))
    for _ in range(ROUNDS):
        for name, reader in READERS.items():
            began = time.process_time()
            for rollout in rollouts:
                reader(rollout)
            best[name] = min(best[name], time.process_time() - began)
    return {name: len(rollouts) / seconds for name, seconds in best.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=20_000)
    given = parser.parse_args()
    print("| critiques | mean bytes | reader | rollouts per CPU second | ratio |\n|---|---|---|---|---|")
    for kind, write in (("long", long_critique), ("short", short_critique)):
        chance = random.Random(0)
        rollouts: list[Rollout] = [
            (write(chance), chance.randint(1, 2), chance.choice([1.0, -1.0])) for _ in range(given.rollouts)
        ]
        if any(ours_as_upstream(rollout) != plain_upstream(rollout) for rollout in rollouts):
            raise SystemExit("--compat upstream and the plain version disagree")
        size = sum(len(text) for text, _, _ in rollouts) / len(rollouts)
        found = rates(rollouts)
        for name, rate in found.items():
            ratio = rate / found["upstream's parsing, plainly"]
            print(f"| {kind} | {size:,.0f} | {name} | {rate:,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
