"""Answer files for the tests of scoring."""

from __future__ import annotations

import json
import random

from proxygrm.evaluate.scores.score import read, score

VL_IDS = [
    *(f"hallucination_pair-{i}" for i in range(448)),
    *(f"RLAIF-V-{i}" for i in range(200)),
    *(f"RLHF-V-{i}" for i in range(101)),
    *(f"mathverse_{i}" for i in range(200)),
    *(f"mmmu_pro_test_Art_{i}" for i in range(118)),
    *(f"wildvision-battle-{i}" for i in range(150)),
    *(f"jailbreak-typo-{i}" for i in range(33)),
]
VL_IDS[300:325] = VL_IDS[:25]  # 1,250 rows of 1,225 ids, as in the release


def answer(id_: str, right: bool | None, reverse: bool = False, **more) -> dict:
    """right None: a generative judge without a verdict, as upstream writes it."""
    rewards = [0, 0] if right is None else [1, 0] if right != reverse else [0, 1]
    critic = "no idea" if right is None else f"<answer>{1 if rewards[0] else 2}</answer>"
    return {"id": id_, "rewards": rewards, "reverse": reverse, "critic": critic} | more


def write(path, rows) -> list:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return [path]


def vl_rows(rng: random.Random) -> list[dict]:
    return [
        answer(
            id_, rng.choice([True, True, False, None]), rng.random() < 0.5, prompt=f"q{at}", chosen="a", rejected="b"
        )
        for at, id_ in enumerate(VL_IDS)
    ]


def scored(tmp_path, rows, bench="vl-rewardbench", partition="official", policy="wrong", votes=0, **options):
    return score(read(bench, write(tmp_path / "answers.jsonl", rows), **options), partition, policy, votes)


def own(id_, order, label, verdict, **more):
    return {"id": id_, "source": "vl_rewardbench", "order": order, "label": label, "verdict": verdict} | more
