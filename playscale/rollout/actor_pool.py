"""The actors of a learner: processes that play with its newest weights, and hand it unrolls.

T unroll, E environments of an actor.

An actor waits until the learner has taken its unroll before it plays on: so actors never run far ahead of the learner.
An actor that dies is replaced; the games it was at are lost, what it had handed over is not.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from contextlib import ExitStack
from dataclasses import replace
from multiprocessing.connection import wait
from types import TracebackType
from typing import NamedTuple, Self

import torch
from torch import nn

from playscale.agents.policy import PolicyConfig, build_policy
from playscale.games.game import GAMES, get_game
from playscale.processes import WorkerError, WorkerProcess
from playscale.rollout.actor import ENTRY, GO, ActorSetup, UnrollStats
from playscale.rollout.shared_arrays import SharedWeights
from playscale.rollout.unroll import Unroll
from playscale.tracking.monitor import count

TRIES = 3
"""An actor that dies so often in a row, without an unroll in between, will die again."""

log = logging.getLogger(__name__)


class ActorUnroll(NamedTuple):
    """An actor's unroll, which is the learner's until it lets the actor go on."""

    actor: int
    filled: UnrollStats
    unroll: Unroll


class ActorPool:
    """`with Actors(...) as actors`, publish() weights, then next() and release(). No process outlives it."""

    def __init__(
        self,
        policy: PolicyConfig,
        *,
        actors: int,
        workers: int,
        environments: int,
        unroll: int,
        max_steps: int,
        device: str,
        seed: tuple[int, ...],
    ) -> None:
        """`workers`: environment processes of each actor; `seed` fixes the games, but not how the actors interleave."""
        self.restarts, self._stopped = 0, False
        with torch.device("meta"):
            like = build_policy(policy)
        state = like.initial_state(1, "cpu")
        columns = get_game(policy.game).columns
        with ExitStack() as stack:
            self._weights = SharedWeights(sum(p.numel() for p in like.parameters()))
            stack.callback(self._weights.close)
            self._unrolls = []
            for _ in range(actors):
                self._unrolls.append(Unroll(columns, state, unroll, environments))
                stack.callback(self._unrolls[-1].close)
            self._setups = [
                ActorSetup(
                    policy, dict(GAMES), workers, environments, unroll, max_steps, device, (*seed, number),
                    filled.fds, self._weights.fd, os.getpid(),
                )
                for number, filled in enumerate(self._unrolls)
            ]  # fmt: skip
            self._children: list[WorkerProcess | None] = [None] * actors
            self._failures = [0] * actors
            self._ready: deque[ActorUnroll] = deque()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for child in self._children:
            if child is not None:
                child.close()
        self._stack.close()

    def stop(self) -> None:
        """Tell the actors to leave, without waiting; whoever waits for their next unroll gets a WorkerError."""
        self._stopped = True
        for child in self._children:
            if child is not None:
                child.stop()

    @property
    def pids(self) -> list[int]:
        return [child.pid for child in self._children if child is not None]

    def publish(self, policy: nn.Module) -> int:
        """What the actors play with from their next unrolls on, as a version's number; the first one starts them."""
        version = self._weights.publish(list(policy.parameters()))
        for number, child in enumerate(self._children):
            if child is None:
                self._start(number)
        return version

    def next(self) -> ActorUnroll:
        """The next unroll that is full, in the order of their coming.

        Raises what an actor raised (ValueError, OSError), or WorkerError when one fails again and again.
        """
        while not self._ready:
            ready = wait([child.connection for child in self._children if child is not None])
            for number, child in enumerate(self._children):
                if child is not None and child.connection in ready:
                    self._receive(number, child)
        return self._ready.popleft()

    def release(self, actor: int) -> None:
        """The actor's unroll has been copied: it may play on."""
        child = self._children[actor]
        assert child is not None
        try:
            child.send(GO)
        except WorkerError as error:
            self._replace(actor, error)

    def _receive(self, number: int, child: WorkerProcess) -> None:
        try:
            filled: UnrollStats = child.receive()
        except WorkerError as error:
            self._replace(number, error)
            return
        self._failures[number] = 0
        self._ready.append(ActorUnroll(number, filled, self._unrolls[number]))

    def _replace(self, number: int, error: WorkerError) -> None:
        self._failures[number] += 1
        if self._stopped or self._failures[number] >= TRIES:
            raise error
        log.warning("actor %d failed (%s): starting another in its place", number, str(error))  # no traceback kept
        child = self._children[number]
        assert child is not None
        child.close()
        self.restarts += 1
        count("errors", own="actor")
        setup = self._setups[number]
        self._setups[number] = replace(setup, seed=(*setup.seed, self.restarts))  # else it would play the same games
        self._start(number)

    def _start(self, number: int) -> None:
        setup = self._setups[number]
        self._children[number] = WorkerProcess(ENTRY, setup, (*setup.unroll_fds, setup.weights_fd))
        self.release(number)
