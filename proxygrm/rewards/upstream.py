"""Upstream's parsing and score, for comparison (`--compat upstream`). It is as loose as upstream's, on purpose.

Known to be wrong, and the reason why nothing else uses it: "10" counts as verdict 1; without an answer tag any digit in
the text decides; a rollout without `</rubric>` sends its evaluation and verdict to the proxy; a proxy that failed
looks the same as one that had nothing to judge.

Where the description of upstream leaves a case open:
- an unclosed `<answer>` is not a tag, so the whole text counts; bodies may span lines;
- only line feeds are removed as newlines; a carriage return between the parts remains;
- "each opening tag once" is about the three tags of the layout in question; closing and other tags may repeat inside;
- the rubric keeps its white space and the text before `<rubric>`; without any tag it is the whole text.
"""

from __future__ import annotations

from proxygrm.core.labels import Label, as_label
from proxygrm.rewards.proxy_agreement import FORMAT_WEIGHT, RewardParts, aggregate, as_proxy_reward

MALFORMED = "not_upstream_format"
PROXY_FAILED = "proxy_failed"
_LAYOUTS = (("rubric", "eval", "answer"), ("think", "summary", "answer"))


def accuracy(response: str, label: Label) -> float:
    """+1.0 when the first answer's body (without one: the whole text) has the label's digit and not the other.

    Upstream first drops everything but letters and digits, which does not change which of the two digits occur.
    """
    start = response.find("<answer>")
    end = response.find("</answer>", start) if start >= 0 else -1
    body = response[start + len("<answer>") : end] if end >= 0 else response
    return 1.0 if str(label) in body and str(3 - label) not in body else -1.0


def well_formed(response: str) -> bool:
    """Whether the response, newlines removed, is one of the two layouts from first to last character."""
    text = response.replace("\n", "")
    return any(_in_layout(text, *layout) for layout in _LAYOUTS)


def _in_layout(text: str, first: str, second: str, third: str) -> bool:
    """Whether the pattern `<a>.*?</a><b>.*?</b><c>.*?</c>` matches the whole text, in linear time."""
    if not (text.startswith(f"<{first}>") and text.endswith(f"</{third}>")):
        return False
    if any(text.count(f"<{part}>") != 1 for part in (first, second, third)):
        return False
    # Each seam holds an opening tag, which occurs once, so the seam has one possible place.
    seam_1, seam_2 = f"</{first}><{second}>", f"</{second}><{third}>"
    at_1, at_2 = text.find(seam_1), text.find(seam_2)
    last = len(text) - len(f"</{third}>")
    return at_1 >= len(f"<{first}>") and at_2 >= at_1 + len(seam_1) and last >= at_2 + len(seam_2)


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
    """Upstream's reward of one rollout's text; other arguments and errors as in `proxy_agreement.score`.

    A proxy that failed (None here, 0.0 in upstream's code) takes the table's "failed" column like any other reward:
    `unscored` is never set, and `problem` is "proxy_failed".
    """
    right = accuracy(response, as_label(ground_truth)) > 0
    opinion = as_proxy_reward(proxy_reward) if use_proxy else None
    accuracy_, format_ = (1.0 if right else -1.0), (1.0 if well_formed(response) else 0.0)
    value = aggregate(aggregation, right, opinion) if use_proxy else accuracy_
    problem = PROXY_FAILED if use_proxy and opinion is None else None if format_ else MALFORMED
    return RewardParts(accuracy_, format_, opinion, value + FORMAT_WEIGHT * format_, False, problem)
