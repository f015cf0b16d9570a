"""Parameters and forward FLOPs of a policy by part; each adds up to its total.

Parts are those of the encoder, "fc", "core", "policy head" and, if there is one, "value head". FLOPs count the forward
pass of one sample (one transition); a multiply-add is 2. A PolicyConfig is counted without allocating its weights.
"""

from __future__ import annotations

from playscale.agents.layers import count_parameters, linear_flops, on_meta
from playscale.agents.lstm import lstm_flops
from playscale.agents.policy import Policy, PolicyConfig
from playscale.agents.transformer import transformer_flops

BACKWARD = 2  # the backward pass costs twice the forward pass


def params_by_part(policy: Policy | PolicyConfig) -> dict[str, int]:
    """Return the number of parameters of each part."""
    policy = as_policy(policy)
    parts: dict[str, int] = dict(policy.encoder.params())  # type: ignore[operator]
    parts["fc"] = count_parameters(policy.fc1) + count_parameters(policy.fc2)
    parts["core"] = count_parameters(policy.core)
    parts["policy head"] = count_parameters(policy.head)
    if policy.value is not None:
        parts["value head"] = count_parameters(policy.value)
    return parts


def flops_by_part(policy: Policy | PolicyConfig) -> dict[str, int]:
    """Return the forward FLOPs per sample of each part."""
    policy = as_policy(policy)
    parts: dict[str, int] = dict(policy.encoder.flops())  # type: ignore[operator]
    parts["fc"] = linear_flops(policy.fc1) + linear_flops(policy.fc2)
    parts["core"] = core_flops(policy.config.core, policy.config.width, policy.config.layers, policy.config.context)
    parts["policy head"] = linear_flops(policy.head)
    if policy.value is not None:
        parts["value head"] = linear_flops(policy.value)
    return parts


def core_flops(core: str, width: int, layers: int, context: int) -> int:
    return lstm_flops(width, layers) if core == "lstm" else transformer_flops(width, layers, context)


def params(policy: Policy | PolicyConfig) -> int:
    return sum(params_by_part(policy).values())


def forward_flops(policy: Policy | PolicyConfig) -> int:
    return sum(flops_by_part(policy).values())


def training_flops_per_sample(policy: Policy | PolicyConfig) -> int:
    """Return the FLOPs of training on one sample: three times the forward pass."""
    return (1 + BACKWARD) * forward_flops(policy)


def as_policy(policy: Policy | PolicyConfig) -> Policy:
    """Return the policy, or build that of a config on the meta device, where nothing is allocated."""
    if isinstance(policy, Policy):
        return policy
    with on_meta():
        return Policy(policy)
