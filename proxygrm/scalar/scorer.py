"""Scores of a trained checkpoint, by transformers: images and question are computed once for all responses to them.

A row of a batch is one item: begin, response 1, response 2 ... in one sequence. The mask keeps a response from seeing
the others, and the positions of each continue those of the beginning, so that every token computes what it would in a
sequence of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from proxygrm.core.errors import UserError
from proxygrm.scalar.checkpoint import Parts, load_parts
from proxygrm.scalar.conversation import Conversation, Item, shown

MAX_BATCH_TOKENS = 32768
"""Of a batch, padding included. Its mask has a byte for every two tokens of a row, so an item with many responses is
several rows."""


@dataclass(frozen=True)
class Score:
    """Of one item. `scores` is empty where there is a `problem`; tokens: that the model read, of the batch's padding
    none."""

    key: str
    scores: tuple[float, ...] = ()
    problem: str | None = None
    tokens: int = 0


@dataclass(frozen=True)
class _Row:
    """An item as tokens."""

    item: Item
    begin: list[int]
    responses: list[list[int]]
    lengths: list[int]
    """Tokens of each response without the end of the turn."""
    grids: Tensor | None
    pixels: Tensor | None

    @property
    def size(self) -> int:
        return len(self.begin) + sum(map(len, self.responses))

    def parts(self) -> list[_Row]:
        """The row itself, or several with some of its responses each, none larger than a batch if that is possible."""
        cuts, size = [0], len(self.begin)
        for at, response in enumerate(self.responses):
            if at > cuts[-1] and size + len(response) > MAX_BATCH_TOKENS:
                cuts.append(at)
                size = len(self.begin)
            size += len(response)
        ranges = zip(cuts, [*cuts[1:], len(self.responses)], strict=True)
        return [replace(self, responses=self.responses[a:b], lengths=self.lengths[a:b]) for a, b in ranges]


class Scorer:
    """A loaded scalar reward model. max_length: of a conversation, in tokens; max_pixels: 0 keeps the checkpoint's."""

    def __init__(
        self, model: Path, device: str = "cpu", max_length: int = 16384, max_items: int = 64, max_pixels: int = 0
    ) -> None:
        self.model, self.device, self.max_length, self.max_items = model, device, max_length, max_items
        self.parts: Parts = load_parts(model, device, max_pixels)
        self.conversation = Conversation(self.parts.processor, model)

    def scores(self, items: Iterable[Item]) -> Iterator[Score]:
        """One for each item, in any order. Raises UserError (judge.nan-scores) before anything of that batch."""
        window: list[Item] = []
        for item in items:
            window.append(item)
            if len(window) == self.max_items:
                yield from self._window(window)
                window = []
        if window:
            yield from self._window(window)

    def _window(self, items: Sequence[Item]) -> Iterator[Score]:
        rows = self._tokenised(items)
        fitting = []
        for row in rows:
            longest = len(row.begin) + max(map(len, row.responses))
            if longest > self.max_length:
                yield Score(row.item.key, problem=f"the conversation has {longest} tokens, more than {self.max_length}")
            else:
                fitting.append(row)
        small = [row for row in fitting if row.size <= MAX_BATCH_TOKENS]
        batch: list[_Row] = []
        for row in sorted(small, key=lambda row: row.size, reverse=True):  # the first of a batch is the longest
            if batch and (len(batch) + 1) * batch[0].size > MAX_BATCH_TOKENS:
                yield from self._batch(batch)
                batch = []
            batch.append(row)
        if batch:
            yield from self._batch(batch)
        for row in fitting:
            if row.size > MAX_BATCH_TOKENS:
                parts = [score for part in row.parts() for score in self._batch([part])]
                scores = tuple(value for part in parts for value in part.scores)
                yield Score(row.item.key, scores, tokens=sum(part.tokens for part in parts))

    def _tokenised(self, items: Sequence[Item]) -> list[_Row]:
        processor, tokenizer = self.parts.processor, self.parts.tokenizer
        begins = [self.conversation.begin(item.question, len(item.images)) for item in items]
        images = [image for item in items for image in item.images]
        pixels = grids = None
        if images:
            seen = processor.image_processor(images=images, return_tensors="pt")
            pixels, grids = seen["pixel_values"], seen["image_grid_thw"]
            begins = self._expanded(begins, grids)
        texts = begins + [shown(text) + self.conversation.end for item in items for text in item.responses]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        end = len(tokenizer(self.conversation.end, add_special_tokens=False)["input_ids"])
        rows, image, patch, response = [], 0, 0, len(items)
        for number, item in enumerate(items):
            own = grids[image : image + len(item.images)] if grids is not None and item.images else None
            patches = int(own.prod(-1).sum()) if own is not None else 0
            own_pixels = pixels[patch : patch + patches] if pixels is not None and patches else None
            responses = ids[response : response + len(item.responses)]
            lengths = [max(len(each) - end, 1) for each in responses]
            rows.append(_Row(item, ids[number], responses, lengths, own, own_pixels))
            image, patch, response = image + len(item.images), patch + patches, response + len(responses)
        return rows

    def _expanded(self, begins: Sequence[str], grids: Tensor) -> list[str]:
        """Each placeholder as many times as its image has tokens."""
        token, merge = self.parts.image_token, self.parts.processor.image_processor.merge_size**2
        counts = iter((grids.prod(-1) // merge).tolist())
        made = []
        for text in begins:
            first, *others = text.split(token)
            made.append(first + "".join(token * next(counts) + part for part in others))
        return made

    def _batch(self, rows: Sequence[_Row]) -> list[Score]:
        with torch.inference_mode():
            values = self._forward(rows)
        scores, at = [], 0
        for row in rows:
            own = values[at : at + len(row.responses)]
            at += len(row.responses)
            scores.append(Score(row.item.key, tuple(own), tokens=row.size))
        if bad := [score.key for score in scores if not all(map(_is_finite, score.scores))]:
            raise UserError(
                f"{self.model} scores {len(bad):,} of {len(scores):,} pairs as NaN or infinite, the first {bad[0]}; "
                "its weights or its data type are broken",
                code="judge.nan-scores",
                path=self.model,
                keys=bad,
            )
        return scores

    def _forward(self, rows: Sequence[_Row]) -> list[float]:
        """The score of every response of every row."""
        length = max(row.size for row in rows)
        ids = torch.full((len(rows), length), self.parts.pad, dtype=torch.long)
        part = torch.full((len(rows), length), -1, dtype=torch.long)  # 0: begin, 1, 2 ...: response, -1: padding
        begins = torch.zeros((len(rows), max(len(row.begin) for row in rows)), dtype=torch.long)
        inside = torch.zeros_like(begins)
        ends: list[tuple[int, int]] = []
        for number, row in enumerate(rows):
            at = 0
            for index, tokens in enumerate([row.begin, *row.responses]):
                ids[number, at : at + len(tokens)] = torch.tensor(tokens)
                part[number, at : at + len(tokens)] = index
                at += len(tokens)
                if index:
                    ends.append((number, at - 1))
            begins[number, : len(row.begin)] = torch.tensor(row.begin)
            inside[number, : len(row.begin)] = 1
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": _mask(part)}
        grids = [row.grids for row in rows if row.grids is not None]
        grid = torch.cat(grids) if grids else None
        inputs["position_ids"] = self._positions(rows, begins, inside, grid, length)
        if grid is not None:
            inputs |= {"pixel_values": torch.cat([row.pixels for row in rows if row.pixels is not None])}
            inputs |= {"image_grid_thw": grid}
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        states = self.parts.backbone(**inputs, use_cache=False).last_hidden_state
        at_rows, at_tokens = torch.tensor(ends, device=self.device).T
        scores = self.parts.head(states[at_rows, at_tokens]).squeeze(-1)
        if self.parts.length_normalisation:
            lengths = torch.tensor([count for row in rows for count in row.lengths], device=self.device)
            scores = scores / torch.log1p(lengths.float())
        values: list[float] = scores.cpu().tolist()
        return values

    def _positions(
        self, rows: Sequence[_Row], begins: Tensor, inside: Tensor, grid: Tensor | None, length: int
    ) -> Tensor:
        """(3, B, L): of the beginning as the model numbers them, of each response from there on."""
        if grid is None:
            counted = torch.arange(begins.shape[1]).expand(3, *begins.shape)
        else:
            kinds = (begins == self.parts.image_token_id).int()
            counted, _ = self.parts.backbone.get_rope_index(
                begins, mm_token_type_ids=kinds, image_grid_thw=grid, attention_mask=inside
            )
        positions = torch.zeros((3, len(rows), length), dtype=torch.long)
        for number, row in enumerate(rows):
            at = len(row.begin)
            positions[:, number, :at] = counted[:, number, :at]
            following = int(counted[:, number, :at].max()) + 1
            for tokens in row.responses:
                positions[:, number, at : at + len(tokens)] = following + torch.arange(len(tokens))
                at += len(tokens)
        return positions


def _mask(part: Tensor) -> Tensor:
    """(B, L) parts of a sequence -> (B, 1, L, L), true where a token (row) sees another (column): those before it that
    are of the beginning or of its own part. Padding sees itself, because a softmax over nothing is NaN."""
    before = torch.ones(part.shape[1], part.shape[1], dtype=torch.bool).tril()
    same = part[:, :, None] == part[:, None, :]
    return ((same | (part[:, None, :] == 0)) & before)[:, None]


def _is_finite(score: float) -> bool:
    return score - score == 0
