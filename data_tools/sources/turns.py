"""Preferences whose answers are texts or whole conversations: the prompt they share, and the two answers to it.

Releases have `chosen` and `rejected` as a text beside a prompt, as turns {role, content} or as turns {from, value}
(through `datasets` also as one object of two lists), and turns repeat the prompt. What both sides have in common is
the prompt, whatever a field of that name says. A prompt of several turns becomes one text with a line for each
speaker (note `several_turns`), because a pair has one question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from data_tools.sources.base import Excluded, RawPair, unknown_layout

_ROLES = {"human": "user", "prompter": "user", "gpt": "assistant", "model": "assistant"}


class Texts(NamedTuple):
    """The texts of a pair."""

    question: Any
    chosen: Any
    rejected: Any
    note: str = ""


class Turn(NamedTuple):
    role: str
    text: Any


def texts_of(
    row: Mapping[str, Any], prompt: str = "prompt", sides: Sequence[str] = ("chosen", "rejected")
) -> Texts | Excluded:
    """`Texts` of a row, or why it has none (`Excluded`). prompt: the field of it, where answers are plain texts."""
    better, worse = (row.get(side) for side in sides)
    if isinstance(better, str) and isinstance(worse, str):
        return without_prompt(row.get(prompt), better, worse)
    conversations = turns_of(better), turns_of(worse)
    if conversations[0] is None or conversations[1] is None:
        return unknown_layout(row, f"texts or turns in {sides[0]} and {sides[1]}")
    return answers_to_one_prompt(conversations[0], conversations[1])


def text_pair(row: Mapping[str, Any], id: Any, note: str = "") -> RawPair | Excluded:
    """The pair of a row {prompt, chosen, rejected, source} without images. note: counts where the texts have none."""
    texts = texts_of(row)
    if isinstance(texts, Excluded):
        return texts._replace(id=id)
    category = str(row.get("source") or "")
    return RawPair(id, texts.question, texts.chosen, texts.rejected, (), category=category, note=texts.note or note)


def without_prompt(prompt: Any, chosen: str, rejected: str) -> Texts:
    """Answers that both start with a line of the prompt lose it (note `prompt_in_answers`); where only one of them
    does, both stay as they are (note `prompt_in_one_answer`)."""
    if not isinstance(prompt, str) or not prompt.strip():
        return Texts(prompt, chosen, rejected)
    answers = [_after(prompt.rstrip(), answer) for answer in (chosen, rejected)]
    if None not in answers:
        return Texts(prompt, answers[0], answers[1], "prompt_in_answers")
    return Texts(prompt, chosen, rejected, "" if answers == [None, None] else "prompt_in_one_answer")


def pair_without_prompt(pair: RawPair) -> RawPair:
    """The pair after `without_prompt`."""
    if not (isinstance(pair.chosen, str) and isinstance(pair.rejected, str)):
        return pair
    texts = without_prompt(pair.question, pair.chosen, pair.rejected)
    return pair._replace(chosen=texts.chosen, rejected=texts.rejected, note=texts.note or pair.note)


def _after(prompt: str, answer: str) -> str | None:
    """The answer without the prompt that is its first line; None if it is not."""
    if not answer.startswith(prompt):
        return None
    rest = answer[len(prompt) :]
    return rest.lstrip("\r\n") if rest.startswith(("\n", "\r\n")) else None


def turns_of(value: Any) -> list[Turn] | None:
    """The turns of a conversation; None if the value is not one."""
    if isinstance(value, Mapping):
        value = _of_columns(value)
    if not isinstance(value, list) or not value:
        return None
    turns = []
    for turn in value:
        if not isinstance(turn, Mapping):
            return None
        role = turn.get("role", turn.get("from"))
        if not isinstance(role, str):
            return None
        role = role.strip().lower()
        turns.append(Turn(_ROLES.get(role, role), _text(turn.get("content", turn.get("value")))))
    return turns


def _of_columns(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """{role: [...], content: [...]} -> the list of its turns."""
    columns = list(value.values())
    if not columns or not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        return None
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _text(content: Any) -> Any:
    """The text of a turn; of a list of parts, that of its text parts."""
    if isinstance(content, list) and all(isinstance(part, Mapping) for part in content):
        return "\n".join(str(part["text"]) for part in content if isinstance(part.get("text"), str))
    return content


def answers_to_one_prompt(chosen: Sequence[Turn], rejected: Sequence[Turn]) -> Texts | Excluded:
    """The common prompt, and the answer with which each conversation ends."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == len(chosen) == len(rejected):
        return Excluded("same_responses", bad=False)
    if not shared or chosen[shared - 1].role != "user":
        return Excluded("no_common_prompt", f"the conversations differ from turn {shared + 1} on, before any question")
    answers = chosen[shared:], rejected[shared:]
    if any(not answer or answer[0].role != "assistant" for answer in answers):
        return Excluded("no_answer", "a conversation ends without an answer to the common prompt")
    if any(len(answer) > 1 for answer in answers):
        return Excluded("several_turns", f"{max(map(len, answers))} turns after the common prompt", bad=False)
    prompt = chosen[:shared]
    better, worse = answers[0][0].text, answers[1][0].text
    if isinstance(better, str) and isinstance(worse, str):
        texts = without_prompt(prompt[-1].text, better, worse)
    else:
        texts = Texts(prompt[-1].text, better, worse)
    if len(prompt) == 1:
        return texts
    if not all(isinstance(turn.text, str) for turn in prompt):
        return Excluded("not_text", "a turn of the prompt is not a text")
    question = "\n\n".join(f"{turn.role.capitalize()}: {turn.text}" for turn in prompt)
    return Texts(question, texts.chosen, texts.rejected, texts.note or "several_turns")
