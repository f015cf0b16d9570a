"""The benchmark's twin of the paper's released policy: its fast layers against plain ones and against the peer."""

import os
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from random_unrolls import unroll_of

from playscale.training.losses import bc_loss
from playscale_benchmarks.contender import import_peer
from playscale_benchmarks.twin import BLANK, CHARS, COLORS, Shape, Twin, conv_of_lookup, crop, renamed

PEER = os.environ.get("PLAYSCALE_PEER")


def test_a_convolution_of_looked_up_cells_equals_the_plain_one():
    """Also where most cells are the blank, and at the edges."""
    torch.manual_seed(0)
    table = torch.randn(CHARS * COLORS, 6, dtype=torch.double)
    weight, bias = torch.randn(4, 6, 3, 3, dtype=torch.double), torch.randn(4, dtype=torch.double)
    cells = torch.where(torch.rand(3, 5, 7) < 0.6, BLANK, torch.randint(0, CHARS * COLORS, (3, 5, 7))).int()
    wanted = torch.randn(3, 4, 5, 7, dtype=torch.double)
    found = []
    for plain in (False, True):
        inputs = [value.clone().requires_grad_() for value in (table, weight, bias)]
        if plain:
            x = F.embedding(cells.long(), inputs[0]).permute(0, 3, 1, 2)
            y = F.conv2d(x, inputs[1], inputs[2], padding=1)
        else:
            y = conv_of_lookup(cells, *inputs)
        (y * wanted).sum().backward()
        found.append([y.detach(), *(value.grad for value in inputs)])
    for fast, plain in zip(*found, strict=True):
        torch.testing.assert_close(fast, plain)


def test_the_message_is_a_product_with_a_one_hot():
    torch.manual_seed(0)
    twin, line = Twin(Shape(16)).message, torch.randint(0, 256, (5, 80))
    plain = F.one_hot(line, CHARS).flatten(1).float() @ twin.rows + twin.bias
    torch.testing.assert_close(twin(line), twin.rest(F.elu(plain)))


def test_the_crop_is_around_the_cursor_and_empty_beyond_the_map():
    cells = torch.arange(1, 1 + 21 * 80).view(1, 21, 80)
    for row, column in ((0, 0), (1, 0), (11, 40), (21, 79), (23, 79)):
        window = crop(cells, torch.tensor([[row, column]]))[0]
        for i in range(9):
            for j in range(9):
                y, x = row - 1 + i - 5, column + j - 5
                inside = 0 <= y < 21 and 0 <= x < 80
                assert window[i, j] == (cells[0, y, x] if inside else 0)


@pytest.mark.skipif(not PEER, reason="set PLAYSCALE_PEER to a checkout of princeton-nlp/il-scaling-in-games")
@pytest.mark.parametrize("width", [64, 512])
def test_twin_with_the_peers_weights_computes_what_the_peer_does(monkeypatch, width):
    """In fp64: in fp32 a ReLU's input within rounding of zero can send a gradient of 4 % the other way."""
    monkeypatch.setattr(torch.Tensor, "float", lambda self, **_: self.double())
    torch.manual_seed(0)
    peer = import_peer(Path(PEER))(**Shape(width).peer).double()
    twin = Twin(Shape(width)).double()
    twin.load_peer(peer.state_dict())
    batch = unroll_of(8, 4)
    batch["done"][3, 1] = batch["done"][5, 2] = True
    batch["prev_action"].clamp_(max=120)
    batch["action"] = torch.randint(0, 121, (8, 4))
    valid = torch.ones(8, 4, dtype=torch.bool)
    frames = {name: batch[name][:, :, None] for name in ("tty_chars", "tty_colors")}
    state = tuple(value.double() for value in peer.initial_state(4))
    theirs = peer(batch | frames, state)[0]["policy_logits"]
    ours = twin(batch, twin.initial_state(4)).logits
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    for logits in (theirs, ours):
        bc_loss(logits, batch["action"], valid).backward()
    gradients = renamed({name: p.grad for name, p in peer.named_parameters() if p.grad is not None})
    for name, p in twin.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-6, atol=1e-12, msg=name)
