"""An image's description as studies ask for it: a paragraph, or {caption, key_facts, uncertain}; and corrupted."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from typing import Any, Literal

from proxygrm.critique.prompts.process import DESCRIBE, VISION, VISION_SHORT, describe_prompt, vision_prompt
from proxygrm.process.corrupt import WITH_RATIO, corrupt
from proxygrm.process.json_text import objects_in
from proxygrm.process.stages import Description, why_unreadable, without_thought

CAPTION, FACTS, UNCERTAIN = PARTS = ("caption", "key_facts", "uncertain")
NO_IMAGE = {CAPTION: "", FACTS: [], UNCERTAIN: ["no_image_available"]}
"""What the released code shows of an image that is not loaded."""
DescribedBy = Literal["paragraph", "structured", "structured_short"]
PARAGRAPH: DescribedBy = "paragraph"
DESCRIBED_BY: dict[str, str] = {PARAGRAPH: DESCRIBE, "structured": VISION, "structured_short": VISION_SHORT}
"""The instruction of each."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+")

Structured = dict[str, Any]


def read_structured(text: str) -> Structured | None:
    """The last JSON object of the text that says something in one of the parts; None where there is none. Other keys
    are left out."""
    for value in reversed(objects_in(text)):
        if any(value.get(part) for part in PARTS):
            return {
                CAPTION: value.get(CAPTION) or "",
                FACTS: _listed(value.get(FACTS)),
                UNCERTAIN: _listed(value.get(UNCERTAIN)),
            }
    return None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def of_paragraph(text: str) -> Structured:
    """The first sentence is the caption, each other one a fact."""
    first, *others = _SENTENCE.split(text.strip())
    return {CAPTION: first, FACTS: others, UNCERTAIN: []}


def as_paragraph(parts: Mapping[str, Any]) -> str:
    """Caption and facts as sentences: of `of_paragraph` the text itself, with single blanks."""
    return " ".join(text for text in (parts[CAPTION], *parts[FACTS]) if text)


def as_json(parts: Mapping[str, Any]) -> str:
    return json.dumps({part: parts[part] for part in PARTS}, ensure_ascii=False)


def asks_to_describe(question: str, kind: DescribedBy) -> str:
    """The extractor's prompt."""
    return describe_prompt(question) if kind == PARAGRAPH else vision_prompt(question, DESCRIBED_BY[kind])


def described(answer: Mapping[str, Any], kind: DescribedBy) -> Description:
    """The extractor's answer as it is shown: a paragraph, or the parts as JSON."""
    if kind == PARAGRAPH:
        return Description.of(answer)
    raw = str(answer["text"])
    parts = read_structured(without_thought(raw))
    return Description(raw, as_json(parts)) if parts else Description(raw, "", why_unreadable(answer))


def corrupted(text: str, kind: DescribedBy, mode: str, rng: random.Random, ratio: float) -> str:
    """The text of a readable description after `corrupt`. ratio: of the modes that have one."""
    parts = of_paragraph(text) if kind == PARAGRAPH else read_structured(text)
    changed, _ = corrupt(parts, mode, rng, ratio if mode in WITH_RATIO else None)
    return as_paragraph(changed) if kind == PARAGRAPH else as_json(changed)
