"""Reading answers to score: upstream's answer files and this suite's own judgement rows, checked row by row.

upstream  id (or ID), rewards [r1, r2]; optional reverse, critic, sample, prompt, chosen, rejected, image or video,
          Category
own       id, label, verdict; optional copy, sample, source, category, group, question, response_1,
          response_2, image

In an upstream row r1 belongs to the response shown first: the chosen one, or the rejected one when `reverse`. In an
own row, label and verdict are positions (1 or 2) in the order shown, so the label gives the order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from proxygrm.core.errors import UserError
from proxygrm.core.files.json_lines import CUT_OFF, fault_of, value_of
from proxygrm.core.files.user_text import check_first_line
from proxygrm.core.ids import BadId, has_id, id_text, loads
from proxygrm.core.labels import BadLabel, label_in
from proxygrm.evaluate.benchmarks import Facts
from proxygrm.evaluate.rows.text import reasons_text

RIGHT, WRONG, TIE, UNPARSED = 0, 1, 2, 3
_REPEAT = re.compile(r"#\d+$")  # ingestion numbers repeated ids


class Judgement(NamedTuple):
    row: int  # line in the file, from 1
    file: int  # index of the file: each file is one sample
    key: tuple[str, int]  # (id, hash of the texts or 0): rows with the same key judge the same pair
    facts: Facts
    group: str  # the id that acc+ counts
    source: str  # of an own row, else ""
    swapped: bool | None  # the better response was shown second; None: unknown
    sample: int
    outcome: int  # RIGHT, WRONG, TIE or UNPARSED
    verdict: int  # the response chosen, in the order shown: 1, 2, or 0 for none
    recorded: bool  # right by the recorded numbers alone, as upstream's scripts count
    guessed: bool = False  # a verdict is recorded, but the critique has no <answer>: a digit in it was taken
    blind: bool = False  # a blank image replaced a missing one


class InvalidRow(ValueError):
    """Why a row cannot be scored."""


class TruncatedLine(NamedTuple):
    """A last line that is cut off."""

    file: Path
    row: int


def read_answers(files: Sequence[Path | None], partial: bool) -> tuple[list[Judgement], list[TruncatedLine]]:
    """All rows of all files; None is a sample whose file is read elsewhere. UserError names the rows that cannot be
    scored; a last line that is cut off is an error unless `partial`."""
    judgements: list[Judgement] = []
    truncated = []
    for index, path in enumerate(files):
        if path is None:
            continue
        invalid: dict[str, list[int]] = {}
        before = len(judgements)
        for row, value in _lines(path, invalid):
            try:
                judgement = judgement_of(value, row, index)
            except InvalidRow as reason:
                invalid.setdefault(str(reason), []).append(row)
            else:
                if judgement is not None:
                    judgements.append(judgement)
        cut_off = invalid.pop(_CUT_OFF, None)
        if cut_off and not invalid:
            if not partial:
                raise UserError(
                    f"{path}: the last line (row {cut_off[0]}) is cut off: the run was interrupted; finish it, or "
                    "score the complete rows with --partial",
                    code="eval.cut-off",
                    path=path,
                    row=cut_off[0],
                )
            truncated.append(TruncatedLine(path, cut_off[0]))
        if invalid:
            raise UserError(
                f"{path}: {reasons_text(invalid)}; nothing was scored, fix these rows or judge them again",
                code="eval.bad-answers",
                path=path,
                reasons=invalid,
            )
        if len(judgements) == before:
            raise UserError(
                f"{path} has no answers; pass a JSONL of {{id, rewards, reverse}} or of judgement rows",
                code="eval.no-answers",
                path=path,
            )
    return judgements, truncated


def bare_id(full_id: str, source: str) -> str:
    """The release's id: without the prefix SOURCE: and the number that ingestion adds to repeated ids. An id without
    that prefix is the release's own, "x#2" too."""
    if not source or not full_id.startswith(f"{source}:"):
        return full_id
    return _REPEAT.sub("", full_id.removeprefix(f"{source}:"))


def texts_hash(question: str, better: str, worse: str) -> int:
    """Rows of the same pair have the same, whatever file they are in."""
    return hash((question, better, worse))


_CUT_OFF = f"the line is {CUT_OFF}"


def _lines(path: Path, invalid: dict[str, list[int]]) -> Iterator[tuple[int, Any]]:
    import orjson

    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {problem}; pass the JSONL file of answers", code="eval.answers-missing", path=path)
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
                    yield number, value_of(text)  # accepts NaN and lone surrogates, which orjson rejects
                except ValueError:
                    invalid.setdefault(f"the line is {fault_of(line)}", []).append(number)


def judgement_of(row: Any, number: int, file: int = 0) -> Judgement | None:
    """One row, of either kind; None for the first line of a row file, which records what made it. Raises InvalidRow."""
    if type(row) is not dict:
        raise InvalidRow("the line is not a JSON object")
    if "rewards" in row:
        return _upstream(row, number, file)
    if "verdict" in row:
        return _own(row, number, file)
    if set(row) == {"made_by"}:
        return None
    raise InvalidRow("neither `rewards` nor `verdict`")


def _upstream(row: dict[str, Any], number: int, file: int) -> Judgement:
    get = row.get
    row_id = get("id", get("ID"))
    row_id = _id(row_id)
    rewards = row["rewards"]
    if type(rewards) is not list or len(rewards) != 2:
        raise InvalidRow("`rewards` is not a pair of numbers")
    first, second = rewards
    if type(first) not in _NUMBERS or type(second) not in _NUMBERS:
        raise InvalidRow("`rewards` is not a pair of numbers")
    if first - first != 0 or second - second != 0:  # NaN and infinities
        raise InvalidRow("`rewards` holds NaN or an infinity")
    reverse = get("reverse")
    if reverse is not None and type(reverse) is not bool and reverse not in (0, 1):
        raise InvalidRow("`reverse` is neither true nor false")
    critic = get("critic")
    generative = isinstance(critic, str)
    recorded = first < second if reverse else first > second
    if isinstance(critic, str) and "1" not in critic and "2" not in critic:
        outcome, verdict = UNPARSED, 0  # the critique has no verdict, whatever `rewards` says
    elif first == second:
        outcome, verdict = UNPARSED if generative else TIE, 0
    else:
        outcome, verdict = RIGHT if recorded else WRONG, 1 if first > second else 2
    texts = 0
    if "chosen" in row:
        texts = texts_hash(str(get("prompt")), str(row["chosen"]), str(get("rejected")))
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
    guessed = isinstance(critic, str) and verdict > 0 and "<answer>" not in critic
    return Judgement(
        number, file, (row_id, texts), facts, row_id, "", swapped, _sample(row), outcome, verdict, recorded, guessed
    )


def _own(row: dict[str, Any], number: int, file: int) -> Judgement:
    get = row.get
    source, full_id = str(get("source") or ""), get("id")
    full_id = _id(full_id)
    value = row["verdict"]
    try:
        label = label_in(row)
    except BadLabel as error:
        reason = {"labels_differ": "two fields disagree about the label", "no_label": "no label"}
        raise InvalidRow(reason.get(error.cause, "`label` is neither 1 nor 2")) from None
    if value == "tie":
        outcome, verdict = TIE, 0
    elif value is None:
        outcome, verdict = UNPARSED, 0
    elif value in (1, 2) and type(value) is not bool:
        outcome, verdict = (RIGHT if value == label else WRONG), int(value)
    else:
        raise InvalidRow("`verdict` is not 1, 2, tie or null")
    numbered = full_id.removeprefix(f"{source}:") if source else full_id
    bare = bare_id(full_id, source)
    texts = 0
    if "response_1" in row and "response_2" in row:
        better, worse = ("response_1", "response_2") if label == 1 else ("response_2", "response_1")
        texts = texts_hash(str(get("question")), str(row[better]), str(row[worse]))
    key = (f"{numbered}#{get('copy')}" if get("copy") else numbered) if not texts else bare
    facts = Facts(
        bare, str(get("category") or ""), _released_path(get("image_released") or get("image") or get("video")), bare
    )
    group = str(get("group") or bare)
    blind = get("image_missing") is True
    return Judgement(
        number, file, (key, texts), facts, group, source, label == 2, _sample(row), outcome, verdict, outcome == RIGHT,
        blind=blind,
    )  # fmt: skip


def _id(value: Any) -> str:
    if type(value) is str and value:
        return value
    if not has_id(value):
        raise InvalidRow("no id")
    try:
        return id_text(value)
    except BadId as error:
        raise InvalidRow(str(error)) from None


_NUMBERS = (int, float)
_HEX = set("0123456789abcdef")


def _released_path(image: Any) -> str:
    """ "" for an image in a store, whose file name is a hash: its path does not tell where it was in the release."""
    if type(image) is not str:
        return ""
    stem = image.rpartition("/")[2].partition(".")[0]
    return "" if len(stem) == 64 and not set(stem) - _HEX else image


def _sample(row: dict[str, Any]) -> int:
    sample = row.get("sample")
    if sample is None:
        return 0
    if type(sample) is not int or sample < 0:
        raise InvalidRow("`sample` is not a number from 0")
    return sample
