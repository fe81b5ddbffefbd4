"""`proxygrm proxy agreement`: the same rubrics to two proxies, or to one in two modes, and what they say."""

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

from proxygrm.core.errors import UserError
from proxygrm.core.runtime.together import run_together
from proxygrm.critique.prompts import prompt_hash
from proxygrm.evaluate.agreement.cases import Case, Cases
from proxygrm.evaluate.agreement.figures import Figures, Judged, Opinion, figures
from proxygrm.evaluate.rows.row_file import Row, RowFile
from proxygrm.serving.endpoints import Endpoints
from proxygrm.serving.pool.client import ProxyClient, ProxyJudgement
from proxygrm.serving.pool.routing import Cause
from proxygrm.serving.settings import Mode, ProxySettings

ANSWERED = frozenset({Cause.UNPARSED.value, Cause.CUT_OFF.value})
"""The proxy answered, without a verdict; greedy, it would do so again. Whatever else went wrong is asked for again when
the command is repeated."""
FEW_LOST, LOST_SHARE = 16, 0.02
"""More judgements than these without an answer, and the rest is not asked for: something is broken."""


@dataclass(frozen=True)
class Side:
    """source: a checkpoint folder (its replicas are started for this), the endpoints file of a running pool, or the
    URL of an OpenAI-compatible server."""

    source: str
    mode: Mode

    @property
    def is_url(self) -> bool:
        return self.source.startswith(("http://", "https://"))

    @property
    def is_checkpoint(self) -> bool:
        return not self.is_url and (Path(self.source) / "config.json").is_file()


@dataclass(frozen=True)
class How:
    """settings: of replicas that are started, their limits also of a URL. device: auto, cpu or cuda. served_model and
    api_key_file: of a URL. timeout_s: of one judgement; None: what the endpoints say."""

    settings: ProxySettings = field(default_factory=ProxySettings)
    device: str = "auto"
    served_model: str = "proxy"
    api_key_file: Path | None = None
    timeout_s: float | None = None


def compare(
    found: Cases, a: Side, b: Side, how: How, out: Path | None = None, said: Callable[[str], None] = lambda line: None
) -> Figures:
    """Ask both about every case and count; see `agreement_figures.figures`, plus what the sides are, and rows `read`,
    `taken` and `left_out`.

    out: JSONL of all opinions, one line a side and distinct case; repeated with the same sides, the command asks only
    for what is missing there or was lost. UserError: both sides are one, a source is none or does not answer, too much
    is lost, `out` was begun with other sides.
    """
    if a == b:
        raise UserError("both proxies are the same in the same mode: give another --b, or another mode for one")
    made_by = {f"{name}_{key}": value for name, side in (("a", a), ("b", b)) for key, value in _made_by(side, how)}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_scratch())
        file = stack.enter_context(RowFile(out or folder / "opinions.jsonl", made_by))
        told = {(row["side"], row["key"]): row for row in file.rows if not row["cause"] or row["cause"] in ANSWERED}
        distinct = {case.key: case for case in found.cases}

        def missing(name: str) -> list[Case]:
            return [case for key, case in distinct.items() if (name, key) not in told]

        unfinished = [(name, side) for name, side in (("a", a), ("b", b)) if missing(name)]
        for source, sides in groupby(unfinished, lambda named: named[1].source):  # one proxy in two modes: started once
            first, *others = sides
            with _opened(first[1], how, folder / first[0], said) as endpoints:
                for name, side in (first, *others):
                    asking = _Asking(f"--{name} {source} ({side.mode})", name, file, told, said)
                    client = ProxyClient(endpoints, timeout_s=how.timeout_s, mode=side.mode)
                    asyncio.run(asking.all(client, missing(name)))
    rows = [Judged(case.pair, case.label, *(_opinion(told[name, case.key]) for name in "ab")) for case in found.cases]
    about = {name: {"source": side.source, "mode": side.mode} for name, side in (("a", a), ("b", b))}
    counted = figures(rows)
    return {
        **counted,
        **{name: {**what, **counted[name]} for name, what in about.items()},
        "read": found.read,
        "taken": found.taken,
        "left_out": dict(found.left_out.most_common()),
    }


class _Asking:
    """One side's judgements; `told` gets every row, the file too."""

    def __init__(
        self, name: str, side: str, file: RowFile, told: dict[tuple[str, str], Row], said: Callable[[str], None]
    ) -> None:
        self._name, self._side, self._file, self._told, self._said = name, side, file, told, said
        self._lost: Counter[str] = Counter()
        self._answers = sum(known == side for known, _ in told)

    async def all(self, client: ProxyClient, cases: Sequence[Case]) -> None:
        try:
            if not any((await client.alive()).values()):
                where = ", ".join(f"{replica}/health" for replica in client.endpoints.replicas)
                raise UserError(f"{self._name}: nobody answers at {where}")
            self._said(f"{self._name}: {len(cases):,} rubrics to judge")
            # Not all at once: a judgement's deadline counts from when it is asked for.
            waiting, room = iter(cases), client.limit * len(client.endpoints.replicas)
            await run_together(self._some(client, waiting, len(cases)) for _ in range(min(room, len(cases))))
        finally:
            await client.aclose()
        if not self._answers or self._hopeless(len(cases)):
            causes = ", ".join(f"{cause} {count:,}" for cause, count in self._lost.most_common())
            raise UserError(
                f"{self._name}: {self._lost.total():,} of {len(cases):,} judgements were lost ({causes}). What came is "
                "kept with --out; mend the proxy, and the same command asks for the rest"
            )

    async def _some(self, client: ProxyClient, waiting: Iterator[Case], total: int) -> None:
        for case in waiting:
            if self._hopeless(total):
                return
            shown = (case.question, case.response_1, case.response_2, case.rubric)
            self._take(case, await client.judge(*shown, case.images, case.label))

    def _take(self, case: Case, found: ProxyJudgement) -> None:
        if found.cause is None or found.cause in ANSWERED:
            self._answers += 1
        else:
            self._lost[found.cause.value] += 1
        row = {
            "side": self._side,
            "key": case.key,
            "id": case.id,
            "label": case.label,
            "verdict": found.verdict,
            "soft": found.soft,
            "cause": found.cause.value if found.cause else "",
            "latency_s": round(found.latency_s, 4),
            "text": found.text,
        }
        self._file.append(row)
        self._told[self._side, case.key] = row

    def _hopeless(self, total: int) -> bool:
        """Rubrics that the proxy refuses (too long, say) are lost alone, as long as it answers more than it refuses."""
        refused = self._lost[Cause.REFUSED.value]
        lost = self._lost.total() - (refused if refused < self._answers else 0)
        return lost > max(FEW_LOST, LOST_SHARE * total)


def _opinion(row: Mapping[str, Any]) -> Opinion:
    return Opinion(row["verdict"], row["soft"], row["cause"], row["latency_s"])


def _made_by(side: Side, how: How) -> Iterator[tuple[str, Any]]:
    """What the opinions of a side depend on, besides the case."""
    yield "mode", side.mode
    yield "prompt", prompt_hash("proxy")
    if side.mode == "verdict":
        yield "begun", prompt_hash("proxy_verdict")
    if side.is_checkpoint:
        from proxygrm.evaluate.judge import checkpoint_identity

        yield "model", checkpoint_identity(Path(side.source))
        yield "max_tokens", how.settings.fitted(Path(side.source), how.device).longest_answer
        yield "max_pixels", how.settings.max_pixels
    else:
        yield "model", side.source if not side.is_url else f"{how.served_model} at {side.source}"


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that goes at the end, unless an error names a log in it."""
    folder = Path(tempfile.mkdtemp(prefix="proxygrm-agreement-"))
    named = False
    try:
        yield folder
    except UserError as error:
        named = str(folder) in str(error)
        raise
    finally:
        if not named:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _opened(side: Side, how: How, folder: Path, said: Callable[[str], None]) -> Iterator[Endpoints]:
    """Where the side answers; replicas of a checkpoint run as long as this is open."""
    if side.is_url:
        limits = (how.settings.max_tokens, how.settings.max_num_seqs)
        yield Endpoints.of_urls([side.source], how.served_model, how.api_key_file, *limits)
    elif side.is_checkpoint:
        from proxygrm.serving.replicas.serve import serve
        from proxygrm.serving.replicas.standalone import device_for

        device = device_for(how.device, how.settings)
        said(f"starting {side.source}")
        with serve(side.source, how.settings, folder, device=device, said=said) as serving:
            yield Endpoints.read(serving.endpoints_file)
    elif Path(side.source).is_dir():
        raise UserError(f"there is no checkpoint in {side.source}: it has no config.json")
    else:
        yield Endpoints.read(side.source)
