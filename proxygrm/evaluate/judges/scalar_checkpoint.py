"""A scalar reward model as a judge: its scores of both responses, from its checkpoint, by transformers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.identity import checkpoint_identity
from proxygrm.core.checkpoints.limits import context_length
from proxygrm.core.images.settle import UnreadableImage
from proxygrm.evaluate.judges.critic import Critiques, NoCritique
from proxygrm.evaluate.judges.engine import choose_device, image_of, none_accepted, one_line
from proxygrm.evaluate.rows.ordered_pair import OrderedPair
from proxygrm.evaluate.rows.row_file import Row
from proxygrm.evaluate.settings import CONTEXT, EvaluateSettings
from proxygrm.scalar.conversation import Item, with_critique
from proxygrm.scalar.layout import layout_of


class ScalarCheckpointJudge:
    """Images and question of a pair are computed once for both responses. Raises UserError for a model whose scores
    this suite cannot compute, before anything is loaded."""

    def __init__(self, model: Path, settings: EvaluateSettings) -> None:
        self.model, self.settings, self.name = Path(model), settings, str(model)
        self.critiques: Mapping[str, Critiques] | None = None
        """By the key of a request; None where responses are scored without."""
        refuse_code(self.model)  # transformers' own classes only
        layout_of(self.model)
        self.made_by: Row = {
            "model": checkpoint_identity(self.model),
            "scores_of": "scalar checkpoint",
            "max_model_len": context_length(self.model, settings.max_model_len, CONTEXT),
            "max_pixels": settings.max_pixels,
            "missing_images": settings.missing_images,
        }

    def judge(self, requests: Sequence[OrderedPair], take: Callable[[Row], None], works: bool) -> None:
        from proxygrm.scalar.scorer import Scorer

        scorer = Scorer(
            self.model,
            choose_device(self.settings.device),
            self.made_by["max_model_len"],
            self.settings.max_num_seqs,
            self.settings.max_pixels,
        )
        refused: list[Row] = []
        accepted = works

        def items() -> Iterator[Item]:
            for request in requests:
                try:
                    responses = self._read(request)
                    images = tuple(image_of(path, self.settings.missing_images) for path in request.pair.images)
                except (UnreadableImage, OSError, NoCritique) as error:
                    refused.append(_row(request.key, problem=one_line(error)))
                else:
                    yield Item(request.key, request.pair.question, responses, images)

        for score in scorer.scores(items()):
            if score.problem:
                refused.append(_row(score.key, problem=score.problem))
                continue
            accepted = True
            critiques = self.critiques[score.key].text if self.critiques else ""
            take(_row(score.key, scores=list(score.scores)) | {"text": critiques})
        if refused and not accepted:
            raise none_accepted(self.name, len(refused), refused[0]["problem"])
        for row in refused:
            take(row)

    def _read(self, request: OrderedPair) -> tuple[str, ...]:
        """What is scored. Raises NoCritique."""
        if self.critiques is None:
            return request.responses
        critiques = self.critiques[request.key].both()
        return tuple(map(with_critique, request.responses, critiques))


def _row(key: str, scores: list[float] | None = None, problem: str | None = None) -> Row:
    """As the answer of a file of scores; without scores where there is a problem."""
    row: Row = {"key": key, "text": "", "tokens": 0, "truncated": False, "problem": problem}
    return row if scores is None else row | {"scores": scores}
