"""The judgements of one or more runs as data for the page: each text once, and within a size."""

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
from proxygrm.evaluate.rows.answers import RIGHT, InvalidRow, Judgement, judgement_of
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.report.images import LEAST_BYTES, PageImage, gather_images
from proxygrm.report.numbers import number

OUTCOMES = ("right", "wrong", "tie", "unparsed")  # by the numbers in `rows.answers`
MAX_JUDGEMENTS = 30_000
MAX_IMAGES_OF_A_PAIR = 4
PLAIN_BYTES = 200_000  # data up to this size are not compressed, so that search tools can read them
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Packed:
    """The page's data, as text for two script elements, and notes about them."""

    data: str
    compressed: bool
    images: str
    judgements: int
    shown: int
    notes: list[str]  # what was left out, with counts

    @property
    def bytes(self) -> int:
        return len(self.data) + len(self.images)


@dataclass
class _Collected:
    """Pairs and judgements of all runs; `texts` are parallel to `rows`."""

    pairs: list[list[Any]] = field(default_factory=list)
    images: list[list[str]] = field(default_factory=list)  # paths of each pair
    rows: dict[str, list[list[Any]]] = field(default_factory=dict)
    texts: dict[str, list[list[Any]]] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    invalid: Counter[str] = field(default_factory=Counter)


def pack(
    runs: Mapping[str, Sequence[Row]], cut: Partition, budget: int, names: Mapping[str, str] | None = None
) -> Packed:
    """runs: {tag: rows}, this suite's or upstream's; names: titles of the tags; budget: bytes of the page.

    Outcome and category of a judgement are exactly those of `eval score`. Where not everything fits, critiques are left
    out first, those of right and undisputed judgements before others.
    """
    total = sum(len(rows) for rows in runs.values())
    runs, pairs_left_out = _thinned(runs)
    collected = _collect(runs, cut)
    notes = [f"{count:,} rows are not judgements: {reason}" for reason, count in collected.invalid.items()]
    if pairs_left_out:
        notes.append(
            f"{pairs_left_out:,} pairs left out, evenly spread: the page has room for {MAX_JUDGEMENTS:,} judgements"
        )
    paths = [path for of_pair in collected.images for path in of_pair[:MAX_IMAGES_OF_A_PAIR]]
    reserve = min(int(0.4 * budget), LEAST_BYTES * len(set(paths)))
    data, compressed, left_out = _fitted(collected, names or {}, budget - reserve)
    notes += left_out
    images = gather_images(paths, budget - len(data))
    if frames := sum(max(0, len(of_pair) - MAX_IMAGES_OF_A_PAIR) for of_pair in collected.images):
        notes.append(f"{frames:,} images after the first {MAX_IMAGES_OF_A_PAIR} of a pair left out")
    for count, reason in (
        (images.left_out, "left out to keep the page small"),
        (images.missing, "no longer exist at the paths in the rows"),
        (images.unreadable, "cannot be read"),
    ):
        if count:
            notes.append(f"{count:,} images {reason}")
    if images.side_px and any(max(image.width, image.height) > images.side_px for image in images.images):
        notes.append(f"images are thumbnails, {images.side_px} pixels wide or high")
    image_data = {
        "images": [_triple(image) for image in images.images],
        "of": [[images.index.get(path, -1) for path in of_pair[:MAX_IMAGES_OF_A_PAIR]] for of_pair in collected.images],
    }
    return Packed(data, compressed, embed(image_data), total, sum(map(len, collected.rows.values())), notes)


def embed(value: Any) -> str:
    """JSON that is safe inside a script element: without `<`, `>` and `&`, pure ASCII, no NaN."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _triple(image: PageImage) -> list[Any]:
    return [image.width, image.height, image.webp]


def _thinned(runs: Mapping[str, Sequence[Row]]) -> tuple[Mapping[str, Sequence[Row]], int]:
    """(runs within MAX_JUDGEMENTS, pairs left out). A pair is kept for every run or for none, so that runs can be
    compared on it."""
    total = sum(len(rows) for rows in runs.values())
    if total <= MAX_JUDGEMENTS:
        return runs, 0
    keys = list(dict.fromkeys(_pair_key(row) for rows in runs.values() for row in rows))
    stride = total / MAX_JUDGEMENTS
    kept = {keys[int(i * stride)] for i in range(int(len(keys) / stride))}
    return {tag: [row for row in rows if _pair_key(row) in kept] for tag, rows in runs.items()}, len(keys) - len(kept)


def _pair_key(row: Row) -> str:
    return f"{row.get('id', row.get('ID'))}#{row.get('copy', 0)}"


def _collect(runs: Mapping[str, Sequence[Row]], cut: Partition) -> _Collected:
    collected = _Collected()
    pair_numbers: dict[Any, int] = {}
    for tag, rows in runs.items():
        collected.rows[tag], collected.texts[tag] = [], []
        for number_of_row, row in enumerate(rows, 1):
            try:
                judgement = judgement_of(row, number_of_row)
            except InvalidRow as reason:
                collected.invalid[str(reason)] += 1
                continue
            if judgement is None:
                continue
            own = "verdict" in row and "rewards" not in row
            question, better, worse = _texts(row, judgement, own)
            key = (_pair_key(row), question, better, worse)
            if key not in pair_numbers:
                pair_numbers[key] = len(collected.pairs)
                category = cut.category(judgement.facts) or ""
                collected.pairs.append([judgement.facts.id, judgement.source, category, question, better, worse])
                collected.images.append(_paths(row))
            line, texts = _line_and_texts(row, judgement, own, collected.reasons)
            collected.rows[tag].append([pair_numbers[key], *line])
            collected.texts[tag].append(texts)
    return collected


def _texts(row: Row, judgement: Judgement, own: bool) -> tuple[str, str, str]:
    """Question, better and worse response. The judgement's `swapped` gives the order."""
    names = ("question", "response_1", "response_2") if own else ("prompt", "chosen", "rejected")
    question, better, worse = ("" if row.get(name) is None else str(row[name]) for name in names)
    return (question, worse, better) if own and judgement.swapped else (question, better, worse)


def _paths(row: Row) -> list[str]:
    paths = row.get("images") or row.get("image") or row.get("Image") or []
    return [str(path) for path in (paths if isinstance(paths, list) else [paths])]


def _line_and_texts(row: Row, judgement: Judgement, own: bool, reasons: dict[str, int]) -> tuple[list[Any], list[Any]]:
    """[order, sample, copy, label, verdict, outcome, proxy, reasons, tokens, truncated] and [critique, items,
    justification, rubric (when it has no items), evaluation, proxy's answer, refusal, scores].

    order: 0 as is, 1 swapped; proxy: 1 or 2, 0 without a readable verdict, -1 when it was not asked.
    """
    text = row.get("critique" if own else "critic")
    critique = parse("" if text is None else str(text))
    label = 2 if judgement.swapped else 1
    order = int(row.get("order") == "swapped") if "order" in row else int(bool(judgement.swapped))
    proxy = row.get("proxy_verdict")
    proxy_asked = bool(row.get("proxy_asked", proxy is not None))
    problems = row.get("problems")
    if not isinstance(problems, list):
        problems = (
            [] if text is None and row.get("scores", row.get("rewards")) else [p.value for p in critique.problems]
        )
    reason_numbers = [reasons.setdefault(str(problem), len(reasons)) for problem in problems]
    copy = row.get("copy", 0)
    line = [
        order, judgement.sample, copy if isinstance(copy, int) else 0, label, judgement.verdict, judgement.outcome,
        proxy if proxy in (1, 2) else 0 if proxy_asked else -1, reason_numbers, number(row.get("tokens")),
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


def _fitted(collected: _Collected, names: Mapping[str, str], budget: int) -> tuple[str, bool, list[str]]:
    """The data as text for a script element, compressed where it is large, and what was left out."""
    ranked = sorted(
        ((tag, index) for tag, rows in collected.rows.items() for index in range(len(rows))),
        key=lambda item: not _disputed(collected.rows[item[0]][item[1]]),
    )

    def written(critiques: int, pairs: int) -> tuple[str, bool]:
        kept = set(ranked[:critiques])
        texts = {
            tag: [texts if (tag, index) in kept else None for index, texts in enumerate(of_run)]
            for tag, of_run in collected.texts.items()
        }
        value = {
            "names": {tag: names.get(tag, tag) for tag in collected.rows},
            "outcomes": OUTCOMES,
            "reasons": list(collected.reasons),
            "pairs": [
                pair if number < pairs else [*pair[:3], None, None, None] for number, pair in enumerate(collected.pairs)
            ],
            "runs": [{"tag": tag, "rows": rows, "texts": texts[tag]} for tag, rows in collected.rows.items()],
        }
        return _written(value)

    all_pairs = len(collected.pairs)
    critiques = _most_that_fit(len(ranked), lambda k: len(written(k, all_pairs)[0]), budget)
    pairs = all_pairs if critiques else _most_that_fit(all_pairs, lambda k: len(written(0, k)[0]), budget)
    notes = []
    if critiques < len(ranked):
        left_out = [collected.rows[tag][index] for tag, index in ranked[critiques:]]
        disputed = sum(_disputed(row) for row in left_out)
        kinds = f"{disputed:,} of them wrong, unparsed or disputed" if disputed else "all right and undisputed"
        notes.append(f"critiques of {len(left_out):,} judgements left out to keep the page small, {kinds}")
    if pairs < all_pairs:
        notes.append(f"question and responses of {all_pairs - pairs:,} pairs left out to keep the page small")
    return *written(critiques, pairs), notes


def _disputed(row: Sequence[Any]) -> bool:
    """Not right, or the proxy's verdict differs from the judge's."""
    verdict, outcome, proxy = row[5:8]
    return outcome != RIGHT or (proxy in (1, 2) and proxy != verdict)


def _most_that_fit(total: int, size: Callable[[int], int], budget: int) -> int:
    """As many of `total` as fit, or slightly fewer."""
    kept = total
    while kept and (bytes_used := size(kept)) > budget:
        kept = min(kept - 1, int(0.97 * kept * budget / bytes_used))
    return kept


def _written(value: Any) -> tuple[str, bool]:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if len(text) <= PLAIN_BYTES:
        return embed(value), False
    encoded = _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text).encode()
    return base64.b64encode(gzip.compress(encoded, 6, mtime=0)).decode(), True
