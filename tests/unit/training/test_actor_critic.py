"""The actor-critic's losses: their gradients against finite differences, and what each pulls towards."""

import pytest
import torch

from playscale.training.losses import Costs, Trajectory, actor_critic_losses, vtrace

T, B, A = 5, 3, 4
STEP = 1e-6
ALL = Costs(policy=1.0, baseline=0.5, entropy=0.3, teacher=0.7)


def draw(seed=0):
    """Logits [T, B, A], values [T, B], bootstrap [B], what was seen, the teacher's logits [T, B, A]; in float64."""
    generator = torch.Generator().manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    valid = torch.ones(T, B, dtype=torch.bool)
    discount = torch.full((T, B), 0.9, dtype=torch.float64)
    valid[2, 0], discount[1, 0], discount[2, 0] = False, 0.0, 0.0  # terminated, then its last observation
    valid[0, 2], discount[0, 2] = False, 0.0  # the last observation of an episode truncated in the unroll before
    action = torch.randint(A, (T, B), generator=generator)
    seen = Trajectory(action, normal(T, B) - 1.4, normal(T, B), discount, valid)
    return normal(T, B, A), normal(T, B), normal(B), seen, normal(T, B, A)


def held(logits, values, bootstrap, seen):
    """The V-trace targets and advantages at this point: constants of the losses."""
    ours = logits.log_softmax(-1).gather(-1, seen.action[..., None]).squeeze(-1)
    return vtrace(ours - seen.log_prob, seen.discount, seen.reward, values, bootstrap, seen.valid)


def literal_total(logits, values, seen, teacher, costs, fixed):
    """The loss written as sums over the valid steps, its targets and advantages given."""
    total, count = 0.0, int(seen.valid.sum())
    for t in range(T):
        for b in range(B):
            if not seen.valid[t, b]:
                continue
            pi = logits[t, b].exp() / logits[t, b].exp().sum()
            his = teacher[t, b].exp() / teacher[t, b].exp().sum()
            total -= costs.policy * float(fixed.advantages[t, b] * pi[seen.action[t, b]].log())
            total += costs.baseline * 0.5 * float(fixed.targets[t, b] - values[t, b]) ** 2
            total -= costs.entropy * -float((pi * pi.log()).sum())
            total += costs.teacher * float((his * (his / pi).log()).sum())
    return total / count


def total(logits, values, bootstrap, seen, teacher, costs=ALL):
    return actor_critic_losses(logits, values, bootstrap, seen, teacher, 1.0, 1.0).total(costs)


@pytest.mark.parametrize("seed", range(5))
def test_the_gradients_are_those_of_finite_differences(seed):
    logits, values, bootstrap, seen, teacher = draw(seed)
    fixed = held(logits, values, bootstrap, seen)
    of_logits, of_values = logits.clone().requires_grad_(), values.clone().requires_grad_()
    loss = total(of_logits, of_values, bootstrap, seen, teacher)
    assert loss.item() == pytest.approx(literal_total(logits, values, seen, teacher, ALL, fixed), rel=1e-6)
    loss.backward()
    for array, gradient in ((logits, of_logits.grad), (values, of_values.grad)):
        assert (gradient[~seen.valid] == 0).all(), "nothing is learned where no action was taken"
        for index in range(array.numel()):
            at = torch.unravel_index(torch.tensor(index), array.shape)
            kept = array[at].item()
            array[at] = kept + STEP
            above = literal_total(logits, values, seen, teacher, ALL, fixed)
            array[at] = kept - STEP
            below = literal_total(logits, values, seen, teacher, ALL, fixed)
            array[at] = kept
            assert gradient[at].item() == pytest.approx((above - below) / (2 * STEP), rel=1e-4, abs=1e-7)


def test_each_cost_weighs_its_own_loss():
    logits, values, bootstrap, seen, teacher = draw()
    losses = actor_critic_losses(logits, values, bootstrap, seen, teacher, 1.0, 1.0)
    for name, sign in (("policy", 1), ("baseline", 1), ("entropy", -1), ("teacher", 1)):
        alone = Costs(0, 0, 0, 0)._replace(**{name: 2.0})
        assert losses.total(alone) == pytest.approx(2 * sign * getattr(losses, name))
    assert (losses.entropy > 0, losses.teacher > 0, losses.baseline > 0) == (True, True, True)


def test_distillation_loss_is_zero_without_a_teacher_or_where_it_agrees():
    logits, values, bootstrap, seen, _ = draw()
    for teacher in (None, logits + 3):  # the same distribution
        assert actor_critic_losses(logits, values, bootstrap, seen, teacher, 1.0, 1.0).teacher == pytest.approx(0)


def test_the_entropy_of_equal_chances_is_their_logarithm():
    _, values, bootstrap, seen, _ = draw()
    losses = actor_critic_losses(torch.zeros(T, B, A), values, bootstrap, seen, None, 1.0, 1.0)
    assert losses.entropy.item() == pytest.approx(torch.tensor(float(A)).log().item())


def test_nothing_valid_is_no_loss_and_no_gradient():
    logits, values, bootstrap, seen, teacher = draw()
    logits.requires_grad_()
    loss = total(logits, values, bootstrap, seen._replace(valid=torch.zeros(T, B, dtype=torch.bool)), teacher)
    loss.backward()
    assert loss == 0
    assert (logits.grad == 0).all()
