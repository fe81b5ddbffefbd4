"""vLLM with a checkpoint in it: started, stopped, and kept for the next checkpoint."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.likeness import likeness
from proxygrm.core.errors import UserError
from proxygrm.core.runtime.log_tail import telling_line

Arguments = Mapping[str, Any]


def start(model: Path, arguments: Arguments) -> Any:
    """A `vllm.LLM`. UserError (judge.vllm-start) with the reason when it does not start."""
    from vllm import LLM

    try:
        return LLM(str(model), **arguments)
    except Exception as error:  # of many kinds
        reason = telling_line(traceback.format_exception(error))
        raise UserError(
            f"vLLM does not start with {model}: {reason}", code="judge.vllm-start", path=model, reason=reason
        ) from error


def stop(llm: Any) -> None:
    """Free its memory, so that the next one fits."""
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    llm.llm_engine.engine_core.shutdown()
    del llm
    cleanup_dist_env_and_memory()


class KeptEngine:
    """One engine at a time. A checkpoint that differs from the loaded one in its weights only takes its place in the
    running engine; for another one, or other arguments, an engine is started."""

    def __init__(self) -> None:
        self._llm: Any = None
        self._fits = ""
        self._model: Path | None = None

    def take(self, model: Path, arguments: Arguments) -> Any:
        """The engine with this checkpoint in it. UserError as of `start`."""
        alike = likeness(model)
        fits = f"{alike}\0{json.dumps(arguments, sort_keys=True)}" if alike else ""
        if self._llm is not None and not (fits and fits == self._fits and self._holds(model)):
            self.close()
        if self._llm is None:
            self._llm, self._fits, self._model = start(model, arguments), fits, model
        return self._llm

    def close(self) -> None:
        llm, self._llm, self._model = self._llm, None, None
        if llm is not None:
            stop(llm)

    def _holds(self, model: Path) -> bool:
        """Whether the checkpoint is in the running engine now. What other weights have computed is forgotten, texts
        and images alike."""
        if model == self._model:
            return True
        self._model = None  # of neither, if this fails
        try:
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(model)})
            forgotten = bool(self._llm.reset_prefix_cache())
            self._llm.llm_engine.reset_encoder_cache()
        except Exception:  # of many kinds: a new engine says what is wrong
            return False
        self._model = model
        return forgotten


_KEPT: ContextVar[KeptEngine | None] = ContextVar("kept engine", default=None)


@contextmanager
def one_engine() -> Iterator[None]:
    """Inside, engines are kept from one checkpoint to the next where they can be; at the end the last one is stopped.
    Within another such block it does nothing."""
    if _KEPT.get() is not None:
        yield
        return
    engine = KeptEngine()
    token = _KEPT.set(engine)
    try:
        yield
    finally:
        _KEPT.reset(token)
        engine.close()


@contextmanager
def loaded(model: Path, arguments: Arguments, keep: bool) -> Iterator[Any]:
    """keep: whether the engine may stay for the next checkpoint, where that has been asked for (`one_engine`)."""
    kept = _KEPT.get() if keep else None
    if kept is not None:
        try:
            yield kept.take(model, arguments)
        except BaseException:  # requests may be left in it
            kept.close()
            raise
        return
    llm = start(model, arguments)
    try:
        yield llm
    finally:
        stop(llm)
