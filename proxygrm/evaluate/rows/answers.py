"""Reading answers to score: upstream's answer files and this suite's own judgement rows, checked row by row.

upstream  id (or ID), rewards [r1, r2]; optional reverse, critic, sample, prompt, chosen, rejected, image or video,
          Category
own       id, label, verdict; optional copy, sample, source, category, group, question, response_1,
          response_2, image

In an upstream row r1 belongs to the response shown first: the chosen one, or the rejected one when `reverse`. In an
own row, label and verdict are places as shown, so the label says in which order the pair was shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import value_of
from proxygrm.core.files.user_text import check_first_line
from proxygrm.core.ids import BadId, given, id_text, loads
from proxygrm.core.labels import BadLabel, label_in
from proxygrm.evaluate.benchmarks import Facts

RIGHT, WRONG, TIE, UNPARSED = 0, 1, 2, 3
_SHOWN_ROWS = 5
_REPEAT = re.compile(r"#\d+$")  # ingestion numbers repeated ids


class Judgement(NamedTuple):
    row: int  # line in the file, from 1
    file: int  # position among the files given: one sample each
    key: tuple[str, int]  # (id, hash of the texts or 0): rows with the same key judge the same pair
    facts: Facts
    group: str  # the id that acc+ counts
    source: str  # of an own row, "" elsewhere
    swapped: bool | None  # the better one was shown second; None: the file does not say
    sample: int
    outcome: int  # RIGHT, WRONG, TIE or UNPARSED
    said: int  # the response named, as shown: 1, 2, or 0 for none
    recorded: bool  # right by the recorded numbers alone, as upstream's scripts count
    guessed: bool = False  # a verdict is recorded, but the critique has no <answer>: some digit in it was taken
    blind: bool = False  # a blank picture stood for one that was missing


class Broken(ValueError):
    """Why a row cannot be scored."""


class Torn(NamedTuple):
    """A last line that is cut off."""

    file: Path
    row: int


def read_answers(files: list[Path], partial: bool) -> tuple[list[Judgement], list[Torn]]:
    """All rows of all files. UserError names the rows that cannot be scored; a torn last line only unless `partial`."""
    judgements: list[Judgement] = []
    torn = []
    for number, path in enumerate(files):
        broken: dict[str, list[int]] = {}
        before = len(judgements)
        for row, value in _lines(path, broken):
            try:
                judgement = judgement_of(value, row, number)
            except Broken as why:
                broken.setdefault(str(why), []).append(row)
            else:
                if judgement is not None:
                    judgements.append(judgement)
        cut = broken.pop(_TORN, None)
        if cut and not broken:
            if not partial:
                raise UserError(
                    f"{path}: the last line (row {cut[0]}) is cut off: the run was interrupted; finish it, or score "
                    "the whole rows with --partial"
                )
            torn.append(Torn(path, cut[0]))
        if broken:
            reasons = "; ".join(f"{why} in {rows_text(rows)}" for why, rows in broken.items())
            raise UserError(f"{path}: {reasons}; nothing was scored, mend these rows or judge them again")
        if len(judgements) == before:
            raise UserError(f"{path} holds no answers; give a JSONL of {{id, rewards, reverse}} or of judgement rows")
    return judgements, torn


def rows_text(rows: list[int]) -> str:
    """ "row 5", "rows 5, 9 and 14", "812 rows (5, 9, 14, 20, 31, ...)"."""
    if len(rows) == 1:
        return f"row {rows[0]:,}"
    if len(rows) <= _SHOWN_ROWS:
        return f"rows {', '.join(f'{row:,}' for row in rows[:-1])} and {rows[-1]:,}"
    return f"{len(rows):,} rows ({', '.join(f'{row:,}' for row in rows[:_SHOWN_ROWS])}, ...)"


def named(ids: Iterable[str], most: int = 3) -> str:
    """The first few ids, each on one line however long it is: "a, b, c, ..."."""
    ids = list(ids)
    shown = [
        " ".join(name.split())[:60].encode(errors="backslashreplace").decode() or repr(name) for name in ids[:most]
    ]
    return ", ".join([*shown, "..."] if len(ids) > most else shown)


def bare_id(full_id: str, source: str) -> str:
    """The release's id: without the source before it and the number that ingestion gives to repeated ids. One without
    that source is the release's own, "x#2" too."""
    if not source or not full_id.startswith(f"{source}:"):
        return full_id
    return _REPEAT.sub("", full_id.removeprefix(f"{source}:"))


_TORN = "the line is cut off"


def _lines(path: Path, broken: dict[str, list[int]]) -> Iterator[tuple[int, Any]]:
    import orjson

    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {what}; give the JSONL file of answers")
    with path.open("rb", buffering=1 << 20) as file:
        for number, line in enumerate(file, 1):
            if number == 1:
                check_first_line(line, path)
            try:
                yield number, loads(line)
            except orjson.JSONDecodeError:
                text = line.removeprefix(b"\xef\xbb\xbf").strip()
                if not text:
                    continue
                try:
                    yield number, value_of(text)  # takes NaN and lone surrogates, which the faster one refuses
                except ValueError:
                    torn = not line.endswith(b"\n")  # only the last line can lack it
                    broken.setdefault(_TORN if torn else "the line is not JSON", []).append(number)


def judgement_of(row: Any, number: int, file: int = 0) -> Judgement | None:
    """One row, of either kind; None for the line that says what made the file. Raises Broken with the reason."""
    if type(row) is not dict:
        raise Broken("the line is not a JSON object")
    if "rewards" in row:
        return _upstream(row, number, file)
    if "verdict" in row:
        return _own(row, number, file)
    if set(row) == {"made_by"}:
        return None
    raise Broken("neither `rewards` nor `verdict`")


def _upstream(row: dict[str, Any], number: int, file: int) -> Judgement:
    get = row.get
    row_id = get("id", get("ID"))
    row_id = _id(row_id)
    rewards = row["rewards"]
    if type(rewards) is not list or len(rewards) != 2:
        raise Broken("`rewards` is not a pair of numbers")
    first, second = rewards
    if type(first) not in _NUMBERS or type(second) not in _NUMBERS:
        raise Broken("`rewards` is not a pair of numbers")
    if first - first != 0 or second - second != 0:  # NaN and infinities
        raise Broken("`rewards` holds NaN or an infinity")
    reverse = get("reverse")
    if reverse is not None and type(reverse) is not bool and reverse not in (0, 1):
        raise Broken("`reverse` is neither true nor false")
    critic = get("critic")
    judged = isinstance(critic, str)
    recorded = first < second if reverse else first > second
    if isinstance(critic, str) and "1" not in critic and "2" not in critic:
        outcome, said = UNPARSED, 0  # no verdict in it, whatever was written into `rewards`
    elif first == second:
        outcome, said = UNPARSED if judged else TIE, 0
    else:
        outcome, said = RIGHT if recorded else WRONG, 1 if first > second else 2
    texts = 0
    if "chosen" in row:
        texts = hash((str(get("prompt")), str(row["chosen"]), str(get("rejected"))))
    media = get("image", get("Image")) or get("video")
    if type(media) is list:
        media = media[0] if media else None
    facts = Facts(
        row_id,
        str(get("Category", get("category")) or ""),
        media if type(media) is str else "",
        row_id if "id" in row else "",
    )
    swapped = None if reverse is None else bool(reverse)
    guessed = isinstance(critic, str) and said > 0 and "<answer>" not in critic
    return Judgement(
        number, file, (row_id, texts), facts, row_id, "", swapped, _sample(row), outcome, said, recorded, guessed
    )


def _own(row: dict[str, Any], number: int, file: int) -> Judgement:
    get = row.get
    source, full_id = str(get("source") or ""), get("id")
    full_id = _id(full_id)
    verdict = row["verdict"]
    try:
        label = label_in(row)
    except BadLabel as error:
        reason = {"labels_differ": "two fields disagree about the label", "no_label": "no label"}
        raise Broken(reason.get(error.cause, "`label` is neither 1 nor 2")) from None
    if verdict == "tie":
        outcome, said = TIE, 0
    elif verdict is None:
        outcome, said = UNPARSED, 0
    elif verdict in (1, 2) and type(verdict) is not bool:
        outcome, said = (RIGHT if verdict == label else WRONG), int(verdict)
    else:
        raise Broken("`verdict` is not 1, 2, tie or null")
    numbered = full_id.removeprefix(f"{source}:") if source else full_id
    bare = bare_id(full_id, source)
    texts = 0
    if "response_1" in row and "response_2" in row:
        better, worse = ("response_1", "response_2") if label == 1 else ("response_2", "response_1")
        texts = hash((str(get("question")), str(row[better]), str(row[worse])))
    key = (f"{numbered}#{get('copy')}" if get("copy") else numbered) if not texts else bare
    facts = Facts(
        bare, str(get("category") or ""), _released_path(get("image_released") or get("image") or get("video")), bare
    )
    group = str(get("group") or bare)
    blind = get("image_missing") is True
    return Judgement(
        number, file, (key, texts), facts, group, source, label == 2, _sample(row), outcome, said, outcome == RIGHT,
        blind=blind,
    )  # fmt: skip


def _id(value: Any) -> str:
    if type(value) is str and value:
        return value
    if not given(value):
        raise Broken("no id")
    try:
        return id_text(value)
    except BadId as error:
        raise Broken(str(error)) from None


_NUMBERS = (int, float)
_HEX = set("0123456789abcdef")


def _released_path(picture: Any) -> str:
    """A picture in a store is named by its hash: where it lay in the release, its path does not say."""
    if type(picture) is not str:
        return ""
    stem = picture.rpartition("/")[2].partition(".")[0]
    return "" if len(stem) == 64 and not set(stem) - _HEX else picture


def _sample(row: dict[str, Any]) -> int:
    sample = row.get("sample")
    if sample is None:
        return 0
    if type(sample) is not int or sample < 0:
        raise Broken("`sample` is not a number from 0")
    return sample
