"""Training by IMPALA: environment frames/s beside nle's own agent, and beside its environments without a learner.

    playscale bench impala [--rounds 5] [--seconds 2]

The peer is `python -m nle.agent.agent --use_lstm`, which comes with nle (TorchBeast's MonoBeast: each actor steps one
environment and runs the policy for it). Both sides play NetHackScore-v0 with the same unroll and batch, and as many
processes step environments on each; ours has a policy of about as many FLOPs a frame as the peer's, which torch's
FlopCounterMode counts (but for its LSTM, counted by formula). How frames are counted: impala_sides.py.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from playscale.agents.flops import forward_flops
from playscale.agents.lstm import lstm_flops
from playscale.agents.policy import PolicyConfig
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game

from .bench import Options, Row
from .impala_sides import GAME, PEER_ENV, Environments, OurRun, OurSide, PeerSide, running
from .rounds import alternate, row

SHAPES = ((32, 4), (32, 32))  # unroll, batch
CLOSE = 0.2  # relative, of the two policies' FLOPs
WINDOW = 10.0  # a side is measured for this many times --seconds: steps of the peer take most of a second


def run(options: Options) -> list[Row]:
    """Return a few rows for each shape, with an actor for each core."""
    actors = max(2, os.cpu_count() or 1)
    theirs = peer_flops()
    return [row for shape in SHAPES for row in measure(options, *shape, actors, size_for(theirs), theirs)]


def measure(options: Options, unroll: int, batch: int, actors: int, size: str, peer_flops: float) -> list[Row]:
    """Measure frames/s beside the peer's and beside the environments alone, the age of the weights that actors play
    with, and the time that actors wait for the learner.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="playscale-bench-")))
        ours = stack.enter_context(running(OurSide(OurRun(str(folder / "ours"), size, unroll, batch, actors))))
        peer = stack.enter_context(running(PeerSide(folder / "peer", unroll, batch, actors)))
        alone = stack.enter_context(Environments(actors, batch * actors))
        window = WINDOW * options.seconds
        rates = alternate(
            {
                "ours": lambda: ours.rate(window),
                "peer": lambda: peer.rate(window),
                "alone": lambda: alone.rate(options.seconds),
            },
            options.rounds,
        )
    flops = forward_flops(_policy(size))
    name = f"impala {unroll} x {batch}, {actors} actors"
    about = {"size": size, "flops": flops, "peer_flops": peer_flops, "actors": actors}
    note = f"{size}: {flops / 1e6:.0f} MFLOPs a frame, the peer's {peer_flops / 1e6:.0f}"
    lag, waits = (
        statistics.fmean(m.note[name] for m in ours.measured) for name in ("policy_lag", "actor_share_waiting")
    )
    return [
        row(name, "frames/s", rates["ours"], rates["peer"], note=note, **about),
        row(f"{name}: of its environments alone", "frames/s", rates["ours"], rates["alone"], processes=actors),
        Row(f"{name}: policy lag", "updates", lag),
        Row(f"{name}: actors wait", "% of their time", 100 * waits),
    ]


def _policy(size: str) -> PolicyConfig:
    return replace(config_for_size(get_game(GAME), size, "lstm"), value_head=True)


def size_for(flops: float) -> str:
    """Return the size whose policy's forward FLOPs are nearest; ValueError when none is within CLOSE."""
    sizes = [f"{round(10 ** (4 + i / 20)):d}" for i in range(81)]  # 10 thousand to 100 million
    size = min(sizes, key=lambda name: abs(forward_flops(_policy(name)) - flops))
    if abs(forward_flops(_policy(size)) / flops - 1) > CLOSE:
        raise ValueError(f"no size has about {flops:g} forward FLOPs a frame")
    return size


def peer_flops() -> float:
    """Return the forward FLOPs of a frame in the peer's network: torch's count, and a formula's for its LSTM."""
    import gymnasium
    import torch
    from nle.agent.agent import NetHackNet
    from torch.utils.flop_counter import FlopCounterMode

    env = gymnasium.make(PEER_ENV, observation_keys=("glyphs", "blstats"))
    net = NetHackNet(env.observation_space, env.action_space.n, use_lstm=True)  # type: ignore[attr-defined]
    env.close()
    frames = {
        "glyphs": torch.zeros(1, 1, net.H, net.W, dtype=torch.int16),
        "blstats": torch.zeros(1, 1, net.blstats_size),
        "done": torch.zeros(1, 1, dtype=torch.bool),
    }
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(frames, net.initial_state(1))
    counted = counter.get_flop_counts()
    of_lstm = sum(sum(count.values()) for name, count in counted.items() if name.endswith(".core"))
    return float(counter.get_total_flops() - of_lstm + lstm_flops(net.core.hidden_size, net.core.num_layers))
