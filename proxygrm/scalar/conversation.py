"""What a scalar reward model reads: images and question as the user's turn, the response as the assistant's, ended as
in training. The token that ends the turn is the one that is scored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.critique.prompts import inert


@dataclass(frozen=True)
class Item:
    """A question with the responses to score. images: decoded (PIL)."""

    key: str
    question: str
    responses: tuple[str, ...]
    images: tuple[Any, ...] = ()


def shown(text: str) -> str:
    """A text of a pair as the model sees it: control tokens and image tags defused."""
    return inert(text, contract=False).strip()


def with_critique(response: str, critique: str) -> str:
    """What a scalar reward model reads instead of a response, where a critic has written about it first. One that is
    trained on rows of this form knows it."""
    return f"{response.strip()}\n\nCritique: {critique.strip()}"


class Conversation:
    """The two halves of a conversation, by the checkpoint's chat template: what comes before a response, what after."""

    def __init__(self, processor: Any, model: Path) -> None:
        self._processor = processor
        whole = self._render("Q", 0, [{"role": "assistant", "content": [{"type": "text", "text": "A"}]}], False)
        begin = self._render("Q", 0, [], True)
        if not whole.startswith(begin + "A"):
            raise ValueError(f"the chat template of {model} does not put a response behind the generation prompt")
        self.end = whole.removeprefix(begin + "A")
        """Of the assistant's turn."""

    def begin(self, question: str, images: int) -> str:
        """All that precedes a response."""
        return self._render(shown(question), images, [], True)

    def _render(self, question: str, images: int, more: list[dict[str, Any]], generate: bool) -> str:
        content = [{"type": "image"}] * images + [{"type": "text", "text": question}]
        messages = [{"role": "user", "content": content}, *more]
        text: str = self._processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate)
        return text
