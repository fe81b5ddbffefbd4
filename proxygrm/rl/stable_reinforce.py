"""StableReinforce (R1-Reward, arXiv 2505.02835): its advantages, and the loss it is defined by.

Returns are whitened over all response tokens of a step, and those far from the mean are dropped (the advantage filter).
The loss is PPO's, on a probability ratio clipped before it is used (Pre-CLIP). Training uses verl's own loss, which
`proxygrm.rl.algorithms.stable_reinforce` sets up to be the same function; `policy_loss` is what that is tested against.
"""

from __future__ import annotations

import math
from typing import Literal

import torch

from proxygrm.core.errors import UserError

Rule = Literal["paper", "code"]
RULES: tuple[Rule, ...] = ("paper", "code")
LEAST_VARIANCE = 1e-8
"""The released code's lower bound of the variance."""
CODE_SHIFT = 1e-8
"""The released code adds this to each whitened value, instead of adding it to the deviation."""
CODE_LARGEST = 10.0
"""The released code drops what is further from 0 than this, too."""


def advantages(
    token_level_rewards: torch.Tensor,
    response_mask: torch.Tensor,
    gamma: float = 1.0,
    rule: Rule = "paper",
    limit: float = 3.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(advantages, returns), both (batch, response length), in the rewards' dtype or float32 if that is less precise.

    Both are 0 where the mask is 0, whatever the rewards are there. Raises UserError: rl.shapes-differ,
    settings.unknown-value, settings.out-of-range.
    """
    _check_range("gamma", gamma, 0 <= gamma <= 1, "from 0 to 1")
    with torch.no_grad():
        mask = _checked_mask(response_mask, token_level_rewards)
        returns = discounted_returns(token_level_rewards, mask, gamma)
        values, dropped = whiten_and_filter(returns, mask, rule, limit)
        return values.masked_fill_(dropped, 0.0), returns


def discounted_returns(token_level_rewards: torch.Tensor, mask: torch.Tensor, gamma: float) -> torch.Tensor:
    """return[t] = reward[t] + gamma * return[t + 1], with rewards of 0 where the mask is 0; then 0 there."""
    dtype = torch.promote_types(token_level_rewards.dtype, torch.float32)
    rewards = token_level_rewards.to(dtype).masked_fill(~mask, 0.0)
    if gamma == 1.0:
        returns = rewards.flip(1).cumsum(1).flip(1)
    else:
        columns = rewards.t().contiguous()  # one step of the recurrence reads and writes contiguous memory
        for t in range(columns.shape[0] - 2, -1, -1):
            columns[t].add_(columns[t + 1], alpha=gamma)
        returns = columns.t().contiguous()
    return returns.masked_fill_(~mask, 0.0)


def whiten_and_filter(
    returns: torch.Tensor, mask: torch.Tensor, rule: Rule, limit: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """(whitened returns, where the filter drops them). mask: boolean; where it is False, the value is 0 and kept.

    `paper` drops |z| > limit. `code` compares z with (raw mean - limit, raw mean + limit), as the code released with
    the paper does: with R1-Reward's rewards and a mostly right batch it drops every wrong answer.
    """
    if rule not in RULES:
        raise UserError(
            f"StableReinforce: the filter's rule is {rule!r}; it must be one of {', '.join(RULES)}",
            code="settings.unknown-value",
            name="rule",
            value=rule,
            known=list(RULES),
        )
    _check_range("limit", limit, limit > 0, "above 0")
    count = mask.sum().clamp(min=1)
    mean = returns.masked_fill(~mask, 0.0).sum() / count
    values = (returns - mean).masked_fill_(~mask, 0.0)
    variance = values.square().sum() / count  # the population's, not the sample's
    # a reward that is not a number makes all values NaN but those outside of the mask
    values.mul_(variance.clamp(min=LEAST_VARIANCE).rsqrt().nan_to_num(0.0))
    if rule == "paper":
        kept = values.abs() <= limit
    else:
        values.add_(CODE_SHIFT).masked_fill_(~mask, 0.0)
        kept = (values >= mean - limit) & (values <= mean + limit) & (values.abs() <= CODE_LARGEST)
    return values, mask & ~kept


def filter_shares(values: torch.Tensor, dropped: torch.Tensor, mask: torch.Tensor) -> dict[str, float]:
    """Shares of the step's response tokens that the filter dropped, by the sign of their whitened return."""
    count = mask.sum().clamp(min=1)
    by_sign = {
        "filtered_positive": values > 0,
        "filtered_negative": values < 0,
        "not_finite": ~values.isfinite(),
    }
    return {name: ((dropped & where).sum() / count).item() for name, where in by_sign.items()}


def policy_loss(
    old_log_prob: torch.Tensor,
    log_prob: torch.Tensor,
    advantages: torch.Tensor,
    response_mask: torch.Tensor,
    clip_eps: float = 0.2,
    ratio_bounds: tuple[float, float] = (1e-3, 1e3),
) -> torch.Tensor:
    """Mean over the sequences of the means over their tokens; all tensors are (batch, response length).

    Sequences without a token are left out, and without any the loss is 0. The loss and its gradient are finite for any
    input: a difference of log-probabilities that is not a number counts as 0, as an advantage that is not finite does.
    Raises UserError: rl.shapes-differ, settings.out-of-range.
    """
    low, high = ratio_bounds
    if not (0 < low <= 1 <= high < math.inf):
        raise UserError(
            f"StableReinforce: ratio_bounds are {low} and {high}; 1 must lie between them, and both above 0 and finite",
            code="settings.out-of-range",
            name="ratio_bounds",
            value=[low, high],
        )
    _check_range("clip_eps", clip_eps, 0 <= clip_eps < math.inf, "from 0, and finite")
    mask = _checked_mask(response_mask, old_log_prob, log_prob, advantages)
    dtype = torch.promote_types(log_prob.dtype, torch.float32)
    difference = (log_prob.to(dtype) - old_log_prob.to(dtype)).masked_fill(~mask, 0.0).nan_to_num(0.0)
    ratio = difference.clamp(math.log(low), math.log(high)).exp()
    largest = torch.finfo(dtype).max / (2 * max(high, 1 + clip_eps))  # the products stay finite
    weight = advantages.to(dtype).masked_fill(~mask, 0.0)
    weight = weight.masked_fill(~weight.isfinite(), 0.0).clamp(-largest, largest)
    loss = -torch.minimum(ratio * weight, ratio.clamp(1 - clip_eps, 1 + clip_eps) * weight)
    tokens = mask.sum(1, keepdim=True)
    sequences = (tokens > 0).sum().clamp(min=1)
    return (loss / (tokens.clamp(min=1) * sequences)).sum()


def _check_range(name: str, value: float, good: bool, wanted: str) -> None:
    """Raises UserError."""
    if not good:
        raise UserError(
            f"StableReinforce: {name} is {value}; it must be {wanted}",
            code="settings.out-of-range",
            name=name,
            value=value,
        )


def _checked_mask(response_mask: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """As booleans. Raises UserError (rl.shapes-differ) unless all have the same two dimensions."""
    shapes = [list(tensor.shape) for tensor in (*others, response_mask)]
    if len(shapes[-1]) != 2 or any(shape != shapes[-1] for shape in shapes):
        raise UserError(
            f"StableReinforce: tensors of shapes {', '.join(map(str, shapes))}; all must be (batch, response length)",
            code="rl.shapes-differ",
            shapes=shapes,
        )
    return response_mask != 0
