"""An image's description in parts, {caption, key_facts, uncertain}: read from a model's answer, or from a paragraph."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from proxygrm.process.json_text import objects_in

CAPTION, FACTS, UNCERTAIN = PARTS = ("caption", "key_facts", "uncertain")
NO_IMAGE = {CAPTION: "", FACTS: [], UNCERTAIN: ["no_image_available"]}
"""What the released code shows of an image that is not loaded."""
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
