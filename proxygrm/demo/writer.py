"""The stand-in teacher's critique of a demo pair: a pure function of the texts, the fact it sees, and a style."""

from __future__ import annotations

from proxygrm.demo.scenes import KINDS, read_fact, read_question

# (rubric, justification); {noun} is what the question asks for, {fact} what the image shows.
# One style: a choice of phrasings is noise that a tiny model would have to learn to ignore.
_STYLES = (("1. Names the {noun} {fact} (80%)\n2. Adds nothing else (20%)", "The {noun} is asked for."),)
STYLES = len(_STYLES)


class NotADemoPair(ValueError):
    """Question or responses are not the demo's, or not exactly one response states what was seen."""


def write_critique(question: str, response_1: str, response_2: str, seen: str, style: int = 0) -> str:
    """A well-formed critique that takes `seen` (a fact such as "red") for what the image shows.

    The rubric states the criterion with the fact, so a judge that sees only the rubric can use it.
    Raises NotADemoPair.
    """
    kind = read_question(question)
    if kind is None:
        raise NotADemoPair(f"not a question of the demo: {question[:80]!r}")
    facts = [read_fact(kind, response) for response in (response_1, response_2)]
    if None in facts:
        raise NotADemoPair(f"not a response of the demo: {(response_1, response_2)[facts.index(None)][:80]!r}")
    if facts.count(seen) != 1:
        raise NotADemoPair(f"the image shows {seen!r}, and the responses say {facts[0]!r} and {facts[1]!r}")
    verdict = 1 + facts.index(seen)
    words = {"noun": KINDS[kind].noun, "fact": seen}
    rubric, reason = (text.format(**words) for text in _STYLES[style % STYLES])
    # The fact first, then each response: a tiny model learns the verdict in this order.
    judgements = ("right", "wrong") if verdict == 1 else ("wrong", "right")
    evaluation = " ".join(
        f"Response {i} says {fact}: {word}." for i, (fact, word) in enumerate(zip(facts, judgements, strict=True), 1)
    )
    return (
        f"<rubric>\n{rubric}\n<justify>{reason}</justify>\n</rubric>\n"
        f"<eval>\nThe image shows {seen}. {evaluation}\n</eval>\n"
        f"<answer>{verdict}</answer>"
    )
