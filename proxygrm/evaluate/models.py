"""Judge pairs with one model after another, then let the proxy judge by the rubrics they wrote.

DIR/parts/TAG.critiques.jsonl   answers of a model as they arrive; an interrupted run resumes from here
DIR/parts/proxy.verdicts.jsonl  answers of the proxy to the rubrics of all models
DIR/TAG.jsonl                   one judgement row (`ordered_pair.judged_row`) per line, in the order of the pairs
DIR/summary.json                {TAG: figures}: the figures of `eval score`, and `metrics.summarise`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.core.runtime.tracking import track
from proxygrm.critique.contract import rubric_for_proxy
from proxygrm.evaluate.benchmarks import benchmark_of
from proxygrm.evaluate.judges.base import CheckpointJudge, Progress
from proxygrm.evaluate.judges.by_rubric import rubric_judge, with_rubric
from proxygrm.evaluate.judging import collect_answers, no_progress, prepare
from proxygrm.evaluate.names import check_file_name
from proxygrm.evaluate.rows.answers import bare_id
from proxygrm.evaluate.rows.ordered_pair import OrderedPair, proxy_fields
from proxygrm.evaluate.rows.pairs import EvalPair, load_pairs
from proxygrm.evaluate.rows.row_file import Row, write_rows
from proxygrm.evaluate.scores import score as scoring
from proxygrm.evaluate.scores.metrics import summarise
from proxygrm.evaluate.settings import EvaluateSettings


def evaluate_models(
    models: Mapping[str, Path],
    proxy: Path | None,
    pairs_path: Path,
    out: Path,
    settings: EvaluateSettings,
    progress: Progress = no_progress,
) -> dict[str, Row]:
    """Judge the pairs with every model, then the rubrics with the proxy; write rows and summary, and return the latter.

    models: {tag: checkpoint}; a tag becomes a file name. proxy: None leaves rubric transfer out.
    """
    for tag in models:
        check_file_name(tag)
    pairs = load_pairs(pairs_path)
    judgings = {tag: prepare(CheckpointJudge(Path(path), settings), pairs, settings) for tag, path in models.items()}
    per_model = max((len(judging.requests) for judging in judgings.values()), default=0)
    total = per_model * len(models) * (2 if proxy else 1)
    rows_by_tag: dict[str, list[Row]] = {}
    for number, (tag, judging) in enumerate(judgings.items()):
        report = _shifted(progress, per_model * number, total)
        rows_by_tag[tag] = judging.rows(out / "parts" / f"{tag}.critiques.jsonl", report)
    if proxy:
        report = _shifted(progress, per_model * len(models), total)
        requests = {tag: judging.requests for tag, judging in judgings.items()}
        add_proxy_verdicts(Path(proxy), requests, rows_by_tag, settings, out / "parts" / "proxy.verdicts.jsonl", report)
    summary = {}
    for tag, rows in rows_by_tag.items():
        write_rows(out / f"{tag}.jsonl", rows)
        summary[tag] = _scores(out / f"{tag}.jsonl", judgings[tag].pairs) | summarise(rows)
    write_json(out / "summary.json", summary)
    _track(out, summary, {"pairs": str(pairs_path), "models": {tag: str(path) for tag, path in models.items()}})
    progress(total, total, "done")
    return summary


def add_proxy_verdicts(
    proxy: Path,
    requests_by_tag: Mapping[str, Sequence[OrderedPair]],
    rows_by_tag: Mapping[str, list[Row]],
    settings: EvaluateSettings,
    file: Path,
    progress: Progress = no_progress,
) -> None:
    """Rubric transfer: the proxy sees image, question, responses and the rubric alone; its verdicts join the rows.

    A critique without a closed rubric is not sent: its row keeps `proxy_asked` false. One loaded proxy judges the
    rubrics of all tags, those of one pair together, because they share everything before the rubric.
    """
    by_rubric = {
        tag: [
            with_rubric(request, rubric) if (rubric := rubric_for_proxy(row["critique"])) else None
            for request, row in zip(requests, rows_by_tag[tag], strict=True)
        ]
        for tag, requests in requests_by_tag.items()
    }
    distinct = {
        request.key: request
        for of_one_pair in zip(*by_rubric.values(), strict=True)
        for request in of_one_pair
        if request
    }
    answers = collect_answers(rubric_judge(proxy, settings), list(distinct.values()), file, progress)
    for tag, requests in by_rubric.items():
        for row, request in zip(rows_by_tag[tag], requests, strict=True):
            if request:
                row |= proxy_fields(answers[request.key], row["label"])


def _scores(file: Path, pairs: Sequence[EvalPair]) -> Row:
    """The figures of `eval score`; as plain pairs where the rows belong to no benchmark, or cannot be scored as one."""
    expected = [bare_id(pair.id, pair.source) for pair in pairs]
    bench = benchmark_of(pair.source for pair in pairs)
    notes = []
    if bench:
        try:
            return scoring.score(scoring.read(bench.name, [file], expected=expected))
        except UserError as error:
            notes.append(f"not scored as {bench.title}: {error}")
    figures = scoring.score(scoring.read("pairs", [file], expected=expected))
    return figures | {"notes": [*figures["notes"], *notes]}


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _, note: progress(before + done, total, note)


def _track(out: Path, summary: Mapping[str, Row], config: Row) -> None:
    """One step per model, in the order of training, so that the figures form a curve."""
    with track("evaluate", out, config) as run:
        for step, figures in enumerate(summary.values()):
            numbers = {k: v for k, v in figures.items() if isinstance(v, int | float) and not isinstance(v, bool)}
            run.log({f"eval/{name}": value for name, value in numbers.items()}, step=step)
