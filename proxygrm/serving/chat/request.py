"""The body of a chat request: images, then text. It is assembled from bytes, because images are large."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.images.settle import UnreadableImage, settle


@dataclass(frozen=True)
class ChatRequest:
    """head, tail: the JSON before and after the image parts."""

    head: bytes
    tail: bytes

    @classmethod
    def build(
        cls,
        model: str,
        prompt: str,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        answer_start: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> ChatRequest:
        """prompt: the instruction, without `<image>` tags. max_tokens: of the answer. answer_start: the first words of
        the answer, which the model continues (vLLM and SGLang). extra: further fields of the API, such as `seed`.

        The images come first and the prompt last: the layout of training, and of a shared prefix in the KV cache.
        """
        fields = {"model": model, "temperature": temperature, "max_tokens": max_tokens, **(extra or {})}
        end = b"]}]}"
        if answer_start:
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
            end = b"]}," + json.dumps({"role": "assistant", "content": answer_start}).encode() + b"]}"
        text = json.dumps({"type": "text", "text": prompt}).encode()
        head = json.dumps(fields).encode()[:-1] + b',"messages":[{"role":"user","content":['
        return cls(head, text + end)

    def body(self, image_parts: Sequence[bytes] = ()) -> bytes:
        return self.head + b",".join([*image_parts, self.tail])


def image_part(url: bytes, uuid: str = "") -> bytes:
    """JSON of a message part with its image. url: JSON of the URL. uuid: for vLLM to remember the image by."""
    remember = b',"uuid":"%s"' % uuid.encode() if uuid else b""
    return b'{"type":"image_url","image_url":{"url":%s}%s}' % (url, remember)


def image_part_by_uuid(uuid: str) -> bytes:
    """The same for an image that the server remembers."""
    return b'{"type":"image_url","image_url":null,"uuid":"%s"}' % uuid.encode()


def data_url(content: bytes, media_type: str) -> bytes:
    """JSON of the data URL."""
    return b'"data:%s;base64,%s"' % (media_type.encode(), base64.b64encode(content))


def settled_data_url(content: bytes) -> bytes:
    """Of the image as every consumer sees it, under its true type. Raises UnreadableImage."""
    settled = settle(content, decode=False)
    return data_url(settled.data, settled.media_type)


def image_part_of_file(path: Path) -> bytes:
    """Raises OSError for a file that is missing or that is not an image."""
    try:
        return image_part(settled_data_url(path.read_bytes()))
    except UnreadableImage as error:
        raise OSError(f"{path}: {error}") from error
