"""Batches of unrolls as tensors on the training device, read ahead in a background thread.

T unroll, B batch.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from playscale.rollout.unroll import Unroll
from playscale.tracking.monitor import watched

READ_AHEAD = 2
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Batch:
    """Unrolls of B games side by side, and what the host knows of them without asking the device.

    Attributes:
        tensors: [T, B, ...] by name.
        game_ids: The recorded games in the batches of all processes (ascending, padding left out).
        resets: The steps at which a new game begins in any of the B.
    """

    tensors: dict[str, Tensor]
    game_ids: list[int]
    resets: list[int]

    def moved(self, move: Callable[[Tensor], Tensor]) -> Self:
        """Return the batch with `move` applied to every tensor."""
        return replace(self, tensors={name: move(value) for name, value in self.tensors.items()})


@dataclass(frozen=True)
class ActorBatch(Batch):
    """One actor's unroll: T + 1 frames of its B environments, `reward` and `discount` [T, B].

    Attributes:
        recurrent: State of the core before the first frame, [B, ...] by name.
        unroll: The unroll on the host, with what the actor says of it.
    """

    recurrent: dict[str, Tensor]
    unroll: Unroll

    def moved(self, move: Callable[[Tensor], Tensor]) -> Self:
        recurrent = {name: move(value) for name, value in self.recurrent.items()}
        return replace(super().moved(move), recurrent=recurrent)


B = TypeVar("B", bound=Batch)
Item = TypeVar("Item")


def batches(
    stream: Iterator[dict[str, np.ndarray]],
    device: torch.device,
    columns: slice = slice(None),
    ahead: int = READ_AHEAD,
) -> Generator[Batch]:
    """Yield the batches of a corpus stream on `device`, in order; of each these columns of the batch.

    Close the generator (contextlib.closing) to stop the thread that reads ahead. An exception of the stream is raised
    here, in its place.
    """

    def from_corpus(arrays: dict[str, np.ndarray]) -> Batch:
        own = {name: np.ascontiguousarray(array[:, columns]) for name, array in arrays.items()}
        tensors = {name: torch.from_numpy(array) for name, array in own.items()}
        game_ids = np.unique(arrays["game_id"][arrays["valid"]]).tolist() if "game_id" in arrays else []
        return Batch(tensors, game_ids, _resets(own["done"]))

    return _on_device(stream, from_corpus, device, ahead)


def actor_batches(unrolls: Iterator[Unroll], discount: float, device: torch.device) -> Generator[ActorBatch]:
    """Yield a batch for each unroll, on `device`; see batches(). One is read ahead, so that weights stay fresh."""

    def from_actor(unroll: Unroll) -> ActorBatch:
        own = {name: array for name, array in unroll.frames.items() if name not in ("reward", "ended")}
        own |= {"reward": unroll.rewards, "discount": unroll.discounts(discount)}
        tensors = {name: torch.from_numpy(array) for name, array in own.items()}
        recurrent = {name: torch.from_numpy(array) for name, array in unroll.recurrent.items()}
        return ActorBatch(tensors, [], _resets(own["done"]), recurrent, unroll)

    return _on_device(unrolls, from_actor, device, ahead=1)


def _resets(done: np.ndarray) -> list[int]:
    return np.flatnonzero(done.any(1)).tolist()


def _on_device(stream: Iterator[Item], convert: Callable[[Item], B], device: torch.device, ahead: int) -> Generator[B]:
    """Read and convert in a thread; copy the next batch to the device while the one before it is trained on."""
    cuda = device.type == "cuda"
    to_host_batch = (lambda item: convert(item).moved(Tensor.pin_memory)) if cuda else convert
    with closing(_read_ahead(stream, to_host_batch, ahead)) as read:
        yield from _copied_ahead(read, device) if cuda else read


def _copied_ahead(read: Iterator[B], device: torch.device) -> Iterator[B]:
    """Yield the batches on a CUDA device; the copy of each begins before the one before it is yielded."""
    copying = torch.cuda.Stream(device)
    before: tuple[B, torch.cuda.Event] | None = None
    for batch in read:
        with torch.cuda.stream(copying):
            begun = (batch.moved(lambda value: value.to(device, non_blocking=True)), copying.record_event())
        if before is not None:
            yield _arrived(*before, device)
        before = begun
    if before is not None:
        yield _arrived(*before, device)


def _arrived(batch: B, copied: torch.cuda.Event, device: torch.device) -> B:
    """Make the training stream of the device wait for the copy, and keep the batch's memory until it is used."""
    training = torch.cuda.current_stream(device)
    training.wait_event(copied)

    def keep(value: Tensor) -> Tensor:
        value.record_stream(training)
        return value

    return batch.moved(keep)


def _read_ahead(stream: Iterator[Item], convert: Callable[[Item], B], ahead: int) -> Generator[B]:
    ready: queue.Queue[B | BaseException | None] = queue.Queue(ahead)
    stop = threading.Event()

    def put(item: B | BaseException | None) -> None:
        while not stop.is_set():
            try:
                ready.put(item, timeout=POLL_SECONDS)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for item in stream:
                put(convert(item))
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            put(error)
        else:
            put(None)

    reader = threading.Thread(target=read, name="read-ahead", daemon=True)
    reader.start()
    try:
        with watched("read_ahead_batches", ready.qsize):
            while (item := ready.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
    finally:
        stop.set()
        reader.join()
