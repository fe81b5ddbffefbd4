"""Instructions of process reward: describe the image, audit a checklist, judge a step, write a solution; and what a
teacher is asked besides: judge all steps of a solution, plant errors in a description.

The images come first and what differs last: the steps of one solution share everything before the last of them, and the
solutions of one question share image, question and description (prefix cache).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from proxygrm.critique.prompts import SLOT, fill, inert, template

DESCRIBE, AUDIT, STEP, POLICY = "process_describe", "process_audit", "process_step", "process_policy"
JUDGEMENTS, CONTRADICT = "process_judgements", "process_contradict"
VISION, VISION_SHORT = "process_vision", "process_vision_short"
"""Of studies: the image as {"caption", "key_facts", "uncertain"}."""
STEP_LENIENT, STEP_NO_VISION = "process_step_lenient", "process_step_no_vision"
"""Of studies, in place of STEP: a step in doubt is right; the text alone counts, and no description is shown."""
SOLVE = "process_solve"
"""Of studies, in place of POLICY: a question with its image, a description, both or neither."""
UNKNOWN = "(no description)"
"""What stands for a description that there is not."""
OUTCOMES = {True: "right", False: "wrong", None: "right or wrong: it is not known which"}
"""How a teacher is told whether a solution is right."""


def describe_prompt(question: str) -> str:
    """Asks for {"image_description": ...}."""
    return fill(DESCRIBE, {"question": question})


def audit_prompt(description: str, checklist: str) -> str:
    """Asks for {"errors_and_hallucinations", "omissions", "p_score"}. checklist: one claim per line."""
    return fill(AUDIT, {"description": description, "checklist": checklist})


def vision_prompt(question: str, name: str = VISION) -> str:
    """Asks for {"caption", "key_facts", "uncertain"}. name: VISION or VISION_SHORT."""
    return fill(name, {"question": question})


def step_prompt(question: str, description: str, steps: Sequence[str], first: int = 1, name: str = STEP) -> str:
    """Asks for 1 or -1 about the last of `steps`. first: the number of the first one shown. name: the instruction."""
    values = {"question": question, "description": description or UNKNOWN, "steps": _numbered(steps, first)}
    return fill(name, values | {"number": str(first + len(steps) - 1)})


def policy_prompt(question: str) -> str:
    """Asks for {"reasoningprocess", "finalanswer"}."""
    return fill(POLICY, {"question": question})


def solve_prompt(question: str, description: str) -> str:
    """Asks for what `policy_prompt` does."""
    return fill(SOLVE, {"question": question, "description": description or UNKNOWN})


def judgements_prompt(question: str, description: str, steps: Sequence[str], right: bool | None) -> str:
    """Asks for [{"step", "score", "category", "visualdependency"}, ...], one for each step. right: the solution as a
    whole; None where that is not known."""
    values = {"question": question, "description": description or UNKNOWN, "steps": _numbered(steps)}
    return fill(JUDGEMENTS, values | {"number": str(len(steps)), "decision": OUTCOMES[right]})


def contradict_prompt(question: str, description: str) -> str:
    """Asks for {"image_description": ...} with errors planted in the description."""
    return fill(CONTRADICT, {"question": question, "description": description})


def _numbered(steps: Sequence[str], first: int = 1) -> str:
    return "\n".join(f"Step {number}: {text.strip()}" for number, text in enumerate(steps, first))


def question_prompt(question: str, instruction: str = "", steps: bool = False) -> str:
    """What a policy is asked, without image tags. instruction: follows the question. steps: asks for a solution in
    steps, as `policy_prompt` does, and for nothing else."""
    if steps:
        return policy_prompt(question)
    return "\n".join(filter(None, (inert(question, contract=False).strip(), instruction.strip())))


def read_prompt(name: str, text: str) -> dict[str, str] | None:
    """The values in a filled instruction; None for any other text."""
    parts = SLOT.split(template(name))  # text, slot, text, slot, ..., text
    pattern = "".join(f"(?P<{part}>.*)" if at % 2 else re.escape(part) for at, part in enumerate(parts))
    match = re.fullmatch(pattern, text.strip(), re.DOTALL)
    return match.groupdict() if match else None
