"""How pairs are judged."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

from proxygrm.core.bounds import check_bounds
from proxygrm.core.errors import UserError
from proxygrm.critique.contracts import CONTRACTS, KINDS, PROXY_GRM

CONTEXT = 16384
DEVICES = ("auto", "cpu", "cuda")
MISSING_IMAGES = ("refuse", "drop", "blank")
BOTH, DRAWN, HASHED, AS_GIVEN = ORDERS = ("both", "drawn", "hashed", "as-given")
JudgedBy = Literal["proxy", "r1", "r1-ties", "pointwise"]
R1_TIES: JudgedBy = "r1-ties"
POINTWISE: JudgedBy = "pointwise"
JUDGED_BY: tuple[JudgedBy, ...] = (*CONTRACTS, R1_TIES, POINTWISE)
"""What a judge is asked for: a contract (`critique.contracts`), R1-Reward's with ties, or a score of each response
(`critique.think_answer`)."""
PROMPTS: dict[str, str] = {
    **{name: kind.prompt for name, kind in KINDS.items()},
    R1_TIES: "r1_ties",
    POINTWISE: "pointwise",
}
"""The instruction of each."""


@dataclass(frozen=True)
class EvaluateSettings:
    """Sampling, engine size and what to do about images that are not there."""

    contract: JudgedBy = PROXY_GRM
    """What a judge that writes is asked for: `proxy`, Proxy-GRM's critique; `r1`, R1-Reward's judgement; `r1-ties`,
    which may be a tie; `pointwise`, a score of each response, which it sees alone."""
    max_tokens: int = 8192
    """Longest critique, in tokens."""
    proxy_max_tokens: int = 1024
    """Longest answer of the proxy, in tokens."""
    temperature: float = 0.0
    top_p: float = 1.0
    """Samples are drawn from the most probable tokens, of this probability together."""
    seed: int = 0
    max_model_len: int = 0
    """Prompt, image and answer together, in tokens. 0: what the checkpoint allows, at most 16,384."""
    max_num_seqs: int = 64
    """Judgements worked on at once."""
    max_pixels: int = 0
    """Larger images are scaled down to this many pixels; 0 keeps the checkpoint's own bound."""
    gpu_memory_utilization: float = 0.9
    tensor_parallel_size: int = 1
    device: str = "auto"
    orders: str = BOTH
    """`both` orders of each pair, one order `drawn` from the seed for each vote, or `as-given`. `hashed` is `drawn`.
    Scores of single responses have no order."""
    votes: int = 1
    """Samples of each judgement, or with `pointwise` of each response, whose mean counts; more than one needs a
    temperature."""
    missing_images: str = "refuse"
    """`refuse`; `drop`: rows without their image are left out; `blank`: a grey image stands in. Both are counted."""
    max_pairs: int = 0
    """Judge only the first so many pairs; 0 judges all."""
    trust_remote_code: bool = False
    """Run Python code that comes with the checkpoint; otherwise such a checkpoint is refused."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("device", self.device, DEVICES),
            ("missing_images", self.missing_images, MISSING_IMAGES),
            ("orders", self.orders, ORDERS),
            ("contract", self.contract, JUDGED_BY),
        ):
            if value not in known:
                raise UserError(
                    f"evaluation: {name} is {value!r}; it is one of {', '.join(known)}",
                    code="settings.unknown-value",
                    name=name,
                    value=value,
                    known=list(known),
                )
        check_bounds(
            "evaluation",
            self,
            positive=("gpu_memory_utilization", "top_p"),
            from_one=("max_tokens", "proxy_max_tokens", "max_num_seqs", "tensor_parallel_size", "votes"),
            from_zero=("max_pixels", "max_pairs", "max_model_len"),
            shares=("gpu_memory_utilization", "top_p"),
        )
        if self.temperature < 0:
            raise UserError(
                f"evaluation: temperature is {self.temperature}; it must be 0 (greedy) or more",
                code="settings.out-of-range",
                name="temperature",
                value=self.temperature,
            )
        if self.votes > 1 and self.temperature == 0:
            raise UserError(
                f"evaluation: votes is {self.votes}, but at temperature 0 all are the same; give one, 0.7 say",
                code="settings.contradiction",
                votes=self.votes,
            )

    def sampling(self) -> dict[str, float | int]:
        """What answers depend on besides model and prompt; `top_p` where it has an effect."""
        values: dict[str, float | int] = {"temperature": self.temperature, "seed": self.seed}
        return values if self.top_p == 1 else values | {"top_p": self.top_p}

    @property
    def both_orders(self) -> bool:
        return self.orders == BOTH

    @property
    def of_pairs(self) -> EvaluateSettings:
        """How whole pairs are judged: by `pointwise` once, as given, whatever the number of scores behind it."""
        return replace(self, orders=AS_GIVEN, votes=1) if self.contract == POINTWISE else self

    def seed_of(self, key: str) -> int | None:
        """A seed of its own for each judgement: one seed for all would make the samples share their noise."""
        if self.temperature == 0:
            return None
        return int.from_bytes(hashlib.sha256(f"{self.seed}/{key}".encode(errors="backslashreplace")).digest()[:4])
