"""V-trace against the paper's sums written out one by one. T unroll, B batch."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from playscale.training.losses import discounted_sums, vtrace

RUNNING, TERMINATED, TRUNCATED = range(3)


@dataclass
class Case:
    """Random unrolls, everything [T, B] but bootstrap [B]. A frame after an end is the last observation: not valid."""

    log_rhos: np.ndarray
    rewards: np.ndarray
    values: np.ndarray
    bootstrap: np.ndarray
    valid: np.ndarray
    ended: np.ndarray
    gamma: float

    @property
    def discounts(self):
        return self.gamma * (self.valid & (self.ended != TERMINATED))

    def vtrace(self, rho_bar=1.0, c_bar=1.0):
        arrays = (self.log_rhos, self.discounts, self.rewards, self.values, self.bootstrap, self.valid)
        found = vtrace(*map(torch.from_numpy, arrays), rho_bar, c_bar)
        return found.targets.numpy(), found.advantages.numpy()


def draw(seed, *, on_policy=False):
    rng = np.random.default_rng(seed)
    T, B = int(rng.choice([1, 2, 3, 7, 16, 33])), int(rng.integers(1, 5))
    ends = rng.choice([0.0, 0.1, 0.4])  # how often an action ends its episode
    valid, ended = np.ones((T, B), bool), np.zeros((T, B), np.int64)
    for b in range(B):
        over = rng.random() < ends  # the unroll before this one left off with an action that ended an episode
        for t in range(T):
            valid[t, b] = not over
            ended[t, b] = rng.choice([TERMINATED, TRUNCATED]) if valid[t, b] and rng.random() < ends else RUNNING
            over = ended[t, b] != RUNNING
    # What the invalid frames hold must not matter: an actor writes whatever its policy said there.
    log_rhos, rewards, values = rng.normal(0, 1, (T, B)), rng.normal(0, 3, (T, B)), rng.normal(0, 3, (T, B))
    bootstrap, gamma = rng.normal(0, 3, B), float(rng.choice([0.0, 0.5, 0.99, 1.0]))
    return Case(log_rhos * (not on_policy), rewards, values, bootstrap, valid, ended, gamma)


def episode_end(case, s, b):
    """n: the first step from s on that belongs to no more of the episode, or T."""
    n = s
    while n < len(case.valid) and case.valid[n, b]:
        n += 1
        if case.ended[n - 1, b] != RUNNING:
            break
    return n


def next_value(case, values, t, b):
    """What follows action t, as the paper has it: V of the next state, nothing after a terminal one."""
    if case.ended[t, b] == TERMINATED:
        return 0.0
    return values[t + 1, b] if t + 1 < len(values) else case.bootstrap[b]


def literal(case, rho_bar, c_bar):
    """Equation 1 and the policy gradient's factor (arXiv 1802.01561, section 4.1), sum and product as they stand:

    v_s = V(x_s) + sum_{t=s}^{s+n-1} gamma^(t-s) (prod_{i=s}^{t-1} c_i) delta_t V
    delta_t V = rho_t (r_t + gamma V(x_{t+1}) - V(x_t)),  rho_t = min(rho_bar, pi/mu),  c_i = min(c_bar, pi/mu)
    """
    T, B = case.valid.shape
    targets, advantages = case.values.copy(), np.zeros((T, B))
    ratio = np.exp(case.log_rhos)
    for b in range(B):
        for s in range(T):
            for t in range(s, episode_end(case, s, b)):
                product = 1.0
                for i in range(s, t):
                    product *= min(c_bar, ratio[i, b])
                after = next_value(case, case.values, t, b)
                delta = min(rho_bar, ratio[t, b]) * (case.rewards[t, b] + case.gamma * after - case.values[t, b])
                targets[s, b] += case.gamma ** (t - s) * product * delta
        for s in range(T):
            if case.valid[s, b]:
                after = next_value(case, targets, s, b)
                gain = case.rewards[s, b] + case.gamma * after - case.values[s, b]
                advantages[s, b] = min(rho_bar, ratio[s, b]) * gain
    return targets, advantages


@pytest.mark.parametrize(("rho_bar", "c_bar"), [(1.0, 1.0), (2.0, 0.5), (0.7, 1.3), (np.inf, np.inf)])
def test_vtrace_equals_the_papers_sums(rho_bar, c_bar):
    seen = set()
    for seed in range(150):
        case = draw(seed)
        for found, expected in zip(case.vtrace(rho_bar, c_bar), literal(case, rho_bar, c_bar), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}")
        seen |= {len(case.valid) == 1, *np.unique(case.ended).tolist(), "last" if not case.valid.all() else "none"}
    assert seen >= {True, False, RUNNING, TERMINATED, TRUNCATED, "last", "none"}


def test_vtrace_on_policy_is_the_n_step_return():
    """Every step's reward discounted, up to the episode's end or, with its value, to where the unroll leaves off."""
    for seed in range(150):
        case = draw(seed, on_policy=True)
        targets, advantages = case.vtrace()
        for b in range(case.valid.shape[1]):
            expected = 0.0
            for s in reversed(range(len(case.valid))):
                if not case.valid[s, b]:
                    expected = case.values[s, b]
                    assert (targets[s, b], advantages[s, b]) == (expected, 0)
                    continue
                if s == len(case.valid) - 1:
                    expected = case.bootstrap[b]
                expected = case.rewards[s, b] + case.gamma * expected * (case.ended[s, b] != TERMINATED)
                assert targets[s, b] == pytest.approx(expected, abs=1e-9), seed
                assert advantages[s, b] == pytest.approx(expected - case.values[s, b], abs=1e-9), seed


def test_episodes_know_nothing_of_each_other():
    """What comes before a last observation is the same whatever comes after it."""
    case = next(case for seed in range(99) if len((case := draw(seed)).valid) == 16)
    case.valid[:], case.ended[:] = True, RUNNING
    end = len(case.valid) // 2
    case.ended[end], case.valid[end + 1] = TRUNCATED, False
    before = [found[: end + 1].copy() for found in case.vtrace()]
    for array in (case.rewards, case.log_rhos, case.values):
        array[end + 2 :] += 5
    case.rewards[end + 1], case.log_rhos[end + 1] = 99, 7
    case.bootstrap += 5
    for was, found in zip(before, case.vtrace(), strict=True):
        np.testing.assert_array_equal(was, found[: end + 1])


def test_neither_targets_nor_advantages_have_gradients():
    values = torch.zeros(3, 2, requires_grad=True)
    ones = torch.ones(3, 2)
    found = vtrace(values, ones, ones, values, values[0], ones.bool())
    assert not found.targets.requires_grad
    assert not found.advantages.requires_grad


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 31])
def test_discounted_sums_go_backwards(steps):
    generator = torch.Generator().manual_seed(steps)
    terms, factors = (torch.randn(steps, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    expected, later = [], torch.zeros(3, dtype=torch.float64)
    for t in reversed(range(steps)):
        later = terms[t] + factors[t] * later
        expected.insert(0, later)
    torch.testing.assert_close(discounted_sums(terms, factors), torch.stack(expected))
