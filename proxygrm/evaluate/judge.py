"""Judge pairs with one model after another, then let the proxy judge by the rubrics they wrote.

DIR/parts/TAG.critiques.jsonl   answers of a model as they come; an interrupted run goes on from here
DIR/parts/proxy.verdicts.jsonl  answers of the proxy to the rubrics of all models
DIR/TAG.jsonl                   one row a judgement (`shown.judged_row`), in the order of the pairs
DIR/summary.json                {TAG: figures}: what `eval score` says of the rows, and `metrics.summarise`
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from proxygrm.core.errors import UserError
from proxygrm.core.files.whole_file import write_json
from proxygrm.core.runtime.tracking import track
from proxygrm.critique.contract import rubric_for_proxy
from proxygrm.critique.prompts import proxy_prompt
from proxygrm.evaluate.benchmarks import BENCHMARKS
from proxygrm.evaluate.judges.base import CheckpointJudge, Progress, answer_row, answered, checkpoint_identity, made_by
from proxygrm.evaluate.judges.engine import Engine, Request, open_engine
from proxygrm.evaluate.rows.answers import bare_id
from proxygrm.evaluate.rows.pairs import EvalPair, check_pairs, load_pairs, with_images
from proxygrm.evaluate.rows.row_file import Row, RowFile, write_rows
from proxygrm.evaluate.rows.shown import Shown, judged_row, shown_in_orders
from proxygrm.evaluate.scores import score as scoring
from proxygrm.evaluate.scores.metrics import summarise
from proxygrm.evaluate.settings import EvaluateSettings

__all__ = ["checkpoint_identity", "evaluate_models", "judge_pairs", "judge_rubrics"]

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def judge_pairs(
    model: Path,
    pairs: Sequence[EvalPair],
    settings: EvaluateSettings,
    out_file: Path,
    progress: Progress = lambda done, total, note: None,
) -> list[Row]:
    """Every pair judged by `model`; rows as in TAG.jsonl (proxy fields empty), in the order of the pairs.

    `out_file` takes the raw answers; what stands there already is not asked again. UserError when the file
    was begun with another model, prompt or setting.
    """
    pairs = with_images(pairs, settings.missing_images)
    check_pairs(pairs, settings.missing_images)
    shown = _shown(pairs, settings)
    answers = answered(CheckpointJudge(model, settings), shown, out_file, progress)
    return [judged_row(s, answers[s.key]) for s in shown]


def judge_rubrics(
    proxy: Path,
    pairs: Sequence[EvalPair],
    judged: Mapping[str, Sequence[Row]],
    settings: EvaluateSettings,
    out_file: Path,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, list[Row]]:
    """Rubric transfer (SPEC section 1): the proxy sees picture, question, responses and the rubric alone.

    `judged` are the rows of `judge_pairs` by tag. Rows without a closed rubric are not sent: they keep
    `proxy_asked` false. All tags go through one loaded proxy, row by row, because they share everything
    before the rubric.
    """
    shown = _shown(pairs, settings)
    prompts: list[tuple[str, str, Shown]] = []
    for index, s in enumerate(shown):
        for tag, rows in judged.items():
            if rubric := rubric_for_proxy(rows[index]["critique"]):
                key = f"{tag}/{s.key}/{hashlib.sha256(rubric.encode()).hexdigest()[:12]}"
                prompts.append((key, rubric, s))
    with RowFile(out_file, made_by(proxy, "proxy", settings, settings.proxy_max_tokens)) as file:
        answers = {row["key"]: row for row in file.rows}
        missing = [p for p in prompts if p[0] not in answers]
        if missing:
            done = len(prompts) - len(missing)
            progress(done, len(prompts), f"loading {proxy}")
            with open_engine(proxy, settings, _most_images(pairs)) as engine:
                requests = (
                    Request(key, proxy_prompt(s.pair.question, *s.responses, rubric, images=0), s.pair.images)
                    for key, rubric, s in missing
                )
                for row in _run(engine, requests, settings.proxy_max_tokens, file):
                    answers[row["key"]] = row
                    done += 1
                    progress(done, len(prompts), "judging by the rubrics with the proxy")
    by_row = {key.rsplit("/", 1)[0]: answers[key] for key, _, _ in prompts}
    return {
        tag: [judged_row(s, _as_answer(row), by_row.get(f"{tag}/{s.key}")) for s, row in zip(shown, rows, strict=True)]
        for tag, rows in judged.items()
    }


def evaluate_models(
    models: Mapping[str, Path],
    proxy: Path | None,
    pairs_path: Path,
    out: Path,
    settings: EvaluateSettings,
    progress: Progress = lambda done, total, note: None,
) -> dict[str, Row]:
    """Judge the pairs with every model, then the rubrics with the proxy; write rows and summary, return it.

    models: {tag: checkpoint}; a tag becomes a file name. proxy: None leaves rubric transfer out.
    """
    for tag in models:
        if not _TAG.fullmatch(tag):
            raise UserError(f"{tag!r} cannot be a model tag: letters, digits, dots, dashes and underscores only")
    pairs = load_pairs(pairs_path)
    pairs = pairs[: settings.max_pairs] if settings.max_pairs else pairs
    pairs = with_images(pairs, settings.missing_images)
    check_pairs(pairs, settings.missing_images)
    per_model = len(_shown(pairs, settings))
    total = per_model * len(models) * (2 if proxy else 1)
    judged: dict[str, list[Row]] = {}
    for number, (tag, path) in enumerate(models.items()):
        report = _shifted(progress, per_model * number, total)
        judged[tag] = judge_pairs(Path(path), pairs, settings, out / "parts" / f"{tag}.critiques.jsonl", report)
    if proxy:
        report = _shifted(progress, per_model * len(models), total)
        file = out / "parts" / "proxy.verdicts.jsonl"
        judged = judge_rubrics(Path(proxy), pairs, judged, settings, file, report)
    summary = {}
    for tag, rows in judged.items():
        write_rows(out / f"{tag}.jsonl", rows)
        summary[tag] = _scored(out / f"{tag}.jsonl", pairs) | summarise(rows)
    write_json(out / "summary.json", summary)
    _track(out, summary, {"pairs": str(pairs_path), "models": {t: str(p) for t, p in models.items()}})
    progress(total, total, "done")
    return summary


def _scored(file: Path, pairs: Sequence[EvalPair]) -> Row:
    """The figures of `eval score`; as plain pairs where the rows are of no benchmark, or cannot be scored as one."""
    expected = [bare_id(pair.id, pair.source) for pair in pairs]
    sources = {pair.source for pair in pairs}
    for bench in BENCHMARKS.values():
        if bench.revisions and all(source.startswith(bench.name.replace("-", "_")) for source in sources):
            try:
                return scoring.score(scoring.read(bench.name, [file], expected=expected))
            except UserError as error:
                figures = scoring.score(scoring.read("pairs", [file], expected=expected))
                return figures | {"notes": [*figures["notes"], f"not scored as {bench.title}: {error}"]}
    return scoring.score(scoring.read("pairs", [file], expected=expected))


def _run(engine: Engine, requests: Iterable[Request], max_tokens: int, file: RowFile) -> Iterator[Row]:
    for answer in engine.answers(requests, max_tokens):
        row = answer_row(answer)
        file.append(row)
        yield row


def _as_answer(row: Row) -> Row:
    return {
        "text": row["critique"],
        "tokens": row["tokens"],
        "truncated": row["truncated"],
        "problem": row["refused"],
        "seed": row["seed"],
        "seconds": row["seconds"],
        "prompt_hash": row["prompt_hash"],
    }


def _most_images(pairs: Sequence[EvalPair]) -> int:
    return max(len(pair.images) for pair in pairs)


def _shown(pairs: Sequence[EvalPair], settings: EvaluateSettings) -> list[Shown]:
    return shown_in_orders(pairs, settings.orders, settings.votes, settings.seed)


def _shifted(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _, note: progress(before + done, total, note)


def _track(out: Path, summary: Mapping[str, Row], config: Row) -> None:
    """One step a model, in the order of training, so that the figures draw a curve."""
    with track("evaluate", out, config) as run:
        for step, figures in enumerate(summary.values()):
            numbers = {k: v for k, v in figures.items() if isinstance(v, int | float) and not isinstance(v, bool)}
            run.log({f"eval/{name}": value for name, value in numbers.items()}, step=step)
