import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from playscale.agents.layers import ResidualBlock, conv_flops, he_init, linear_flops, lookup, rotary_angles, rotate


def test_lookup_and_its_gradient_equal_an_embeddings():
    torch.manual_seed(0)
    mine, theirs = (torch.randn(7, 3, requires_grad=True) for _ in range(2))
    theirs.data.copy_(mine.data)
    index = torch.randint(0, 7, (4, 5, 6))
    a, b = lookup(mine, index), F.embedding(index, theirs)
    assert torch.equal(a, b)
    weight = torch.randn_like(a)
    (a * weight).sum().backward()
    (b * weight).sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_residual_block_starts_as_the_identity_but_learns():
    block = ResidualBlock(4)
    x = torch.randn(2, 4, 5, 6)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.second.weight.grad.abs().sum() > 0


def test_a_rotated_score_depends_on_the_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(8).expand(20, 8), torch.randn(8).expand(20, 8)
    angles = rotary_angles(torch.arange(20), 8)
    scores = rotate(q, *angles) @ rotate(k, *angles).T
    for distance in range(-19, 20):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=1e-4, atol=1e-4)
    assert scores[0].std() > 0.01, "and on the distance it does depend"


def test_rotating_keeps_lengths_and_dtype():
    x = torch.randn(3, 5, 6)
    turned = rotate(x, *rotary_angles(torch.arange(5), 6))
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), *rotary_angles(torch.arange(5), 6)).dtype == torch.bfloat16


@pytest.mark.parametrize("layer", [nn.Linear(900, 400), nn.Conv2d(100, 400, 3)])
def test_he_init_has_the_variance_it_names(layer):
    torch.manual_seed(0)
    he_init(layer)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / 900), rel=0.01)
    assert not layer.bias.any()


def test_costs_of_layers():
    assert linear_flops(nn.Linear(3, 5)) == 30
    assert linear_flops(nn.Linear(3, 5), rows=4) == 120
    assert conv_flops(nn.Conv2d(3, 5, (1, 2)), positions=7) == 2 * 3 * 5 * 2 * 7
    assert ResidualBlock(4).flops(10) == 2 * (2 * 4 * 4 * 9 * 10)
