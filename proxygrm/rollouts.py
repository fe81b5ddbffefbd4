"""Rows of rollouts in, the same rows with their reward out; and what a table of many of them says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from proxygrm import upstream
from proxygrm.critique import parse
from proxygrm.reward import UNSCORED, RewardParts, as_label, as_proxy_reward, rubric_to_judge, score
from proxygrm.rubric import names_winner

ADDED = ("accuracy", "format", "rubric", "score", "reason")


class BadRow(ValueError):
    """A row that has no reward because it is not a rollout; the message says which field is wrong."""


@dataclass(frozen=True)
class ScoreOptions:
    aggregation: str = "sum"
    use_proxy: bool = True
    """Off: score = accuracy + 0.5 x format, and `proxy_reward` is not looked at."""
    deny_leaks: bool = False
    """A rubric that names the winner is not sent and earns nothing from the proxy: the table's "failed" column."""
    as_upstream: bool = False
    """Upstream's parsing and score, see `upstream`."""


@dataclass(frozen=True, slots=True)
class Scored:
    row: dict[str, Any]
    parts: RewardParts
    rubric: str | None
    leaks: bool


def scored(row: Mapping[str, Any], options: ScoreOptions) -> Scored:
    """The row with `accuracy` (1 | -1), `format` (1 | 0), `rubric` (what the proxy may see, or None) and `score`.

    `reason` is added when the rollout is not to the contract, has nothing to judge or was not judged; the first such
    word. `score` is None (and `reason` "unscored") when the proxy owed an opinion and gave none: a lost reward is no
    zero. As upstream, such a row takes the table's "failed" column instead, with `reason` "proxy_failed".

    Raises BadRow.
    """
    response, label, opinion = _read(row, options.use_proxy)
    if options.as_upstream:
        rubric: str | None = upstream.rubric_for_proxy(response)
        leaks = names_winner(rubric or "")
        parts = upstream.score(response, label, opinion, options.aggregation, options.use_proxy)
    else:
        critique = parse(response)
        rubric, leaks = rubric_to_judge(critique, options.deny_leaks), critique.names_winner
        parts = score(critique, label, opinion, options.aggregation, options.use_proxy, options.deny_leaks)
    added = {
        "accuracy": parts.accuracy,
        "format": parts.format,
        "rubric": rubric,
        "score": None if parts.unscored else parts.score,
    }
    out = {key: value for key, value in row.items() if key not in ADDED} | added
    if parts.problem:
        out["reason"] = parts.problem
    return Scored(out, parts, rubric, leaks)


def _read(row: Mapping[str, Any], use_proxy: bool) -> tuple[str, int, float | None]:
    if not isinstance(row, Mapping):
        raise BadRow("the line is no JSON object")
    response = row.get("response")
    if not isinstance(response, str):
        raise BadRow(f"response is {_brief(response)}, it must be text")
    missing = "ground_truth" if "ground_truth" not in row else ""
    if use_proxy and "proxy_reward" not in row:
        missing = missing or "proxy_reward"
    if missing:
        hint = "; null means unscored, and --no-proxy scores without" if missing == "proxy_reward" else ""
        raise BadRow(f"{missing} is missing{hint}")
    try:
        return response, as_label(row["ground_truth"]), as_proxy_reward(row["proxy_reward"]) if use_proxy else None
    except ValueError as error:
        raise BadRow(str(error)[:200]) from None


def _brief(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]


@dataclass
class Tally:
    """Sums over scored rows."""

    rows: int = 0
    right: int = 0
    in_form: int = 0
    agrees: int = 0
    judged: int = 0
    leaks: int = 0
    score_sum: float = 0.0
    unscored: Counter[str] = field(default_factory=Counter)  # cause -> rows
    out_of_form: Counter[str] = field(default_factory=Counter)  # reason -> rows
    nothing_to_judge: int = 0

    def add(self, found: Scored, cause: object = None) -> None:
        """`cause`: why there is no proxy reward, where the row says so."""
        parts = found.parts
        self.rows += 1
        self.right += parts.accuracy > 0
        self.in_form += parts.format > 0
        self.leaks += found.leaks
        self.nothing_to_judge += found.rubric is None
        if parts.proxy is not None:
            self.judged += 1
            self.agrees += parts.proxy > 0
        if parts.unscored or parts.problem == upstream.PROXY_FAILED:
            self.unscored[cause if isinstance(cause, str) and cause else "no cause given"] += 1
        if not parts.unscored:
            self.score_sum += parts.score
        if not parts.format and parts.problem and parts.problem not in (UNSCORED, upstream.PROXY_FAILED):
            self.out_of_form[parts.problem] += 1

    @property
    def lost(self) -> int:
        return sum(self.unscored.values())
