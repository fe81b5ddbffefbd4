"""The demo's task: drawn images and the questions about them.

An image is 56 x 56 (four visual tokens of Qwen2.5-VL): one shape, or one to four of the same, on grey ground. Position,
size and shade vary, so that nearly every pair has its own image. A question has one right fact and several wrong ones
of the same kind, and neither question nor responses reveal it: the image is needed. Questions about colours may show
the shape in fog, where it is hard to see: those are the demo's hard pairs.
"""

from __future__ import annotations

import io
import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

SIZE = 56
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 170, 40),
    "blue": (30, 60, 220),
    "yellow": (235, 220, 40),
}
SHAPES = ("square", "circle", "triangle", "cross")
COUNTS = ("one", "two", "three", "four")
PLACES = ("left", "right", "top", "bottom")
FOG_CONTRAST = (0.01, 0.08)  # of a shape in fog, where 1 is a clear image
FOG_NOISE = 40.0  # standard deviation of each pixel, of 255


@dataclass(frozen=True)
class Kind:
    """A kind of question. `{subject}` is named in the question besides the fact (a shape, or nothing)."""

    noun: str  # the requested fact, as rubrics call it
    question: str
    response: str
    facts: tuple[str, ...]
    subjects: tuple[str, ...]  # one combination is (subject, right fact, wrong fact)


KINDS: dict[str, Kind] = {
    "colour": Kind("colour", "What colour is the {subject}?", "{fact}", tuple(COLOURS), SHAPES),
    "shape": Kind("shape", "Which shape is drawn?", "{fact}", SHAPES, tuple(COLOURS)),
    "count": Kind("number", "How many shapes are drawn?", "{fact}", COUNTS, SHAPES),
    "position": Kind("place", "Where is the {subject}?", "{fact}", PLACES, SHAPES),
}
MOSTLY_COLOUR: Mapping[str, float] = {"colour": 0.7, "shape": 0.1, "count": 0.1, "position": 0.1}


@dataclass(frozen=True, order=True)
class Combination:
    """The facts of a pair that held-out and training pairs must not share."""

    kind: str
    subject: str
    right: str
    wrong: str

    @property
    def question(self) -> str:
        return KINDS[self.kind].question.format(subject=self.subject)

    def response(self, fact: str) -> str:
        return KINDS[self.kind].response.format(subject=self.subject, fact=fact)


def combinations(kind: str) -> list[Combination]:
    """All of a kind, in a fixed order; colour has 4 shapes x 8 colours x 7 wrong colours = 224."""
    spec = KINDS[kind]
    pairs = list(itertools.permutations(spec.facts, 2))
    return [Combination(kind, subject, right, wrong) for subject in spec.subjects for right, wrong in pairs]


def separate(kind: str, seed: int, held_out_share: float = 0.2) -> tuple[list[Combination], list[Combination]]:
    """(training, held-out) combinations of a kind, disjoint, in shuffled order.

    A combination and its mirror (right and wrong exchanged) stay together: if training saw only one of them, the
    texts alone would give the label.
    """
    rng = random.Random(f"{kind} {seed}")
    together = [c for c in combinations(kind) if c.right < c.wrong]
    rng.shuffle(together)
    held = max(1, round(len(together) * held_out_share))
    parts = []
    for part in (together[held:], together[:held]):
        both = [c for seen in part for c in (seen, replace(seen, right=seen.wrong, wrong=seen.right))]
        rng.shuffle(both)
        parts.append(both)
    return parts[0], parts[1]


def draw(combination: Combination, rng: random.Random, fog: bool = False) -> bytes:
    """A PNG that shows the combination's right fact; everything else is random."""
    from PIL import Image, ImageDraw

    kind, right = combination.kind, combination.right
    shape = right if kind == "shape" else combination.subject
    colour = right if kind == "colour" else combination.subject if kind == "shape" else rng.choice(list(COLOURS))
    ground = rng.randint(118, 138)
    shade = tuple(min(255, max(0, value + rng.randint(-12, 12))) for value in COLOURS[colour])
    image = Image.new("RGB", (SIZE, SIZE), (ground, ground, ground))
    canvas = ImageDraw.Draw(image)
    for left, top, side in _places(kind, right, rng):
        _draw_shape(canvas, shape, left, top, side, shade)
    if fog:
        image = _in_fog(image, ground, rng)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def _in_fog(image, ground: int, rng: random.Random):
    """The image with almost no contrast, and noise on every pixel."""
    import numpy as np
    from PIL import Image

    faint = ground + rng.uniform(*FOG_CONTRAST) * (np.asarray(image, dtype=float) - ground)
    noise = np.random.default_rng(rng.getrandbits(64)).normal(0.0, FOG_NOISE, faint.shape)
    return Image.fromarray(np.clip(np.round(faint + noise), 0, 255).astype(np.uint8))


def _places(kind: str, right: str, rng: random.Random) -> Iterator[tuple[int, int, int]]:
    """Left, top and side of each shape, in pixels; at least 2 pixels of ground around it."""
    if kind == "count":
        cells = rng.sample(list(itertools.product((2, 30), (2, 30))), COUNTS.index(right) + 1)
        for x, y in cells:
            side = rng.randint(16, 20)
            yield x + rng.randint(0, 23 - side), y + rng.randint(0, 23 - side), side
    elif kind == "position":
        side = rng.randint(18, 22)
        near, far = rng.randint(2, 5), SIZE - side - rng.randint(2, 5)
        middle = (SIZE - side) // 2 + rng.randint(-4, 4)
        yield {
            "left": (near, middle, side),
            "right": (far, middle, side),
            "top": (middle, near, side),
            "bottom": (middle, far, side),
        }[right]
    else:
        side = rng.randint(34, 46)
        yield rng.randint(2, SIZE - side - 3), rng.randint(2, SIZE - side - 3), side


def _draw_shape(canvas, shape: str, left: int, top: int, side: int, colour) -> None:
    right, bottom = left + side, top + side
    if shape == "square":
        canvas.rectangle((left, top, right, bottom), fill=colour)
    elif shape == "circle":
        canvas.ellipse((left, top, right, bottom), fill=colour)
    elif shape == "triangle":
        canvas.polygon([(left, bottom), (right, bottom), (left + side / 2, top)], fill=colour)
    else:
        arm = side / 3
        canvas.rectangle((left + arm, top, right - arm, bottom), fill=colour)
        canvas.rectangle((left, top + arm, right, bottom - arm), fill=colour)


# Reading the texts.


def read_question(question: str) -> str | None:
    """The kind of a demo question; None for any other question."""
    return next((name for name, kind in KINDS.items() if _pattern(kind.question, kind).fullmatch(question)), None)


def read_fact(kind: str, response: str) -> str | None:
    """The fact that a demo response states; None when it is not one of its kind."""
    match = _pattern(KINDS[kind].response, KINDS[kind]).fullmatch(response)
    return match["fact"] if match else None


def _pattern(text: str, kind: Kind) -> re.Pattern[str]:
    parts = {"subject": _one_of(kind.subjects), "fact": f"(?P<fact>{_one_of(kind.facts)})"}
    return re.compile(re.sub(r"\\\{(\w+)\\\}", lambda m: parts[m[1]], re.escape(text)))


def _one_of(words: Sequence[str]) -> str:
    return f"(?:{'|'.join(words)})"
