"""vLLM in this process: many prompts with pictures in, answers out as they finish."""

from __future__ import annotations

import atexit
import functools
import hashlib
import os
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.limits import check_servable, context_length
from proxygrm.core.errors import UserError
from proxygrm.core.images.settle import pixels
from proxygrm.core.runtime import held_folder
from proxygrm.core.runtime.job_secret import new_folder
from proxygrm.core.runtime.log_tail import telling_line
from proxygrm.core.runtime.telemetry import NO_TELEMETRY
from proxygrm.evaluate.settings import CONTEXT, EvaluateSettings

BLANK_SIDE_PX = 56
CPU_BLOCK_TOKENS = 32  # prefix hits are counted in whole blocks, and the prompts of the tiny model are short


@dataclass(frozen=True)
class Request:
    """A prompt without image tags; the pictures stand before it, as in training."""

    key: str
    text: str
    images: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Answer:
    """`text` is empty when there is a `problem`: the prompt never reached the model.

    seed: of the sampling, None when greedy; seconds: from handing the prompt over to the last token.
    """

    key: str
    text: str
    tokens: int = 0
    truncated: bool = False
    problem: str | None = None
    seed: int | None = None
    seconds: float = 0.0


class Engine:
    """A loaded model. `answers` keeps the engine full: a slow answer holds up nothing but itself."""

    def __init__(self, model: str, llm: Any, settings: EvaluateSettings) -> None:
        self.model, self.llm, self.settings = model, llm, settings

    def answers(self, requests: Iterable[Request], max_tokens: int, works: bool = False) -> Iterator[Answer]:
        """Each answer once, in the order of finishing.

        A prompt the model cannot take (too long, unreadable picture) comes back as an Answer with a problem;
        when it takes none at all, that is a UserError, unless it is known that it `works`: the last rows of a resumed
        run may all be too long.
        """
        waiting, running, refused = iter(requests), dict[str, tuple[Request, float]](), list[Answer]()
        accepted = works
        exhausted = False
        while True:
            while not exhausted and len(running) < 2 * self.settings.max_num_seqs:
                request = next(waiting, None)
                if request is None:
                    exhausted = True
                    break
                try:
                    number = self._enqueue(request, max_tokens)
                except (ValueError, OSError) as error:
                    refused.append(Answer(request.key, "", problem=_one_line(error)))
                else:
                    running[number] = request, time.monotonic()
                    accepted = True
            if accepted:
                yield from refused
                refused = []
            if not running:
                break
            for output in self.llm.llm_engine.step():
                if output.finished:
                    (done, since), best = running.pop(output.request_id), output.outputs[0]
                    yield Answer(
                        done.key,
                        best.text,
                        tokens=len(best.token_ids),
                        truncated=best.finish_reason == "length",
                        seed=self.settings.seed_of(done.key),
                        seconds=round(time.monotonic() - since, 4),
                    )
        if refused:
            raise UserError(f"{self.model} takes none of the {len(refused)} prompts: {refused[0].problem}")

    def _enqueue(self, request: Request, max_tokens: int) -> str:
        from vllm import SamplingParams

        content: list[dict[str, Any]] = [
            {"type": "image_pil", "image_pil": _picture(path, self.settings.missing_images), "uuid": _uuid(path)}
            for path in request.images
        ]
        content.append({"type": "text", "text": request.text})
        params = SamplingParams(
            temperature=self.settings.temperature,
            max_tokens=max_tokens,
            seed=self.settings.seed_of(request.key),
        )
        (internal,) = self.llm.enqueue_chat([{"role": "user", "content": content}], params, use_tqdm=False)
        return internal.split("-")[0]  # vLLM adds random characters; outputs carry the number alone


@contextmanager
def open_engine(model: Path, settings: EvaluateSettings, max_images: int) -> Iterator[Engine]:
    """Load a checkpoint, and give its memory back at the end so that the next one fits."""
    if not (Path(model) / "config.json").is_file():
        raise UserError(f"no checkpoint at {model}: it has no config.json")
    refuse_code(Path(model), settings.trust_remote_code)
    device = _device(settings.device)
    check_servable(Path(model), 1 if device == "cpu" else settings.tensor_parallel)
    length = context_length(Path(model), settings.max_model_len, CONTEXT)
    _environment(device)
    from vllm import LLM
    from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

    arguments: dict[str, Any] = {
        "max_model_len": length,
        "max_num_seqs": settings.max_num_seqs,
        "seed": settings.seed,
        "enable_prefix_caching": True,
        "trust_remote_code": settings.trust_remote_code,
        "limit_mm_per_prompt": {"image": max(max_images, 1), "video": 0},
    }
    if settings.max_pixels:
        arguments["mm_processor_kwargs"] = {"max_pixels": settings.max_pixels}
    if device == "cpu":
        arguments |= {
            "dtype": "float32",
            "enforce_eager": True,
            "block_size": CPU_BLOCK_TOKENS,
            "distributed_executor_backend": "uni",
            "skip_mm_profiling": True,
        }
    else:
        arguments |= {
            "tensor_parallel_size": settings.tensor_parallel,
            "gpu_memory_utilization": settings.gpu_memory_utilization,
        }
    try:
        llm = LLM(str(model), **arguments)
    except Exception as error:  # of many kinds
        why = telling_line(traceback.format_exception(error))
        raise UserError(f"vLLM does not start with {model}: {why}") from error
    try:
        yield Engine(str(model), llm, settings)
    finally:
        llm.llm_engine.engine_core.shutdown()
        del llm
        cleanup_dist_env_and_memory()


def _environment(device: str) -> None:
    """vLLM's own switches, unless the job has set them. They must stand before vLLM is imported."""
    wanted = {**NO_TELEMETRY, "VLLM_LOGGING_LEVEL": "ERROR"}
    if device == "cpu":
        wanted |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            # Nothing but a sampler of a few lines would be compiled, at each start: 14 of 29 CPU seconds.
            "TORCHDYNAMO_DISABLE": "1",
        }
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    _keep_sockets()


@functools.cache
def _keep_sockets() -> None:
    """vLLM leaves Unix sockets behind when it is killed. One folder for the life of this process, because vLLM may
    read its environment once for all its engines."""
    if "VLLM_RPC_BASE_PATH" not in os.environ:
        folder = new_folder("pgvllm")
        atexit.register(_remove, folder, os.getpid())
        os.environ["VLLM_RPC_BASE_PATH"] = str(folder)


def _remove(folder: Path, owner: int) -> None:
    """Not from a forked engine, which may run the exit functions of its parent."""
    if os.getpid() == owner:
        held_folder.remove(folder)


def _device(asked: str) -> str:
    """cuda or cpu; UserError where a GPU is asked for and none can be seen."""
    if asked == "cpu":
        return asked
    import torch

    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise UserError("no GPU can be seen here; --device cpu works without, or start it in a job that has one")
    return "cuda" if found else "cpu"


def blank_picture() -> Any:
    """The grey PIL image that stands in for a missing one."""
    from PIL import Image

    return Image.new("RGB", (BLANK_SIDE_PX, BLANK_SIDE_PX), (128, 128, 128))


def _picture(path: Path, missing_images: str) -> Any:
    """As every consumer sees it. Raises OSError for one that went away since the run began, unless blank ones may stand
    in, and UnreadableImage."""
    if missing_images == "blank" and not path.is_file():
        return blank_picture()
    return pixels(path.read_bytes())


def _uuid(path: Path) -> str:
    """Lets vLLM recognise a picture it has just prepared (the swapped order) without hashing its pixels."""
    return hashlib.sha256(str(path).encode()).hexdigest()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
