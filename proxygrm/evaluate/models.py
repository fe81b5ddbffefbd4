"""Several models over the same pairs, each an `eval run`, and the proxy's judgement of their rubrics.

ANSWERS/models/TAG/raw/  a model's raw answers in shards, `run`
ANSWERS/proxy/raw/       the proxy's, to the rubrics of all models
OUT/TAG.jsonl            one judgement per line (`ordered_pair.judged_row`), in the order of the pairs
OUT/summary.json         {TAG: figures}: the figures of `eval score`, and `metrics.summarise`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.core.runtime.tracking import track
from proxygrm.critique.contract import rubric_for_proxy
from proxygrm.evaluate.benchmarks import benchmark_of
from proxygrm.evaluate.judges.base import Progress
from proxygrm.evaluate.judges.by_rubric import PairWithRubric, rubric_judge, with_rubric
from proxygrm.evaluate.judges.endpoint import Endpoint
from proxygrm.evaluate.judges.loaded import one_engine
from proxygrm.evaluate.judging import no_progress
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.rows.answers import bare_id
from proxygrm.evaluate.rows.ordered_pair import OrderedPair, proxy_fields
from proxygrm.evaluate.rows.pairs import load_pairs
from proxygrm.evaluate.rows.row_file import Row, write_rows
from proxygrm.evaluate.run import PreparedRun, Run, expected_size, merged_rows, prepare_run, run_shard
from proxygrm.evaluate.scores import score as scoring
from proxygrm.evaluate.scores.metrics import summarise
from proxygrm.evaluate.settings import EvaluateSettings
from proxygrm.evaluate.shards import collect_shard, read_answers, refuse_missing

PAIRS = "pairs"


@dataclass(frozen=True)
class Evaluation:
    models: Mapping[str, Endpoint | Path]
    """{tag: checkpoint}, in the order they are judged in; a tag becomes a file name."""
    proxy: Endpoint | Path | None
    """Judges by the rubrics of all models; None leaves that out."""
    pairs: Path
    answers: Path
    """Folder of the raw answers, from which an interrupted evaluation resumes."""
    settings: EvaluateSettings
    bench: str = PAIRS
    """The benchmark that the pairs are, scored as such; of plain pairs the rows' own sources decide."""
    blank: str = ""
    """As of `Run`."""

    def prepare(self) -> dict[str, PreparedRun]:
        """Read and check everything before a model is loaded. UserError says what is wrong."""
        for tag in self.models:
            check_file_name(tag)
        pairs = load_pairs(self.pairs)
        folder = self.answers / "models"
        runs = {
            tag: Run(judge, self.pairs, self.bench, folder / tag, self.settings, self.blank)
            for tag, judge in self.models.items()
        }
        return {tag: prepare_run(run, pairs) for tag, run in runs.items()}


@one_engine()
def judge_models(evaluation: Evaluation, index: int = 0, count: int = 1, progress: Progress = no_progress) -> None:
    """Judge part `index` (from 0) of `count` of the pairs with every model, then their rubrics with the proxy."""
    runs = evaluation.prepare()
    requests = {tag: prepared.shard(index, count) for tag, prepared in runs.items()}
    per_model = max(map(len, requests.values()), default=0)
    total = per_model * len(runs) * (2 if evaluation.proxy else 1)
    by_rubric: dict[str, list[PairWithRubric | None]] = {}
    for number, (tag, prepared) in enumerate(runs.items()):
        answers = run_shard(prepared, index, count, _shifted(progress, per_model * number, total, tag))
        by_rubric[tag] = _by_rubric(requests[tag], (answers[request.key]["text"] for request in requests[tag]))
    if evaluation.proxy:
        judge = rubric_judge(evaluation.proxy, evaluation.settings)
        report = _shifted(progress, per_model * len(runs), total, "the proxy")
        collect_shard(judge, _distinct(by_rubric), _proxy_answers(evaluation), index, count, report)
    progress(total, total, "judged")


def merge_models(evaluation: Evaluation, out: Path) -> dict[str, Row]:
    """Write rows and summary from the answers of all shards; return the summary. UserError when some are missing."""
    runs = evaluation.prepare()
    rows_by_tag = {tag: merged_rows(prepared)[0] for tag, prepared in runs.items()}
    if evaluation.proxy:
        _add_proxy_verdicts(evaluation, evaluation.proxy, runs, rows_by_tag)
    summary = {}
    for tag, rows in rows_by_tag.items():
        write_rows(out / f"{tag}.jsonl", rows)
        summary[tag] = _scores(out / f"{tag}.jsonl", runs[tag]) | summarise(rows)
    write_json(out / "summary.json", summary)
    models = {tag: prepared.judging.judge.name for tag, prepared in runs.items()}
    _track(out, summary, {"pairs": str(evaluation.pairs), "models": models})
    return summary


def _by_rubric(requests: Sequence[OrderedPair], critiques: Iterable[str]) -> list[PairWithRubric | None]:
    """Rubric transfer: what the proxy judges, image, question, responses and the rubric alone. A critique without a
    closed rubric is not sent: its row keeps `proxy_asked` false."""
    return [
        with_rubric(request, rubric) if (rubric := rubric_for_proxy(critique)) else None
        for request, critique in zip(requests, critiques, strict=True)
    ]


def _distinct(by_rubric: Mapping[str, Sequence[PairWithRubric | None]]) -> list[PairWithRubric]:
    """Each request once. Those of one pair are adjacent, because they share everything before the rubric."""
    one_pair_at_a_time = zip(*by_rubric.values(), strict=True)
    return list({request.key: request for requests in one_pair_at_a_time for request in requests if request}.values())


def _add_proxy_verdicts(
    evaluation: Evaluation,
    proxy: Endpoint | Path,
    runs: Mapping[str, PreparedRun],
    rows_by_tag: Mapping[str, list[Row]],
) -> None:
    """Join the proxy's verdicts to the rows."""
    answers, _ = read_answers(rubric_judge(proxy, evaluation.settings), _proxy_answers(evaluation))
    for tag, rows in rows_by_tag.items():
        judging = runs[tag].judging
        by_rubric = _by_rubric(judging.requests, (row["critique"] for row in rows))
        refuse_missing([request for request in by_rubric if request], answers, judging.pairs)
        for row, request in zip(rows, by_rubric, strict=True):
            if request:
                row |= proxy_fields(answers[request.key], row["label"])


def _proxy_answers(evaluation: Evaluation) -> Path:
    return evaluation.answers / "proxy" / "raw"


def figures_of(file: Path, bench: str, ids: Sequence[tuple[str, str]], whole: bool) -> Row:
    """The figures of `eval score`. ids: (id, source) of each pair; whole: whether a benchmark has all its pairs. Plain
    pairs are scored as the benchmark that they belong to, if there is one and they can be."""
    if bench != PAIRS:
        return scoring.score(scoring.read(bench, [file], partial=not whole))
    expected = [bare_id(*each) for each in ids]
    of = benchmark_of(source for _, source in ids)
    notes = []
    if of:
        try:
            return scoring.score(scoring.read(of.name, [file], expected=expected))
        except UserError as error:
            notes.append(f"not scored as {of.title}: {error}")
    figures = scoring.score(scoring.read(PAIRS, [file], expected=expected))
    return figures | {"notes": [*figures["notes"], *notes]}


def _scores(file: Path, prepared: PreparedRun) -> Row:
    """A benchmark is partial where its number of pairs is of no revision."""
    ids = [(pair.id, pair.source) for pair in prepared.judging.pairs]
    return figures_of(file, prepared.run.bench, ids, expected_size(prepared)["revision"] is not None)


def _shifted(progress: Progress, before: int, total: int, judge: str) -> Progress:
    def report(done: int, _: int, note: str) -> None:
        progress(before + done, total, note if note.startswith("loading") else f"judging with {judge}")

    return report


def _track(out: Path, summary: Mapping[str, Row], config: Row) -> None:
    """One step per model, in the order of training, so that the figures form a curve."""
    with track("evaluate", out, config) as run:
        for step, figures in enumerate(summary.values()):
            numbers = {k: v for k, v in figures.items() if isinstance(v, int | float) and not isinstance(v, bool)}
            run.log({f"eval/{name}": value for name, value in numbers.items()}, step=step)
