"""The LSTM core. T unroll, B batch, h width."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

State = dict[str, Tensor]


class LstmCore(nn.Module):
    """An LSTM whose state is reset at the beginning of each game."""

    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
                if name.startswith("bias_ih"):  # forget little at first (Jozefowicz et al., ICML 2015)
                    nn.init.ones_(parameter.data[width : 2 * width])
            else:
                nn.init.normal_(parameter, std=width**-0.5)

    def initial_state(self, batch: int, device: torch.device | str | None = None) -> State:
        shape = (batch, self.lstm.num_layers, self.lstm.hidden_size)
        return {"hidden": torch.zeros(shape, device=device), "cell": torch.zeros(shape, device=device)}

    def forward(
        self, x: Tensor, done: Tensor, state: State, resets: Sequence[int] | None = None
    ) -> tuple[Tensor, State]:
        """Map x [T, B, h], done [T, B] and the state, each [B, layers, h], to outputs [T, B, h] and the detached state.

        Games are long, so an unroll is run as the few segments between resets, each in one fused call. `resets`: the
        steps before which a column is reset (reset_steps); by default read from `done`, which waits for the device.
        """
        hidden, cell = (state[key].to(x.dtype).transpose(0, 1).contiguous() for key in ("hidden", "cell"))
        resets = reset_steps(done) if resets is None else resets
        edges = sorted({0, *resets, len(x)})
        outputs = []
        for start, end in itertools.pairwise(edges):
            if start in resets:
                keep = ~done[start, :, None]
                hidden, cell = hidden * keep, cell * keep
            y, (hidden, cell) = self.lstm(x[start:end], (hidden, cell))
            outputs.append(y)
        after = {"hidden": hidden, "cell": cell}
        joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        return joined, {key: value.detach().transpose(0, 1).float() for key, value in after.items()}


def reset_steps(done: Tensor) -> list[int]:
    """Return the steps t at which any column of done [T, B] begins a new game."""
    return done.any(1).nonzero().flatten().tolist()


def lstm_params(width: int, layers: int) -> int:
    """Return the number of parameters: two matrices and, in torch, two biases for each of the four gates."""
    return layers * (8 * width * width + 8 * width)


def lstm_flops(width: int, layers: int) -> int:
    """Return the forward FLOPs of one step of one sample."""
    return layers * 16 * width * width
