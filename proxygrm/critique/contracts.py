"""The contracts by name: how a judge is asked, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from proxygrm.core.labels import Label
from proxygrm.critique import contract, think_answer
from proxygrm.critique.prompts import grm_prompt, r1_prompt

Contract = Literal["proxy", "r1"]
PROXY_GRM: Contract = "proxy"
R1: Contract = "r1"
CONTRACTS: tuple[Contract, ...] = (PROXY_GRM, R1)
"""Proxy-GRM's critique (`contract`), and R1-Reward's judgement (`think_answer`)."""


class Reading(NamedTuple):
    """What an answer says."""

    verdict: Label | None
    reason: str | None
    """Why it cannot be used; None for a well-formed one."""
    remarks: tuple[str, ...] = ()
    """What is odd about a well-formed one."""


class Ask(Protocol):
    def __call__(self, question: str, response_1: str, response_2: str, images: int) -> str: ...


@dataclass(frozen=True)
class Kind:
    prompt: str
    """Name of the instruction (`prompts.NAMES`)."""
    ask: Ask
    """The instruction, filled."""
    read: Callable[[str], Reading]


def _read_critique(text: str) -> Reading:
    critique = contract.parse(text)
    remarks = tuple(problem.value for problem in critique.problems) if critique.reason is None else ()
    return Reading(critique.verdict, critique.reason, remarks)


def _read_judgement(text: str) -> Reading:
    judgement = think_answer.parse(text)
    return Reading(judgement.verdict, judgement.problem or None)


KINDS: Mapping[str, Kind] = {
    PROXY_GRM: Kind("grm", grm_prompt, _read_critique),
    R1: Kind("r1", r1_prompt, _read_judgement),
}
