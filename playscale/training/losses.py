"""The losses of an actor-critic: policy gradient, value, entropy, and the pull towards a teacher.

T unroll, B batch (columns), A actions.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from playscale.training.vtrace import vtrace


class Costs(NamedTuple):
    """What each loss weighs beside the policy gradient's `policy`."""

    policy: float
    baseline: float
    entropy: float
    teacher: float


class Seen(NamedTuple):
    """What actors saw and did, [T, B] each: `log_prob` is log mu(a|x) of the policy that acted."""

    action: Tensor
    log_prob: Tensor
    reward: Tensor
    discount: Tensor
    valid: Tensor


class Losses(NamedTuple):
    """Means over valid steps (scalars). entropy is the policy's, in nats; teacher is KL(teacher || policy), in nats."""

    policy: Tensor
    baseline: Tensor
    entropy: Tensor
    teacher: Tensor

    def total(self, costs: Costs) -> Tensor:
        return (
            costs.policy * self.policy
            + costs.baseline * self.baseline
            - costs.entropy * self.entropy
            + costs.teacher * self.teacher
        )


def actor_critic_losses(
    logits: Tensor,
    values: Tensor,
    bootstrap: Tensor,
    seen: Seen,
    teacher_logits: Tensor | None,
    rho_bar: float,
    c_bar: float,
) -> Losses:
    """The losses of an unroll: logits [T, B, A], values [T, B], bootstrap [B], teacher_logits [T, B, A].

    The value loss is half the squared error to the V-trace target. Kickstarting's pull (Schmitt et al., arXiv
    1803.03835) is the cross-entropy of the policy under the teacher, here less the teacher's own entropy: a KL.
    """
    log_policy = logits.log_softmax(-1)
    log_prob = log_policy.gather(-1, seen.action[..., None]).squeeze(-1)
    targets, advantages = vtrace(
        (log_prob - seen.log_prob).detach(),
        seen.discount,
        seen.reward,
        values.detach(),
        bootstrap.detach(),
        seen.valid,
        rho_bar,
        c_bar,
    )
    weight = seen.valid / seen.valid.sum().clamp(min=1)
    policy = -(advantages * log_prob * weight).sum()
    baseline = 0.5 * ((targets - values).square() * weight).sum()
    entropy = -((log_policy.exp() * log_policy).sum(-1) * weight).sum()
    teacher = logits.new_zeros(())
    if teacher_logits is not None:
        log_teacher = teacher_logits.log_softmax(-1)
        teacher = ((log_teacher.exp() * (log_teacher - log_policy)).sum(-1) * weight).sum()
    return Losses(policy, baseline, entropy, teacher)
