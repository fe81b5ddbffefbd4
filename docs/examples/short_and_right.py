"""A reward of one's own: a point for the right answer, and less for every word more than needed.

proxygrm plan --set grm_rl.reward=function --set grm_rl.reward.file=docs/examples/short_and_right.py
"""

import re

WORDS = 80
"""Words that cost nothing."""


def score(rollout):
    """The reward of one rollout, and two numbers to watch."""
    found = re.findall(r"<answer>\s*(\S+?)\s*</answer>", rollout.text)
    right = bool(found) and found[-1] == str(rollout.label)
    too_many = max(0, len(rollout.text.split()) - WORDS)
    return {"score": right - 0.01 * too_many, "right": right, "too_many_words": too_many}
