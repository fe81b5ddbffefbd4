"""The rubrics of one reward model, read from its judgement rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import json_rows
from proxygrm.core.labels import label_in
from proxygrm.critique.contract import parse
from proxygrm.evaluate.rows.ordered_pair import AS_IS, SWAPPED, OrderedPair
from proxygrm.evaluate.rows.pairs import EvalPair, image_files, image_names
from proxygrm.evaluate.rows.text import ids_text
from proxygrm.rewards.proxy_agreement import rubric_to_judge


@dataclass(frozen=True)
class Rubric:
    """text: the closed rubric of a critique, None without one; leaks: it names the winner."""

    text: str | None
    leaks: bool = False

    def sendable(self, allow_leaks: bool) -> str | None:
        return None if self.leaks and not allow_leaks else self.text


@dataclass(frozen=True)
class Rubrics:
    """One rubric per ordered pair, by the pair's key, in the order of the file. `name`: of the reward model."""

    name: str
    ordered: Mapping[str, OrderedPair]
    rubrics: Mapping[str, Rubric]

    def counts(self) -> dict[str, int]:
        return {
            "sights": len(self.rubrics),
            "no_rubric": sum(rubric.text is None for rubric in self.rubrics.values()),
            "leaks": sum(rubric.leaks for rubric in self.rubrics.values()),
        }


def read_rubrics(name: str, path: Path) -> Rubrics:
    """Rubrics and ordered pairs from judgement rows (TAG.jsonl, answers.jsonl). Of several votes the first one counts.

    UserError, with the row number, for a row that is not a judgement and for a duplicate.
    """
    try:
        rows = list(json_rows(path))
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; pass judgement rows, as `eval run` writes them",
            code="file.cannot-read",
            path=path,
            reason=error.strerror,
        ) from error
    return rubrics_of(name, rows, path)


def rubrics_of(name: str, rows: Sequence[tuple[int, Any]], path: Path) -> Rubrics:
    """rows: (row number, judgement row) of `path`. UserError as in `read_rubrics`."""
    ordered_by_key: dict[str, OrderedPair] = {}
    rubrics: dict[str, Rubric] = {}
    for number, row in rows:
        try:
            ordered = ordered_pair_of(row)
            critique = parse(str(row.get("critique") or row.get("rubric") or ""))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} row {number} is not a judgement: {type(error).__name__} {error}; a row has id, question, "
                "response_1, response_2, label, and critique or rubric, as `eval run` writes them",
                code="eval.bad-judgement",
                path=path,
                row=number,
                reason=str(error),
            ) from error
        if row.get("sample"):
            continue
        if ordered.key in ordered_by_key:
            raise UserError(
                f"{path} row {number} judges the same pair in the same order as an earlier row "
                f"({ids_text([ordered.pair.id])})",
                code="eval.duplicate-judgement",
                path=path,
                row=number,
                id=ordered.pair.id,
            )
        ordered_by_key[ordered.key] = ordered
        rubrics[ordered.key] = Rubric(critique.shown, critique.shown is not None and rubric_to_judge(critique) is None)
    if not ordered_by_key:
        raise UserError(f"{path} has no judgements", code="eval.no-judgements", path=path)
    return Rubrics(name, ordered_by_key, rubrics)


def ordered_pair_of(row: Any) -> OrderedPair:
    """From a judgement row. Raises KeyError, TypeError and ValueError."""
    if not isinstance(row, dict):
        raise TypeError("it is not a JSON object")
    order, label = row.get("order", AS_IS), label_in(row)
    if order not in (AS_IS, SWAPPED):
        raise ValueError(f"order {order!r}")
    in_order = str(row["response_1"]), str(row["response_2"])
    pair = EvalPair(
        id=str(row["id"]),
        question=str(row["question"]),
        response_1=in_order[0] if order == AS_IS else in_order[1],
        response_2=in_order[1] if order == AS_IS else in_order[0],
        label=label if order == AS_IS else 3 - label,
        images=image_files(image_names(row), Path()),
        source=str(row.get("source") or ""),
        category=str(row.get("category") or ""),
        group=str(row.get("group") or ""),
        released=str(row.get("image_released") or ""),
    )
    return OrderedPair(pair, order, int(row.get("copy") or 0))


def shared_pairs(sources: Sequence[Rubrics], common: bool = False) -> list[OrderedPair]:
    """The ordered pairs to judge, in the order of the first source and with its image paths.

    UserError when sources have different ordered pairs, unless `common` allows to use the shared ones and there are
    any.
    """
    first, *others = sources
    shared = [key for key in first.ordered if all(key in other.ordered for other in others)]
    for other in others:
        if len(shared) == len(first.ordered) == len(other.ordered) or (common and shared):
            continue
        parts = [
            f"{len(ids):,} only in {name} ({ids_text(ids)})"
            for name, ids in (
                (first.name, [o.pair.id for key, o in first.ordered.items() if key not in other.ordered]),
                (other.name, [o.pair.id for key, o in other.ordered.items() if key not in first.ordered]),
            )
            if ids
        ]
        if parts:
            raise UserError(
                f"{first.name} and {other.name} did not judge the same pairs: {len(shared):,} shared, "
                f"{', '.join(parts)}; let both judge the same pairs in the same orders"
                + (", or use the shared ones with --common" if shared else ""),
                code="eval.different-pairs",
                runs=[first.name, other.name],
                shared=len(shared),
            )
    return [first.ordered[key] for key in shared]
