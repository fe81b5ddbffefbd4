"""Rubric transfer: what an unseen judge is shown, with and without rubrics. Pure, but for reading files.

A *sight* is a pair in one of its two orders, as a reward model saw it when it wrote its critique. The unseen judge is
asked about each sight under up to four conditions, by the proxy's instruction (SPEC section 1), so nothing of a
critique but its closed rubric is ever shown:

    none    without a rubric
    own     the rubric that the reward model wrote for this sight
    other   a rubric that it wrote for another pair: of the same category where there is one, in the same order
    base    the rubric that the model before training wrote for this sight

Gains count only sights for which both conditions could be asked.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import json_rows
from proxygrm.core.labels import label_in
from proxygrm.critique.contract import parse
from proxygrm.critique.prompts import proxy_prompt
from proxygrm.evaluate.rows.answers import named
from proxygrm.evaluate.rows.pairs import EvalPair, image_files, image_names
from proxygrm.evaluate.rows.shown import AS_IS, SWAPPED, Shown
from proxygrm.rewards.proxy_agreement import rubric_to_judge

NONE, OWN, OTHER, BASE = CONDITIONS = ("none", "own", "other", "base")
NO_RUBRIC, LEAK, NO_OTHER = NOT_SENT = ("no_rubric", "leak", "no_other_pair")


@dataclass(frozen=True)
class Told(Shown):
    """A sight with what the unseen judge is told besides: a closed rubric, or None."""

    rubric: str | None = None

    @property
    def key(self) -> str:
        """Names the judgement by what is shown, so two conditions that show the same are asked once."""
        return f"{super().key}/{_hash(self.rubric) if self.rubric else NONE}"


@dataclass(frozen=True)
class Rubric:
    """What a critique offers: its closed rubric (None: there is none), and whether it names the winner."""

    text: str | None
    leaks: bool = False

    def sent(self, allow_leaks: bool) -> str | None:
        return None if self.leaks and not allow_leaks else self.text


@dataclass(frozen=True)
class Source:
    """Whose rubrics: one for each sight, by the sight's key, in the order of the file."""

    name: str
    sights: Mapping[str, Shown]
    rubrics: Mapping[str, Rubric]

    def counts(self) -> dict[str, int]:
        return {
            "sights": len(self.rubrics),
            "no_rubric": sum(rubric.text is None for rubric in self.rubrics.values()),
            "leaks": sum(rubric.leaks for rubric in self.rubrics.values()),
        }


@dataclass(frozen=True)
class Asked:
    """One condition: what is told of each sight, None where nothing is asked, and why not."""

    told: tuple[Told | None, ...]
    not_sent: Mapping[str, int]
    own_text: int = 0
    """Of `other`: rubrics of another pair that read exactly like this pair's own."""


def told_prompt(shown: Shown) -> str:
    """The proxy's instruction, without image tags: the pictures stand before it."""
    rubric = shown.rubric if isinstance(shown, Told) else None
    return proxy_prompt(shown.pair.question, *shown.responses, rubric, images=0)


def read_source(name: str, path: Path) -> Source:
    """Rubrics and sights from judgement rows (TAG.jsonl, answers.jsonl). Of several votes the first one counts.

    UserError, with the row number, for a row that is no judgement or that stands there twice.
    """
    try:
        rows = list(json_rows(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give judgement rows, as `eval run` writes them") from error
    return source_of(name, rows, str(path))


def source_of(name: str, rows: Sequence[tuple[int, Any]], where: str) -> Source:
    """rows: (row number, judgement row). Raises UserError as `read_source` does."""
    sights: dict[str, Shown] = {}
    rubrics: dict[str, Rubric] = {}
    for number, row in rows:
        try:
            sight = _sight(row)
            critique = parse(str(row.get("critique") or row.get("rubric") or ""))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{where} row {number} is no judgement: {type(error).__name__} {error}; a row has id, question, "
                "response_1, response_2, label, and critique or rubric, as `eval run` writes them"
            ) from error
        if row.get("sample"):
            continue
        if sight.key in sights:
            raise UserError(f"{where} row {number} judges what stands there already ({named([sight.pair.id])})")
        sights[sight.key] = sight
        rubrics[sight.key] = Rubric(critique.shown, critique.shown is not None and rubric_to_judge(critique) is None)
    if not sights:
        raise UserError(f"{where} holds no judgements")
    return Source(name, sights, rubrics)


def _sight(row: Any) -> Shown:
    if not isinstance(row, dict):
        raise TypeError("it is not a JSON object")
    order, label = row.get("order", AS_IS), label_in(row)
    if order not in (AS_IS, SWAPPED):
        raise ValueError(f"order {order!r}")
    shown = str(row["response_1"]), str(row["response_2"])
    pair = EvalPair(
        id=str(row["id"]),
        question=str(row["question"]),
        response_1=shown[0] if order == AS_IS else shown[1],
        response_2=shown[1] if order == AS_IS else shown[0],
        label=label if order == AS_IS else 3 - label,
        images=image_files(image_names(row), Path()),
        source=str(row.get("source") or ""),
        category=str(row.get("category") or ""),
        group=str(row.get("group") or ""),
        released=str(row.get("image_released") or ""),
    )
    return Shown(pair, order, int(row.get("copy") or 0))


def same_sights(sources: Sequence[Source], common: bool = False) -> list[Shown]:
    """The sights to ask about, in the order of the first source; pictures are looked for where it says.

    UserError when sources do not hold the same sights, unless those they have in `common` are wanted and there are any.
    """
    first, *others = sources
    shared = [key for key in first.sights if all(key in other.sights for other in others)]
    for other in others:
        if len(shared) == len(first.sights) == len(other.sights) or (common and shared):
            continue
        lacks = [
            f"{len(lack):,} only in {name} ({named(lack)})"
            for name, lack in (
                (first.name, [s.pair.id for key, s in first.sights.items() if key not in other.sights]),
                (other.name, [s.pair.id for key, s in other.sights.items() if key not in first.sights]),
            )
            if lack
        ]
        if lacks:
            raise UserError(
                f"{first.name} and {other.name} did not see the same: {len(shared):,} shared, {', '.join(lacks)}; let "
                "both judge the same pairs in the same orders"
                + (", or measure on the shared ones with --common" if shared else "")
            )
    return [first.sights[key] for key in shared]


def conditions(
    sights: Sequence[Shown], source: Source, base: Source | None, seed: int = 0, allow_leaks: bool = False
) -> dict[str, Asked]:
    """What is asked about each of `sights` under each condition; `base` None leaves that condition out."""
    own = [source.rubrics[s.key] for s in sights]
    sent = [rubric.sent(allow_leaks) for rubric in own]
    donors = other_pairs(sights, [text is not None for text in sent], seed)
    found = {
        NONE: Asked(tuple(_told(s, None) for s in sights), {}),
        OWN: _asked(sights, own, allow_leaks),
        # Where the own rubric cannot be sent there is nothing to compare with, so another's is not asked for either.
        OTHER: Asked(
            tuple(None if donor is None else _told(s, sent[donor]) for s, donor in zip(sights, donors, strict=True)),
            Counter(
                _why_not(rubric) if text is None else NO_OTHER
                for rubric, text, donor in zip(own, sent, donors, strict=True)
                if donor is None
            ),
            own_text=sum(donor is not None and sent[donor] == text for text, donor in zip(sent, donors, strict=True)),
        ),
    }
    if base:
        found[BASE] = _asked(sights, [base.rubrics[s.key] for s in sights], allow_leaks)
    return found


def _asked(sights: Sequence[Shown], rubrics: Sequence[Rubric], allow_leaks: bool) -> Asked:
    sent = [rubric.sent(allow_leaks) for rubric in rubrics]
    return Asked(
        tuple(_told(s, text) if text is not None else None for s, text in zip(sights, sent, strict=True)),
        Counter(_why_not(rubric) for rubric, text in zip(rubrics, sent, strict=True) if text is None),
    )


def _why_not(rubric: Rubric) -> str:
    return NO_RUBRIC if rubric.text is None else LEAK


def _told(s: Shown, rubric: str | None) -> Told:
    return Told(s.pair, s.order, s.copy, s.sample, rubric)


def other_pairs(sights: Sequence[Shown], has_rubric: Sequence[bool], seed: int = 0) -> list[int | None]:
    """For each sight with a rubric the position of another one whose rubric it is shown instead; None where none fits.

    Never one about the same pictures and question, in either order. Within a category and an order each rubric is given
    away exactly once (a derangement), so the control shows the same rubrics, only to the wrong pairs. Sights whose
    category is too small or too uniform for that are put together over all categories; should even that not do, the
    next fitting rubric is taken, and may serve several. Decided by a hash of the contents and the seed: the order of
    the rows changes nothing.
    """
    places = [at for at, has in enumerate(has_rubric) if has]
    rank = {at: _hash(f"{seed}\0{sights[at].key}") for at in places}
    subject = {at: _subject(sights[at]) for at in places}
    of_subject = {at: _hash(f"{seed}\0{subject[at]}") for at in places}
    found: list[int | None] = [None] * len(sights)

    def deranged(groups: Mapping[Any, list[int]]) -> list[int]:
        left = []
        for group in groups.values():
            ordered = sorted(group, key=lambda at: (of_subject[at], rank[at]))
            shift = max(Counter(subject[at] for at in ordered).values())
            if 2 * shift > len(ordered):
                left += group
                continue
            # Those of one subject stand side by side, at most `shift` of them: `shift` further on is another subject.
            for index, at in enumerate(ordered):
                found[at] = ordered[(index + shift) % len(ordered)]
        return left

    left = deranged(_grouped(places, lambda at: (sights[at].pair.category, sights[at].order)))
    left = deranged(_grouped(left, lambda at: sights[at].order))
    by_rank = sorted(places, key=rank.__getitem__)
    turn = {at: index for index, at in enumerate(by_rank)}
    for at in left:
        around = by_rank[turn[at] + 1 :] + by_rank[: turn[at]]
        fits = [other for other in around if subject[other] != subject[at]]
        same_order = (other for other in fits if sights[other].order == sights[at].order)
        found[at] = next(same_order, fits[0] if fits else None)
    return found


def _grouped(places: Sequence[int], by: Callable[[int], Any]) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = defaultdict(list)
    for at in places:
        groups[by(at)].append(at)
    return groups


def _subject(s: Shown) -> str:
    return json.dumps([s.pair.question, [path.name for path in s.pair.images]])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16]
