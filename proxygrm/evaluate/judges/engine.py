"""vLLM in this process: prompts with images in, answers out as they finish."""

from __future__ import annotations

import atexit
import functools
import hashlib
import math
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxygrm.core.checkpoints.code import refuse_code
from proxygrm.core.checkpoints.identity import no_checkpoint
from proxygrm.core.checkpoints.limits import check_servable, context_length
from proxygrm.core.errors import UserError
from proxygrm.core.images.settle import pixels
from proxygrm.core.runtime import held_folder
from proxygrm.core.runtime.compiled_code import compiled_in
from proxygrm.core.runtime.job_secret import new_folder
from proxygrm.core.runtime.telemetry import NO_TELEMETRY
from proxygrm.core.runtime.vllm_plugins import plugins
from proxygrm.evaluate.judges.loaded import loaded
from proxygrm.evaluate.settings import CONTEXT, EvaluateSettings
from proxygrm.serving.pool.verdict import TOP_LOGPROBS

BLANK_SIDE_PX = 56
_END = object()
CPU_BLOCK_TOKENS = 32  # prefix hits are counted in whole blocks, and the prompts of the tiny model are short


@dataclass(frozen=True)
class Request:
    """A prompt without image tags; the images precede it, as in training."""

    key: str
    text: str
    images: tuple[Path, ...] = ()
    max_tokens: int = 0
    """Of the answer; 0: what the caller's settings say."""
    logprobs: bool = False
    """Also the most probable first tokens, with the logarithms of their probabilities."""


Requests = Iterable[Request | None]
"""None: the next request depends on an answer that has not arrived."""


@dataclass(frozen=True)
class Answer:
    """`text` is empty when there is a `problem`: the prompt never reached the model.

    seed: of sampling, None when greedy; seconds: from submitting the prompt to the last token; logprobs: of the first
    token, where they were requested.
    """

    key: str
    text: str
    tokens: int = 0
    truncated: bool = False
    problem: str | None = None
    seed: int | None = None
    seconds: float = 0.0
    logprobs: dict[str, float] | None = None


class Engine:
    """A loaded model. `answers` keeps the engine's batch full: a slow answer does not delay the others."""

    def __init__(self, model: str, llm: Any, settings: EvaluateSettings) -> None:
        self.model, self.llm, self.settings = model, llm, settings

    def answers(self, requests: Requests, max_tokens: int, works: bool = False) -> Iterator[Answer]:
        """Each answer once, in the order of finishing. Requests are taken as there is room; those that wait for answers
        (None) are asked for again when one has been consumed.

        A prompt that the model cannot take (too long, unreadable image) becomes an Answer with a problem. UserError
        when it takes none at all and is not known to work (`works`): the last rows of a resumed run may all be too
        long.
        """
        pending, running, refused = iter(requests), dict[str, tuple[Request, float]](), list[Answer]()
        accepted = works
        exhausted = False
        while True:
            while not exhausted and len(running) < 2 * self.settings.max_num_seqs:
                following = next(pending, _END)
                if following is _END or following is None:
                    exhausted = following is _END
                    break
                assert isinstance(following, Request)
                try:
                    number = self._enqueue(following, max_tokens)
                except (ValueError, OSError) as error:
                    refused.append(Answer(following.key, "", problem=one_line(error)))
                else:
                    running[number] = following, time.monotonic()
                    accepted = True
            if accepted and refused:
                yield from refused
                refused = []
                continue  # what waited for them may be ready now
            if not running:
                break
            for output in self.llm.llm_engine.step():
                if output.finished:
                    (request, started), best = running.pop(output.request_id), output.outputs[0]
                    yield Answer(
                        request.key,
                        best.text,
                        tokens=len(best.token_ids),
                        truncated=best.finish_reason == "length",
                        seed=self.settings.seed_of(request.key),
                        seconds=round(time.monotonic() - started, 4),
                        logprobs=_first_token(best.logprobs) if request.logprobs else None,
                    )
        if refused:
            raise none_accepted(self.model, len(refused), refused[0].problem or "")

    def _enqueue(self, request: Request, max_tokens: int) -> str:
        from vllm import SamplingParams

        content: list[dict[str, Any]] = [
            {"type": "image_pil", "image_pil": image_of(path, self.settings.missing_images), "uuid": _uuid(path)}
            for path in request.images
        ]
        content.append({"type": "text", "text": request.text})
        params = SamplingParams(
            temperature=self.settings.temperature,
            top_p=self.settings.top_p,
            max_tokens=request.max_tokens or max_tokens,
            seed=self.settings.seed_of(request.key),
            logprobs=TOP_LOGPROBS if request.logprobs else None,
        )
        (internal,) = self.llm.enqueue_chat([{"role": "user", "content": content}], params, use_tqdm=False)
        return internal.split("-")[0]  # vLLM adds random characters; outputs carry the number alone


def _first_token(logprobs: Any) -> dict[str, float]:
    """Token -> logarithm of its probability; tokens of the same text count together."""
    alternatives: dict[str, float] = {}
    for entry in logprobs[0].values() if logprobs else ():
        before = alternatives.get(entry.decoded_token, -math.inf)
        alternatives[entry.decoded_token] = math.log(math.exp(entry.logprob) + math.exp(before))
    return alternatives


def none_accepted(judge: str, prompts: int, problem: str) -> UserError:
    """The error for a judge that refuses every prompt."""
    return UserError(
        f"{judge} accepts none of the {prompts} prompts: {problem}",
        code="judge.accepts-nothing",
        judge=judge,
        count=prompts,
        problem=problem,
    )


@contextmanager
def open_engine(model: Path, settings: EvaluateSettings, max_images: int) -> Iterator[Engine]:
    """Load a checkpoint; at the end its memory is free, or kept for the next one (`loaded.one_engine`)."""
    if not (Path(model) / "config.json").is_file():
        raise no_checkpoint(model)
    refuse_code(Path(model), settings.trust_remote_code)
    device = choose_device(settings.device)
    check_servable(Path(model), 1 if device == "cpu" else settings.tensor_parallel_size)
    length = context_length(Path(model), settings.max_model_len, CONTEXT)
    _environment(device)
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
            "enable_chunked_prefill": False,  # vLLM cannot take back the draw of a seeded request after half a prompt
        }
    else:
        arguments |= {
            "tensor_parallel_size": settings.tensor_parallel_size,
            "gpu_memory_utilization": settings.gpu_memory_utilization,
        }
    # On GPUs each checkpoint has an engine of its own: there, reloaded weights have not been compared with loaded ones.
    with loaded(Path(model), arguments, keep=device == "cpu") as llm:
        yield Engine(str(model), llm, settings)


def _environment(device: str) -> None:
    """vLLM's environment variables, unless the job has set them. They must be set before vLLM is imported."""
    variables = {**NO_TELEMETRY, **plugins(), "VLLM_LOGGING_LEVEL": "ERROR"}
    if device == "cpu":
        variables |= {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            # Compiling only affects a small sampler, and takes 14 of 29 CPU seconds of each start.
            "TORCHDYNAMO_DISABLE": "1",
        }
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_RPC_BASE_PATH", str(_own_folder()))
    os.environ.update(compiled_in(_own_folder()))


@functools.cache
def _own_folder() -> Path:
    """vLLM leaves Unix sockets behind when it is killed. One folder per process, because vLLM may read its environment
    only once for all its engines."""
    folder = new_folder("pgvllm")
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    """Does nothing in a forked engine, which may run the exit functions of its parent."""
    if os.getpid() == owner:
        held_folder.remove(folder)


def choose_device(requested: str) -> str:
    """cuda or cpu; UserError where a GPU is requested and none is visible."""
    if requested == "cpu":
        return requested
    import torch

    available = torch.cuda.is_available()
    if requested == "cuda" and not available:
        raise UserError(
            "no GPU is visible here; use --device cpu, or start this in a job that has a GPU",
            code="judge.no-gpu",
            device=requested,
        )
    return "cuda" if available else "cpu"


def blank_image() -> Any:
    """The grey PIL image that replaces a missing one."""
    from PIL import Image

    return Image.new("RGB", (BLANK_SIDE_PX, BLANK_SIDE_PX), (128, 128, 128))


def image_of(path: Path, missing_images: str) -> Any:
    """The image as every consumer sees it. Raises UnreadableImage, and OSError for a file deleted since the run
    started, unless missing images are replaced by blank ones."""
    if missing_images == "blank" and not path.is_file():
        return blank_image()
    info = path.stat()
    return _pixels(path, info.st_size, info.st_mtime_ns)


@functools.lru_cache(maxsize=8)  # both orders of a pair, and all steps of a solution, show the same images
def _pixels(path: Path, size: int, changed: int) -> Any:
    return pixels(path.read_bytes())


def _uuid(path: Path) -> str:
    """Lets vLLM recognise an image that it has just processed (the swapped order) without hashing its pixels."""
    return hashlib.sha256(str(path).encode()).hexdigest()


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
