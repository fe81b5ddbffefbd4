"""The head of a scalar reward model: a hidden state in, one number out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxygrm.core.errors import UserError
from proxygrm.scalar.settings import ACTIVATIONS

_FUNCTIONS = {"none": lambda state: state, "tanh": torch.tanh, "silu": functional.silu}


class RewardHead(nn.Module):
    """(layers - 1) times [Linear(hidden_size, hidden_size), activation], then Linear(hidden_size, 1), all with bias.

    It computes in float32 whatever its weights are stored in, also under autocast: in bfloat16 responses that are
    nearly as good get the same score. BaseReward (arXiv 2509.16127) leaves biases, width and dropout open; these are
    our choice: biases, the backbone's width, no dropout.
    """

    def __init__(self, hidden_size: int, layers: int = 2, activation: str = "silu") -> None:
        """Raises UserError: settings.out-of-range, settings.unknown-value."""
        super().__init__()
        for name, value in (("hidden_size", hidden_size), ("layers", layers)):
            if value < 1:
                raise UserError(
                    f"reward head: {name} is {value}; it must be at least 1",
                    code="settings.out-of-range",
                    name=name,
                    value=value,
                )
        if activation not in ACTIVATIONS:
            raise UserError(
                f"reward head: activation is {activation!r}; it must be one of {', '.join(ACTIVATIONS)}",
                code="settings.unknown-value",
                name="activation",
                value=activation,
                known=list(ACTIVATIONS),
            )
        self.activation = activation
        self.dense = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(layers - 1))
        self.out_proj = nn.Linear(hidden_size, 1)

    @property
    def weight(self) -> Tensor:
        """(1, H). ms-swift reads its data type."""
        return self.out_proj.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """(..., H) -> (..., 1) in float32."""
        activate = _FUNCTIONS[self.activation]
        with torch.autocast(hidden.device.type, enabled=False):
            state = hidden.float()
            for layer in self.dense:
                state = activate(_linear(layer, state))
            return _linear(self.out_proj, state)


def _linear(layer: nn.Module, state: Tensor) -> Tensor:
    return functional.linear(state, layer.weight.float(), layer.bias.float())
