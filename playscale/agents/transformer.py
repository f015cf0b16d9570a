"""The transformer core: causal, within one game, over a sliding window. T unroll, B batch, L layers, W window, h width.

What a step can see is itself and the W - 1 steps before it. Their keys and values travel in the state, so that stepping
one at a time equals a whole unroll. Keys are kept unrotated and turned by their place in the window, so that positions
stay small however long the game.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playscale.agents.layers import rotary_angles, rotate

State = dict[str, Tensor]
MLP = 4  # the MLP's hidden width, in widths


class TransformerCore(nn.Module):
    """Pre-norm blocks (as GPT-2's, but for rotary positions) and a last norm."""

    def __init__(self, width: int, layers: int, heads: int, context: int) -> None:
        super().__init__()
        assert width % heads == 0, f"{heads} heads do not divide a width of {width}"
        assert (width // heads) % 2 == 0, "rotary embeddings turn pairs"
        self.heads, self.head_dim, self.past = heads, width // heads, context - 1
        self.blocks = nn.ModuleList(Block(width, heads, layers) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        shape = (batch, len(self.blocks), self.past, self.heads, self.head_dim)
        return {
            "keys": torch.zeros(shape, device=device),
            "values": torch.zeros(shape, device=device),
            "valid": torch.zeros(batch, self.past, dtype=torch.bool, device=device),
        }

    def forward(
        self, x: Tensor, done: Tensor, state: State, resets: Sequence[int] | None = None
    ) -> tuple[Tensor, State]:
        """Inputs x [T, B, h], done [T, B], state [B, ...]: outputs [T, B, h] and the detached state after them.

        Resets are in the mask; `resets`, which the LSTM needs, are not looked at.
        """
        del resets
        game = F.pad(done.t().cumsum(1), (self.past, 0))  # [B, W - 1 + T]; the state belongs to game 0
        exists = F.pad(state["valid"], (0, len(x)), value=True)
        mask = self.mask(game, exists)
        angles = rotary_angles(torch.arange(self.past + len(x), device=x.device), self.head_dim)
        y, keys, values = x.transpose(0, 1), [], []
        for i, block in enumerate(self.blocks):
            y, key, value = block(y, state["keys"][:, i], state["values"][:, i], mask, angles)
            keys.append(key[:, len(x) :].detach().float())
            values.append(value[:, len(x) :].detach().float())
        valid = (exists & (game == game[:, -1:]))[:, len(x) :]
        after = {"keys": torch.stack(keys, 1), "values": torch.stack(values, 1), "valid": valid}
        return self.norm(y).transpose(0, 1), after

    def mask(self, game: Tensor, exists: Tensor) -> Tensor:
        """What each step may attend to, [B, 1, T, W - 1 + T]: earlier or itself, within the window, of its own game."""
        place = torch.arange(game.shape[1], device=game.device)
        query = place[self.past :, None]
        near = (place <= query) & (place >= query - self.past)
        same = game[:, self.past :, None] == game[:, None]
        return (near & same & exists[:, None])[:, None]


class Block(nn.Module):
    """Attention and MLP, each on the normed input and added to it."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, MLP * width), nn.Linear(MLP * width, width)
        for layer in (self.qkv, self.merge, self.up, self.down):
            # What is added to the stream is divided by sqrt(2 L), so that depth leaves its variance alone (GPT-2).
            gain = (2 * layers) ** -0.5 if layer in (self.merge, self.down) else 1.0
            nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Tensor, past_key: Tensor, past_value: Tensor, mask: Tensor, angles: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Steps x [B, T, h], keys and values before [B, W - 1, heads, d]: x after the block, all keys and values."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(2, (3, self.heads, -1)).unbind(2)  # [B, T, heads, d]
        k, v = torch.cat((past_key.to(k.dtype), k), 1), torch.cat((past_value.to(v.dtype), v), 1)
        cos, sin = angles
        new = x.shape[1]
        attended = F.scaled_dot_product_attention(
            rotate(q.transpose(1, 2), cos[-new:], sin[-new:]),
            rotate(k.transpose(1, 2), cos, sin),
            v.transpose(1, 2),
            attn_mask=mask,
        )
        x = x + self.merge(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)))), k, v


def transformer_params(width: int, layers: int) -> int:
    """Weights 12 h^2 a block, biases and two norms 13 h, and the last norm."""
    return layers * ((4 + 2 * MLP) * width * width + (9 + MLP) * width) + 2 * width


def transformer_flops(width: int, layers: int, context: int) -> int:
    """Forward FLOPs of one step of one sample: the weights, and a query's scores and sums over a full window.

    An unroll on a dense kernel also spends 4 h (T - 1) a layer on what is masked; that is not counted.
    """
    return layers * (2 * (4 + 2 * MLP) * width * width + 4 * context * width)
