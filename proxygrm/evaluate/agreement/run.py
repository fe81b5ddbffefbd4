"""`proxygrm proxy agreement`: two proxies, or one in two modes, judge by the same rubrics."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.identity import checkpoint_identity, no_checkpoint
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.together import run_together
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.agreement.cases import Case, Cases
from proxygrm.evaluate.agreement.figures import Judged, Opinion, agreement_figures
from proxygrm.evaluate.rows.row_file import Row, RowFile
from proxygrm.evaluate.scores.metrics import Figures
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient, ProxyJudgement
from proxygrm.serving.pool.routing import Cause
from proxygrm.serving.settings import Mode, ProxySettings

ANSWERED = frozenset({Cause.UNPARSED.value, Cause.CUT_OFF.value})
"""The proxy answered, without a verdict; greedy, it would do so again. All other failures are requested again when the
command is repeated."""
MAX_LOST, MAX_LOST_SHARE = 16, 0.02
"""With more judgements than these without an answer, the rest is not requested: something is broken."""


@dataclass(frozen=True)
class Side:
    """source: a checkpoint folder (its replicas are started here), the endpoints file of a running pool, or the URL of
    an OpenAI-compatible server."""

    source: str
    mode: Mode

    @property
    def is_url(self) -> bool:
        return self.source.startswith(("http://", "https://"))

    @property
    def is_checkpoint(self) -> bool:
        return not self.is_url and (Path(self.source) / "config.json").is_file()


@dataclass(frozen=True)
class Access:
    """How the sides are reached. settings: of replicas that are started; their limits apply to a URL too. device: auto,
    cpu or cuda. served_model and api_key_file: of a URL. timeout_s: of one judgement; None: that of the endpoints."""

    settings: ProxySettings = field(default_factory=ProxySettings)
    device: str = "auto"
    served_model: str = "proxy"
    api_key_file: Path | None = None
    timeout_s: float | None = None


def compare_proxies(
    cases: Cases,
    a: Side,
    b: Side,
    access: Access,
    out: Path | None = None,
    on_message: Callable[[str], None] = lambda line: None,
) -> Figures:
    """Let both judge every case and count; see `figures.agreement_figures`, plus what the sides are, and rows `read`,
    `taken` and `left_out`.

    out: JSONL of all opinions, one line per side and distinct case; repeated with the same sides, the command requests
    only what is missing there or was lost. UserError: both sides are equal, a source does not exist or does not answer,
    too much is lost, `out` was started with other sides.
    """
    if a == b:
        raise UserError(
            "both proxies are the same in the same mode: pass another --b, or another mode for one",
            code="proxy.same-sides",
        )
    sides = {"a": a, "b": b}
    made_by = {f"{name}_{key}": value for name, side in sides.items() for key, value in _made_by(side, access)}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        file = stack.enter_context(RowFile(out or folder / "opinions.jsonl", made_by))
        answers = {(row["side"], row["key"]): row for row in file.rows if not row["cause"] or row["cause"] in ANSWERED}
        distinct = {case.key: case for case in cases.cases}

        def missing(name: str) -> list[Case]:
            return [case for key, case in distinct.items() if (name, key) not in answers]

        unfinished = [(name, side) for name, side in sides.items() if missing(name)]
        for source, group in groupby(unfinished, lambda item: item[1].source):  # one proxy in two modes starts once
            of_source = list(group)
            name, side = of_source[0]
            with _opened(side, access, folder / name, on_message) as endpoints:
                for name, side in of_source:
                    asking = _Asking(f"--{name} {source} ({side.mode})", name, file, answers, on_message)
                    client = ProxyClient(endpoints, timeout_s=access.timeout_s, mode=side.mode)
                    asyncio.run(asking.run(client, missing(name)))
    rows = [
        Judged(case.pair, case.label, *(_opinion(answers[name, case.key]) for name in sides)) for case in cases.cases
    ]
    counted = agreement_figures(rows)
    return {
        **counted,
        **{name: {"source": side.source, "mode": side.mode, **counted[name]} for name, side in sides.items()},
        "read": cases.read,
        "taken": cases.taken,
        "left_out": dict(cases.left_out.most_common()),
    }


class _Asking:
    """One side's judgements; every row goes to `answers` and to the file."""

    def __init__(
        self,
        name: str,
        side: str,
        file: RowFile,
        answers: dict[tuple[str, str], Row],
        on_message: Callable[[str], None],
    ) -> None:
        self._name, self._side, self._file, self._answers, self._on_message = name, side, file, answers, on_message
        self._lost: Counter[str] = Counter()
        self._answered = sum(known == side for known, _ in answers)

    async def run(self, client: ProxyClient, cases: Sequence[Case]) -> None:
        try:
            if not any((await client.health()).values()):
                urls = [f"{replica}/health" for replica in client.endpoints.replicas]
                raise UserError(
                    f"{self._name}: no answer from {', '.join(urls)}",
                    code="proxy.unreachable",
                    side=self._side,
                    urls=urls,
                )
            self._on_message(f"{self._name}: {len(cases):,} rubrics to judge")
            # Not all at once: the timeout of a judgement starts when it is submitted.
            pending, slots = iter(cases), client.limit * len(client.endpoints.replicas)
            await run_together(self._work(client, pending, len(cases)) for _ in range(min(slots, len(cases))))
        finally:
            await client.aclose()
        if not self._answered or self._hopeless(len(cases)):
            causes = ", ".join(f"{cause} {count:,}" for cause, count in self._lost.most_common())
            raise UserError(
                f"{self._name}: {self._lost.total():,} of {len(cases):,} judgements were lost ({causes}). The others "
                "are kept with --out; fix the proxy, and the same command requests the rest",
                code="proxy.judgements-lost",
                side=self._side,
                count=self._lost.total(),
                total=len(cases),
                causes=dict(self._lost),
            )

    async def _work(self, client: ProxyClient, pending: Iterator[Case], total: int) -> None:
        for case in pending:
            if self._hopeless(total):
                return
            texts = (case.question, case.response_1, case.response_2, case.rubric)
            self._record(case, await client.judge(*texts, case.images, case.label))

    def _record(self, case: Case, judgement: ProxyJudgement) -> None:
        if judgement.cause is None or judgement.cause in ANSWERED:
            self._answered += 1
        else:
            self._lost[judgement.cause.value] += 1
        row = {
            "side": self._side,
            "key": case.key,
            "id": case.id,
            "label": case.label,
            "verdict": judgement.verdict,
            "soft": judgement.soft,
            "cause": judgement.cause.value if judgement.cause else "",
            "latency_s": round(judgement.latency_s, 4),
            "text": judgement.text,
        }
        self._file.append(row)
        self._answers[self._side, case.key] = row

    def _hopeless(self, total: int) -> bool:
        """Rubrics that the proxy refuses (too long, say) do not count as long as it answers more than it refuses."""
        refused = self._lost[Cause.REFUSED.value]
        lost = self._lost.total() - (refused if refused < self._answered else 0)
        return lost > max(MAX_LOST, MAX_LOST_SHARE * total)


def _opinion(row: Mapping[str, Any]) -> Opinion:
    return Opinion(row["verdict"], row["soft"], row["cause"], row["latency_s"])


def _made_by(side: Side, access: Access) -> Iterator[tuple[str, Any]]:
    """What the opinions of a side depend on besides the case."""
    yield "mode", side.mode
    yield "prompt", prompt_hash("proxy")
    if side.mode == "verdict":
        yield "begun", prompt_hash("proxy_verdict")
    if side.is_checkpoint:
        yield "model", checkpoint_identity(Path(side.source))
        yield "max_tokens", access.settings.fitted(Path(side.source), access.device).longest_answer
        yield "max_pixels", access.settings.max_pixels
    else:
        yield "model", side.source if not side.is_url else f"{access.served_model} at {side.source}"


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder that is deleted at the end, unless an error names a log in it."""
    folder = Path(tempfile.mkdtemp(prefix="proxygrm-agreement-"))
    keep = False
    try:
        yield folder
    except UserError as error:
        keep = str(folder) in str(error)
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _opened(side: Side, access: Access, folder: Path, on_message: Callable[[str], None]) -> Iterator[Endpoints]:
    """The endpoints of the side; replicas of a checkpoint run as long as this is open."""
    if side.is_url:
        limits = (access.settings.max_tokens, access.settings.max_num_seqs)
        yield Endpoints.of_urls([side.source], access.served_model, access.api_key_file, *limits)
    elif side.is_checkpoint:
        from proxygrm.serving.replicas.serve import serve
        from proxygrm.serving.replicas.standalone import resolve_device

        device = resolve_device(access.device, access.settings)
        on_message(f"starting {side.source}")
        with serve(side.source, access.settings, folder, device=device, on_message=on_message) as serving:
            yield Endpoints.read(serving.endpoints_file)
    elif Path(side.source).is_dir():
        raise no_checkpoint(Path(side.source))
    else:
        yield Endpoints.read(side.source)
