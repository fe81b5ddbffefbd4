"""Rows of rollouts in, the same rows with their reward out; and what a table of many of them says. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from proxygrm.core.labels import BadLabel, Label, label_in
from proxygrm.critique.contract import parse
from proxygrm.critique.rubric import names_winner
from proxygrm.rewards import upstream
from proxygrm.rewards.proxy_agreement import UNSCORED, RewardParts, as_proxy_reward, rubric_to_judge, score

ADDED = ("accuracy", "format", "rubric", "score", "reason")


RESPONSES = ("response", "critique", "solution_str", "output")
"""Where the text of a rollout stands; the first that is there."""
WITHOUT_PROXY = ("solution_str", "output")


class BadRow(ValueError):
    """A row that has no reward because it is not a rollout. cause: a word to count it by; the message says which field
    is wrong."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


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
    cause: str = ""


def scored(row: Mapping[str, Any], options: ScoreOptions) -> Scored:
    """The row with `accuracy` (1 | -1), `format` (1 | 0), `rubric` (what the proxy may see, or None) and `score`.

    `reason` is added when the rollout is not to the contract, has nothing to judge or was not judged; the first such
    word. `score` is None (and `reason` "unscored") when the proxy owed an opinion and gave none: a lost reward is no
    zero. As upstream, such a row takes the table's "failed" column instead, with `reason` "proxy_failed".

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
    out = {key: value for key, value in row.items() if key not in ADDED} | added
    if parts.problem:
        out["reason"] = parts.problem
    return Scored(out, parts, rubric, leaks, cause)


class Rollout(NamedTuple):
    response: str
    label: Label
    opinion: float | None
    cause: str


def read_rollout(row: Any, use_proxy: bool = True) -> Rollout:
    """What a row says, whichever program wrote it (docs/rewards.md):

    response, ground_truth, proxy_reward, cause    the format of `reward score`
    critique, label, proxy, unscored, problem      RL's rollouts/step_*.jsonl
    output, gts                                    what verl writes into trainer.rollout_data_dir
    solution_str; answer                           upstream's argument, and R1-Reward's column of labels

    Only the last two kinds may lack the proxy's opinion: it has no place there. cause: why there is none. Raises
    BadRow.
    """
    if not isinstance(row, Mapping):
        raise BadRow("not_an_object", "the line is no JSON object")
    field = next((name for name in RESPONSES if name in row), RESPONSES[0])
    response = row.get(field)
    if not isinstance(response, str):
        raise BadRow("no_response", f"{field} is {_brief(response)}, it must be text")
    try:
        label = label_in(row)
    except BadLabel as error:
        raise BadRow(error.cause, str(error)[:200]) from None
    opinion, cause = _opinion(row, field) if use_proxy else (None, "")
    return Rollout(response, label, opinion, cause)


def _opinion(row: Mapping[str, Any], response_field: str) -> tuple[float | None, str]:
    cause = row.get("cause")
    said = cause if isinstance(cause, str) else ""
    try:
        if "proxy_reward" in row:
            return as_proxy_reward(row["proxy_reward"]), said
        if "proxy" in row and "unscored" in row:  # RL's own: 0 is no opinion, and `problem` says why it was lost
            value = row["proxy"]
            nothing = value == 0 and not isinstance(value, bool)
            problem = row.get("problem") if row["unscored"] else "not_asked"
            return None if nothing else as_proxy_reward(value), str(problem or said)
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
    in_form: int = 0
    agrees: int = 0
    judged: int = 0
    leaks: int = 0
    score_sum: float = 0.0
    unscored: Counter[str] = field(default_factory=Counter)  # cause -> rows
    out_of_form: Counter[str] = field(default_factory=Counter)  # reason -> rows
    nothing_to_judge: int = 0

    def add(self, found: Scored) -> None:
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
            self.unscored[found.cause or "no cause given"] += 1
        if not parts.unscored:
            self.score_sum += parts.score
        if not parts.format and parts.problem and parts.problem not in (UNSCORED, upstream.PROXY_FAILED):
            self.out_of_form[parts.problem] += 1

    @property
    def lost(self) -> int:
        return sum(self.unscored.values())
