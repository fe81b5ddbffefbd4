"""Upstream's parsing and score, for comparison (`--compat upstream`). Its looseness is kept on purpose.

Known to be wrong, and the reason why nothing else uses it: "10" counts as verdict 1; without an answer tag any digit in
the text decides; a rollout without `</rubric>` sends its evaluation and verdict to the proxy; a proxy that failed
looks the same as one that had nothing to judge.

Where the description of upstream leaves a case open, this is what is done here:
- an `<answer>` that is not closed has no body and is no tag, so the whole text counts; bodies may span lines;
- only the line feed is a newline to remove; a carriage return stays and stands between the parts;
- "each opening tag once" is about the three tags of the layout at hand; closing tags and other tags may repeat inside;
- the rubric keeps its white space, and what stands before `<rubric>`; without any tag it is the whole text.
"""

from __future__ import annotations

from proxygrm.core.labels import Label, as_label
from proxygrm.rewards.proxy_agreement import FORMAT_WEIGHT, RewardParts, aggregate, as_proxy_reward

OUT_OF_FORM = "not_upstream_format"
PROXY_FAILED = "proxy_failed"
_LAYOUTS = (("rubric", "eval", "answer"), ("think", "summary", "answer"))


def accuracy(response: str, label: Label) -> float:
    """+1.0 when the first answer's body (without one: the whole text) has the label's digit and not the other.

    Upstream first keeps letters and digits only, which changes nothing about which of the two digits occur.
    """
    start = response.find("<answer>")
    end = response.find("</answer>", start) if start >= 0 else -1
    body = response[start + len("<answer>") : end] if end >= 0 else response
    return 1.0 if str(label) in body and str(3 - label) not in body else -1.0


def well_formed(response: str) -> bool:
    """Is the response, newlines removed, one of the two layouts from first to last character?"""
    text = response.replace("\n", "")
    return any(_in_layout(text, *layout) for layout in _LAYOUTS)


def _in_layout(text: str, first: str, second: str, third: str) -> bool:
    """As the pattern `<a>.*?</a><b>.*?</b><c>.*?</c>` over the whole text, but linear."""
    if not (text.startswith(f"<{first}>") and text.endswith(f"</{third}>")):
        return False
    if any(text.count(f"<{part}>") != 1 for part in (first, second, third)):
        return False
    # Each seam holds an opening tag, so it can stand in one place only.
    one, two = f"</{first}><{second}>", f"</{second}><{third}>"
    at_one, at_two = text.find(one), text.find(two)
    last = len(text) - len(f"</{third}>")
    return at_one >= len(f"<{first}>") and at_two >= at_one + len(one) and last >= at_two + len(two)


def rubric_for_proxy(response: str) -> str:
    """All text before the first `</rubric>`, cut at `<justify>`, closed. A leak when there is none."""
    return response.partition("</rubric>")[0].partition("<justify>")[0] + "</rubric>"


def score(
    response: str,
    ground_truth: str | int,
    proxy_reward: float | None,
    aggregation: str | int = "sum",
    use_proxy: bool = True,
) -> RewardParts:
    """Upstream's reward of one rollout; arguments and errors as in `reward.score`.

    There, a proxy that failed (None here, 0.0 there) takes the table's "failed" column and is a reward like any other:
    `unscored` is never set, and `problem` says "proxy_failed".
    """
    right = accuracy(response, as_label(ground_truth)) > 0
    opinion = as_proxy_reward(proxy_reward) if use_proxy else None
    in_form = well_formed(response)
    sign, form = (1.0 if right else -1.0), (1.0 if in_form else 0.0)
    value = aggregate(aggregation, right, opinion) if use_proxy else sign
    problem = PROXY_FAILED if use_proxy and opinion is None else None if in_form else OUT_OF_FORM
    return RewardParts(sign, form, opinion, value + FORMAT_WEIGHT * form, False, problem)
