"""What the stand-in teacher writes about a demo pair: a pure function of the texts, the fact it sees, and a style."""

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
    noun, evaluation, verdict = _compare(question, response_1, response_2, seen)
    rubric, reason = (text.format(noun=noun, fact=seen) for text in _STYLES[style % STYLES])
    return (
        f"<rubric>\n{rubric}\n<justify>{reason}</justify>\n</rubric>\n"
        f"<eval>\n{evaluation}\n</eval>\n"
        f"<answer>{verdict}</answer>"
    )


def write_judgement(question: str, response_1: str, response_2: str, seen: str) -> str:
    """The same as a judgement by R1-Reward's contract, whose reasoning ends with the better response."""
    _, evaluation, verdict = _compare(question, response_1, response_2, seen)
    return f"<think>{evaluation} So response {verdict} is better.</think><answer>{verdict}</answer>"


def _compare(question: str, response_1: str, response_2: str, seen: str) -> tuple[str, str, int]:
    """(what the question asks for, both responses against the fact, the better one)."""
    kind = read_question(question)
    if kind is None:
        raise NotADemoPair(f"not a question of the demo: {question[:80]!r}")
    facts = [read_fact(kind, response) for response in (response_1, response_2)]
    if None in facts:
        raise NotADemoPair(f"not a response of the demo: {(response_1, response_2)[facts.index(None)][:80]!r}")
    if facts.count(seen) != 1:
        raise NotADemoPair(f"the image shows {seen!r}, and the responses say {facts[0]!r} and {facts[1]!r}")
    verdict = 1 + facts.index(seen)
    # The fact first, then each response: a tiny model learns the verdict in this order.
    judgements = ("right", "wrong") if verdict == 1 else ("wrong", "right")
    evaluation = " ".join(
        f"Response {i} says {fact}: {word}." for i, (fact, word) in enumerate(zip(facts, judgements, strict=True), 1)
    )
    return KINDS[kind].noun, f"The image shows {seen}. {evaluation}", verdict
