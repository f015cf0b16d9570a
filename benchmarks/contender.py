"""One side of the training benchmark, in its own process: on request it trains for a moment and prints its speed.

    python -m benchmarks.contender '{"kind": "policy", "size": "1M", ...}'

A process of its own, because its allocator, threads and compiled code are part of how a side does the work. It prints
a line of JSON when it is ready (what it is, its first losses), then one for each line of seconds it reads.
"""

from __future__ import annotations

import json
import resource
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from playscale.agents.device import clock, matmul_rate
from playscale.training.batches import Batch

from .twin import Shape, Twin
from .unrolls import load_unrolls

RATE, CLIP = 1e-4, 1.0
WARM_UP = 3


@dataclass(frozen=True)
class Contender:
    """Network and data of one side. kind: peer, twin (the peer's layers, written for speed) or policy (ours)."""

    kind: str
    unrolls: str
    unroll: int
    batch: int
    precision: str
    width: int = 0
    peer: str = ""
    size: str = ""
    core: str = "lstm"
    compile: bool = False


def import_peer(folder: Path) -> type[nn.Module]:
    """Return the peer's policy class. ValueError when it is not there.

    Its modules import packages for sampling and for playing (transformers, gym) that training never calls; empty ones
    stand in for them where they are not installed.
    """
    if not (folder / "il_scale/nethack/v1/net.py").is_file():
        raise ValueError(f"--peer {folder}: no il_scale/nethack/v1/net.py in it (princeton-nlp/il-scaling-in-games)")
    sys.path.insert(0, str(folder))
    for name, attributes in (("transformers", ("TopPLogitsWarper", "TopKLogitsWarper")), ("gym", ())):
        try:
            __import__(name)
        except ImportError:
            module = types.ModuleType(name)
            for attribute in attributes:
                setattr(module, attribute, lambda *_: None)
            sys.modules[name] = module
    from il_scale.nethack.v1.net import NetHackNetTtyrec  # type: ignore[import-not-found]

    return NetHackNetTtyrec


def peer_step(net: Any, entry: Contender, device: torch.device) -> Callable[[Batch], torch.Tensor]:
    """Return the peer's training step as in its trainer: autocast, cross-entropy, clipping, Adam."""
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    state = tuple(value.to(device) for value in net.initial_state(entry.batch))

    def step(batch: Batch) -> torch.Tensor:
        nonlocal state
        frames = {name: batch.tensors[name][:, :, None] for name in ("tty_chars", "tty_colors")}
        with torch.autocast(device.type, torch.bfloat16, enabled=entry.precision == "bf16"):
            output, after = net(batch.tensors | frames, state)
            loss = F.cross_entropy(output["policy_logits"].flatten(0, 1), batch.tensors["action"].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state = tuple(value.detach() for value in after)
        return loss.detach()

    return step


def our_step(policy: Any, entry: Contender, device: torch.device) -> Callable[[Batch], torch.Tensor]:
    """Return a step as behavioural cloning takes it, on the policy or on the twin."""
    from playscale.training.losses import bc_loss
    from playscale.training.optimization import (
        PolicyOptimizer,
        compile_features,
        keep_freed_memory,
        make_optimizer,
    )

    if device.type == "cpu":
        keep_freed_memory()
    if entry.compile:
        compile_features(policy, device)
    optimizer = PolicyOptimizer(policy, make_optimizer(policy), CLIP, device, entry.precision)
    state = policy.initial_state(entry.batch)

    def step(batch: Batch) -> torch.Tensor:
        nonlocal state
        logits, _, state = optimizer.forward(batch.tensors, state, batch.resets)
        loss = bc_loss(logits.float(), batch.tensors["action"], batch.tensors["valid"])
        return optimizer.step(loss, RATE).loss

    return step


def make(entry: Contender, device: torch.device) -> tuple[nn.Module, Callable[[Batch], torch.Tensor]]:
    torch.manual_seed(0)
    if entry.kind == "policy":
        from playscale.agents.policy import build_policy
        from playscale.agents.sizing import config_for_size
        from playscale.games.game import get_game

        policy = build_policy(config_for_size(get_game("nethack"), entry.size, entry.core), device)
        return policy, our_step(policy, entry, device)
    shape = Shape(entry.width)
    peer = import_peer(Path(entry.peer))(**shape.peer) if entry.peer else None
    if entry.kind == "peer":
        assert peer is not None
        return peer.to(device), peer_step(peer.to(device), entry, device)
    twin = Twin(shape)
    if peer is not None:
        twin.load_peer(peer.state_dict())  # the same weights: the first losses must be equal
    return twin.to(device), our_step(twin.to(device), entry, device)


def measure(step: Callable[[Batch], torch.Tensor], batches: Iterator[Batch], device: torch.device, s: float) -> float:
    """Return the seconds of a step, over at least `s` seconds. The device is synchronised at both ends only."""
    steps, start = 0, clock(device)
    while True:
        step(next(batches))
        steps += 1
        if (device.type == "cpu" or steps % 20 == 0) and (spent := clock(device) - start) >= s:
            return spent / steps


def peak_memory(device: torch.device) -> int:
    """Return the device's peak memory, or the process's largest resident set, in bytes.

    Read from /proc: getrusage counts from the peak of the process that started this one.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(line for line in status.read_text(encoding="utf-8").split("\n") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def main() -> None:
    entry = Contender(**json.loads(sys.argv[1]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    before = peak_memory(device)
    net, step = make(entry, device)
    batches = cycle(load_unrolls(Path(entry.unrolls), entry.unroll, device))
    losses = [step(next(batches)).item() for _ in range(WARM_UP)]
    params = sum(value.numel() for value in net.parameters())
    say(asdict(entry) | {"losses": losses, "params": params, "memory": peak_memory(device) - before})
    for line in sys.stdin:
        matmul = matmul_rate(device, entry.precision)
        say({"seconds": measure(step, batches, device, float(line)), "matmul": matmul})


def say(value: dict[str, Any]) -> None:
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main()
