"""Scores rows of rollouts, and sums up many of them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from proxygrm.core.bad_row import BadRow
from proxygrm.core.labels import BadLabel, Label, label_in
from proxygrm.critique.contract import parse
from proxygrm.critique.rubric import names_winner
from proxygrm.rewards import upstream
from proxygrm.rewards.proxy_agreement import UNSCORED, RewardParts, as_proxy_reward, rubric_to_judge, score

ADDED_FIELDS = ("accuracy", "format", "rubric", "score", "reason")
RESPONSE_FIELDS = ("response", "critique", "solution_str", "output")
"""Fields that may hold the text of a rollout; the first one present counts."""
WITHOUT_PROXY = ("solution_str", "output")
"""Of these, the fields of files that have no place for the proxy's opinion."""


@dataclass(frozen=True)
class ScoreOptions:
    aggregation: str = "sum"
    use_proxy: bool = True
    """Off: score = accuracy + 0.5 x format, and `proxy_reward` is ignored."""
    deny_leaks: bool = False
    """A rubric that names the winner is not sent and earns nothing from the proxy: the table's "failed" column."""
    as_upstream: bool = False
    """Upstream's parsing and score, see `upstream`."""


@dataclass(frozen=True, slots=True)
class ScoredRow:
    row: dict[str, Any]
    parts: RewardParts
    rubric: str | None
    leaks: bool
    cause: str = ""


def score_row(row: Mapping[str, Any], options: ScoreOptions) -> ScoredRow:
    """The row with `accuracy` (1 | -1), `format` (1 | 0), `rubric` (what the proxy may see, or None) and `score`.

    `reason` is added when the rollout is malformed, has nothing to judge or was not judged; the first such word.
    `score` is None (and `reason` "unscored") when the proxy should have judged and gave no opinion: a lost reward is
    not a zero. With `as_upstream` such a row takes the table's "failed" column instead, with `reason` "proxy_failed".

    Raises BadRow.
    """
    response, label, opinion, cause = read_rollout(row, options.use_proxy)
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
    out = {key: value for key, value in row.items() if key not in ADDED_FIELDS} | added
    if parts.problem:
        out["reason"] = parts.problem
    return ScoredRow(out, parts, rubric, leaks, cause)


class Rollout(NamedTuple):
    response: str
    label: Label
    opinion: float | None
    cause: str


def read_rollout(row: Any, use_proxy: bool = True) -> Rollout:
    """Response, label and opinion of a row, whichever program wrote it (docs/rewards.md):

    response, ground_truth, proxy_reward, cause    the format of `reward score`
    critique, label, proxy, unscored, problem      RL's rollouts/step_*.jsonl
    output, gts                                    what verl writes into trainer.rollout_data_dir
    solution_str; answer                           upstream's argument, and R1-Reward's column of labels

    Only the last two kinds may lack the proxy's opinion: they have no field for it. cause: why there is none. Raises
    BadRow.
    """
    response = response_in(row)
    try:
        label = label_in(row)
    except BadLabel as error:
        raise BadRow(error.cause, str(error)[:200]) from None
    opinion, cause = _opinion(row, _response_field(row)) if use_proxy else (None, "")
    return Rollout(response, label, opinion, cause)


def response_in(row: Any) -> str:
    """The text of a row's rollout. Raises BadRow."""
    if not isinstance(row, Mapping):
        raise BadRow("not_an_object", "the line is not a JSON object")
    field = _response_field(row)
    response = row.get(field)
    if not isinstance(response, str):
        raise BadRow("no_response", f"{field} is {_brief(response)}, it must be text")
    return response


def _response_field(row: Mapping[str, Any]) -> str:
    return next((name for name in RESPONSE_FIELDS if name in row), RESPONSE_FIELDS[0])


def _opinion(row: Mapping[str, Any], response_field: str) -> tuple[float | None, str]:
    cause = row.get("cause") if isinstance(row.get("cause"), str) else ""
    try:
        if "proxy_reward" in row:
            return as_proxy_reward(row["proxy_reward"]), str(cause)
        if "proxy" in row and "unscored" in row:  # RL's rows: 0 is no opinion, and `problem` says why it was lost
            value = row["proxy"]
            no_opinion = value == 0 and not isinstance(value, bool)
            problem = row.get("problem") if row["unscored"] else "not_asked"
            return None if no_opinion else as_proxy_reward(value), str(problem or cause)
    except ValueError as error:
        raise BadRow("bad_proxy_reward", str(error)[:200]) from None
    if response_field in WITHOUT_PROXY:
        return None, "not_in_the_file"
    hint = "null means unscored, and --no-proxy scores without"
    raise BadRow("no_proxy_reward", f"proxy_reward is missing; {hint}")


def _brief(value: object) -> str:
    return "missing" if value is None else repr(value)[:60]


@dataclass
class Tally:
    """Sums over scored rows."""

    rows: int = 0
    right: int = 0
    well_formed: int = 0
    agrees: int = 0
    judged: int = 0
    leaks: int = 0
    score_sum: float = 0.0
    unscored: Counter[str] = field(default_factory=Counter)  # cause -> rows
    malformed: Counter[str] = field(default_factory=Counter)  # reason -> rows
    nothing_to_judge: int = 0

    def add(self, scored: ScoredRow) -> None:
        parts = scored.parts
        self.rows += 1
        self.right += parts.accuracy > 0
        self.well_formed += parts.format > 0
        self.leaks += scored.leaks
        self.nothing_to_judge += scored.rubric is None
        if parts.proxy is not None:
            self.judged += 1
            self.agrees += parts.proxy > 0
        if parts.unscored or parts.problem == upstream.PROXY_FAILED:
            self.unscored[scored.cause or "no cause given"] += 1
        if not parts.unscored:
            self.score_sum += parts.score
        if not parts.format and parts.problem and parts.problem not in (UNSCORED, upstream.PROXY_FAILED):
            self.malformed[parts.problem] += 1

    @property
    def lost(self) -> int:
        """Rows whose opinion is missing."""
        return sum(self.unscored.values())
