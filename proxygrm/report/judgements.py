"""The judgements of one or more runs as the page's browser reads them: each text once, and within a size."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from proxygrm.critique.contract import parse, rubric_for_proxy
from proxygrm.evaluate.benchmarks import Partition
from proxygrm.evaluate.rows.answers import RIGHT, Broken, Judgement, judgement_of
from proxygrm.report.gather import number
from proxygrm.report.pictures import LEAST_BYTES, Picture, gather_pictures

Row = dict[str, Any]

OUTCOMES = ("right", "wrong", "tie", "unparsed")  # by the numbers of `score_rows`
MAX_JUDGEMENTS = 30_000
MAX_PICTURES_OF_A_PAIR = 4
PLAIN_BYTES = 200_000  # up to here the data stand in the page as they are, which search tools can read
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Packed:
    """What goes into the page, as text for two script elements, and what the page has to say about it."""

    data: str
    compressed: bool
    pictures: str
    judgements: int
    shown: int
    notes: list[str]  # what was left out, and how many

    @property
    def bytes(self) -> int:
        return len(self.data) + len(self.pictures)


@dataclass
class _Collected:
    """Pairs and judgements of all runs; `texts` run parallel to `rows`."""

    pairs: list[list[Any]] = field(default_factory=list)
    pictures: list[list[str]] = field(default_factory=list)  # paths of each pair
    rows: dict[str, list[list[Any]]] = field(default_factory=dict)
    texts: dict[str, list[list[Any]]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    broken: Counter[str] = field(default_factory=Counter)


def pack(
    runs: Mapping[str, Sequence[Row]], cut: Partition, budget: int, names: Mapping[str, str] | None = None
) -> Packed:
    """runs: {tag: rows}, of this suite's or upstream's kind; names: titles of the tags; budget: bytes of the page.

    A judgement is right, wrong, tied or unparsed, and of a category, exactly as `eval score` counts it. Where not
    everything fits, critiques go first, those of right and undisputed judgements before others.
    """
    total = sum(len(rows) for rows in runs.values())
    runs, pairs_left = _spread(runs)
    found = _collect(runs, cut)
    notes = [f"{count:,} rows are no judgements: {why}" for why, count in found.broken.items()]
    if pairs_left:
        notes.append(f"{pairs_left:,} pairs left out, evenly spread: the page holds {MAX_JUDGEMENTS:,} judgements")
    paths = [path for some in found.pictures for path in some[:MAX_PICTURES_OF_A_PAIR]]
    reserve = min(int(0.4 * budget), LEAST_BYTES * len(set(paths)))
    data, compressed, more = _fitted(found, names or {}, budget - reserve)
    notes += more
    pictures = gather_pictures(paths, budget - len(data))
    if frames := sum(max(0, len(some) - MAX_PICTURES_OF_A_PAIR) for some in found.pictures):
        notes.append(f"{frames:,} pictures after the first {MAX_PICTURES_OF_A_PAIR} of a pair left out")
    for count, why in (
        (pictures.left_out, "left out to keep the page small"),
        (pictures.missing, "are no longer where the rows say"),
        (pictures.unreadable, "cannot be read"),
    ):
        if count:
            notes.append(f"{count:,} pictures {why}")
    if pictures.side_px and any(max(p.width, p.height) > pictures.side_px for p in pictures.shown):
        notes.append(f"pictures are thumbnails, {pictures.side_px} pixels wide or high")
    shown = {
        "pictures": [_triple(picture) for picture in pictures.shown],
        "of": [[pictures.at.get(path, -1) for path in some[:MAX_PICTURES_OF_A_PAIR]] for some in found.pictures],
    }
    return Packed(data, compressed, embed(shown), total, sum(map(len, found.rows.values())), notes)


def embed(value: Any) -> str:
    """JSON that may stand inside a script element: no `<`, `>` or `&` in it, pure ASCII, no NaN."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _triple(picture: Picture) -> list[Any]:
    return [picture.width, picture.height, picture.webp]


def _spread(runs: Mapping[str, Sequence[Row]]) -> tuple[Mapping[str, Sequence[Row]], int]:
    """A pair is shown for every run or for none, so that runs can be compared on it."""
    total = sum(len(rows) for rows in runs.values())
    if total <= MAX_JUDGEMENTS:
        return runs, 0
    keys = list(dict.fromkeys(_name(row) for rows in runs.values() for row in rows))
    stride = total / MAX_JUDGEMENTS
    kept = {keys[int(i * stride)] for i in range(int(len(keys) / stride))}
    return {tag: [row for row in rows if _name(row) in kept] for tag, rows in runs.items()}, len(keys) - len(kept)


def _name(row: Row) -> str:
    return f"{row.get('id', row.get('ID'))}#{row.get('copy', 0)}"


def _collect(runs: Mapping[str, Sequence[Row]], cut: Partition) -> _Collected:
    found = _Collected()
    places: dict[Any, int] = {}
    for tag, rows in runs.items():
        found.rows[tag], found.texts[tag] = [], []
        for at, row in enumerate(rows, 1):
            try:
                judgement = judgement_of(row, at)
            except Broken as why:
                found.broken[str(why)] += 1
                continue
            if judgement is None:
                continue
            own = "verdict" in row and "rewards" not in row
            question, better, worse = _texts(row, judgement, own)
            key = (_name(row), question, better, worse)
            if key not in places:
                places[key] = len(found.pairs)
                category = cut.category(judgement.facts) or ""
                found.pairs.append([judgement.facts.id, judgement.source, category, question, better, worse])
                found.pictures.append(_paths(row))
            line, texts = _judged(row, judgement, own, found.reasons)
            found.rows[tag].append([places[key], *line])
            found.texts[tag].append(texts)
    return found


def _texts(row: Row, judgement: Judgement, own: bool) -> tuple[str, str, str]:
    """Question, better and worse response. Which stood first is the judgement's `swapped`."""
    names = ("question", "response_1", "response_2") if own else ("prompt", "chosen", "rejected")
    question, better, worse = ("" if row.get(name) is None else str(row[name]) for name in names)
    return (question, worse, better) if own and judgement.swapped else (question, better, worse)


def _paths(row: Row) -> list[str]:
    paths = row.get("images") or row.get("image") or row.get("Image") or []
    return [str(path) for path in (paths if isinstance(paths, list) else [paths])]


def _judged(row: Row, judgement: Judgement, own: bool, reasons: dict[str, int]) -> tuple[list[Any], list[Any]]:
    """[order, sample, copy, label, said, outcome, proxy, reasons, tokens, truncated] and [critique, items,
    justification, rubric (when it has no items), evaluation, proxy's answer, refusal, scores].

    order: 0 as is, 1 swapped; proxy: 1 or 2, 0 for no readable verdict, -1 when it was not asked.
    """
    text = row.get("critique" if own else "critic")
    critique = parse("" if text is None else str(text))
    label = 2 if judgement.swapped else 1
    order = int(row.get("order") == "swapped") if "order" in row else int(bool(judgement.swapped))
    proxy = row.get("proxy_verdict")
    asked = bool(row.get("proxy_asked", proxy is not None))
    problems = row.get("problems")
    if not isinstance(problems, list):
        problems = (
            [] if text is None and row.get("scores", row.get("rewards")) else [p.value for p in critique.problems]
        )
    why = [reasons.setdefault(str(problem), len(reasons)) for problem in problems]
    copy = row.get("copy", 0)
    line = [
        order, judgement.sample, copy if isinstance(copy, int) else 0, label, judgement.said, judgement.outcome,
        proxy if proxy in (1, 2) else 0 if asked else -1, why, number(row.get("tokens")),
        int(bool(row.get("truncated"))),
    ]  # fmt: skip
    items = [[item.description, number(item.weight)] for item in critique.items]
    scores = row.get("scores") or (row.get("rewards") if not own and text is None else None)
    return line, [
        None if text is None else str(text),
        items,
        critique.justification,
        None if items else rubric_for_proxy("" if text is None else str(text)),
        critique.evaluation,
        None if row.get("proxy_answer") is None else str(row["proxy_answer"]),
        str(row["refused"]) if row.get("refused") else None,
        [number(score) for score in scores] if isinstance(scores, list) else None,
    ]


def _fitted(found: _Collected, names: Mapping[str, str], budget: int) -> tuple[str, bool, list[str]]:
    """The data as text for a script element, compressed where it is large, and what was left out."""
    ranked = sorted(
        ((tag, at) for tag, rows in found.rows.items() for at in range(len(rows))),
        key=lambda place: not _disputed(found.rows[place[0]][place[1]]),
    )

    def written(critiques: int, pairs: int) -> tuple[str, bool]:
        kept = set(ranked[:critiques])
        texts = {
            tag: [text if (tag, at) in kept else None for at, text in enumerate(some)]
            for tag, some in found.texts.items()
        }
        value = {
            "names": {tag: names.get(tag, tag) for tag in found.rows},
            "outcomes": OUTCOMES,
            "reasons": list(found.reasons),
            "pairs": [pair if at < pairs else [*pair[:3], None, None, None] for at, pair in enumerate(found.pairs)],
            "runs": [{"tag": tag, "rows": found.rows[tag], "texts": texts[tag]} for tag in found.rows],
        }
        return _written(value)

    everything = len(found.pairs)
    critiques = _most(len(ranked), lambda k: len(written(k, everything)[0]), budget)
    pairs = everything if critiques else _most(everything, lambda k: len(written(0, k)[0]), budget)
    notes = []
    if critiques < len(ranked):
        cut = [found.rows[tag][at] for tag, at in ranked[critiques:]]
        disputed = sum(_disputed(row) for row in cut)
        kinds = f"{disputed:,} of them wrong, unparsed or disputed" if disputed else "all right and undisputed"
        notes.append(f"critiques of {len(cut):,} judgements left out to keep the page small, {kinds}")
    if pairs < everything:
        notes.append(f"question and responses of {everything - pairs:,} pairs left out to keep the page small")
    return *written(critiques, pairs), notes


def _disputed(row: Sequence[Any]) -> bool:
    """Not right, or the proxy names another response than the judge."""
    said, outcome, proxy = row[5:8]
    return outcome != RIGHT or (proxy in (1, 2) and proxy != said)


def _most(most: int, size: Callable[[int], int], budget: int) -> int:
    """As many as fit, or a few less."""
    kept = most
    while kept and (took := size(kept)) > budget:
        kept = min(kept - 1, int(0.97 * kept * budget / took))
    return kept


def _written(value: Any) -> tuple[str, bool]:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text) <= PLAIN_BYTES:
        return embed(value), False
    whole = _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", text).encode()
    return base64.b64encode(gzip.compress(whole, 6, mtime=0)).decode(), True
