"""A thought before the answer."""

from __future__ import annotations


def after_thought(text: str, truncated: bool) -> str:
    """What follows the `<think>` of an answer that was cut off: a verdict weighed in the thought does not count.
    Complete answers are returned unchanged, since the contract decides what counts in them."""
    if truncated and text.lstrip().startswith("<think>"):
        return text.rpartition("</think>")[2] if "</think>" in text else ""
    return text
