"""A checkpoint: a directory of policy.safetensors, extra.safetensors (when something was given), checkpoint.json.

Loading one never unpickles. checkpoint.json holds the SHA-256 of the tensor files and, since 0.2, a
checksum of itself, so that damage is noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from playscale.agents.layers import on_meta
from playscale.agents.policy import Policy, PolicyConfig, build_policy
from playscale.storage.files import atomic_dir, is_whole, read_json, write_document
from playscale.storage.sync import local_copy

SCHEMA = 1
LONGEST_HEADER = 8 << 20  # bytes of a safetensors file; 87 MB of header took 1.2 GB, a tensor of ours takes about 150 B
REGISTERED = "models:/"  # begins the address of an agent in MLflow's registry
JSON, WEIGHTS, EXTRA = "checkpoint.json", "policy.safetensors", "extra.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint; its tensors are read (to the CPU) when they are first used.

    Attributes:
        path: Its directory.
        config: Architecture of the policy.
        meta: What training stored about it.
        digests: SHA-256 (hex) of its tensor files, by name.
    """

    path: Path
    config: PolicyConfig
    meta: dict[str, Any]
    digests: Mapping[str, str]

    @property
    def train_seeds(self) -> tuple[tuple[int, int], ...]:
        """Seeds of the games that the policy may have learned from, as far as they are known, as (first, last) of each
        row of them. ValueError: damaged.
        """
        try:
            return tuple((int(first), int(last)) for first, last in self.meta.get("train_seeds", ()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.path}: damaged checkpoint ({JSON}: train_seeds)") from error

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The policy's state dict; reading it raises ValueError when the file is missing or damaged."""
        return read_tensors(self.path, WEIGHTS, self.digests)

    @cached_property
    def extra(self) -> dict[str, Tensor]:
        """Tensors saved beside the policy, often none; ValueError when the file is missing or damaged."""
        return read_tensors(self.path, EXTRA, self.digests) if EXTRA in self.digests else {}


def save_checkpoint(
    path: Path, policy: Policy, meta: Mapping[str, Any], extra: Mapping[str, Tensor] | None = None
) -> None:
    """Write a checkpoint directory completely or not at all, in place of what was at `path`."""
    with atomic_dir(path) as aside:
        digests = {WEIGHTS: write_tensors(aside / WEIGHTS, policy.state_dict())}
        if extra:
            digests[EXTRA] = write_tensors(aside / EXTRA, extra)
        config = policy.config
        write_document(
            aside / JSON,
            {
                "schema": SCHEMA,
                "game": config.game,
                "policy": config.to_dict(),
                "meta": dict(meta),
                "sha256": digests,
            },
        )


def load_checkpoint(path: str | Path, expect_game: str | None = None) -> Checkpoint:
    """Open a checkpoint, here or in S3 or MLflow's registry (from where it is copied first).

    ValueError, one line, when `path` is no checkpoint, is damaged, of another schema, or not of `expect_game`.
    """
    if str(path).startswith(REGISTERED):
        from playscale.tracking.agent_download import downloaded

        path = downloaded(str(path))
    path = local_copy(path)
    if not is_checkpoint(path):
        raise ValueError(f"{path}: not a checkpoint (it has no {JSON})")
    record = read_json(path / JSON)
    if not isinstance(record, dict) or "schema" not in record:
        raise ValueError(f"{path}: not a checkpoint ({JSON} names no schema)")
    if record["schema"] != SCHEMA:
        raise ValueError(f"{path}: checkpoint schema {record['schema']}, but this version reads {SCHEMA}")
    try:
        config = PolicyConfig.from_dict(record["policy"])
        meta, digests = dict(record["meta"]), dict(record["sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged checkpoint ({JSON}: {error})") from error
    if not is_whole(record):
        raise ValueError(f"{path}: damaged checkpoint ({JSON} is not what was written)")
    if expect_game is not None and config.game != expect_game:
        raise ValueError(f"{path}: a checkpoint of {config.game}, but {expect_game} is played here")
    return Checkpoint(path, config, meta, digests)


def is_checkpoint(path: Path) -> bool:
    """Return whether `path` holds a checkpoint: one that was only partly copied to or from S3 lacks the JSON file."""
    return (path / JSON).is_file()


def load_policy(
    path: str | Path, device: torch.device | str = "cpu", expect_game: str | None = None
) -> tuple[Policy, Checkpoint]:
    """Load a policy.

    Args:
        path: Directory of a checkpoint, here or in S3 (s3://BUCKET/PREFIX); or an agent in the model registry of
            MLFLOW_TRACKING_URI, models:/playscale.STUDY@best-return.
        device: Where its weights go.
        expect_game: Refuse checkpoints of any other game.

    Returns:
        The policy in eval mode, and the checkpoint that it comes from.

    Raises:
        ValueError: There is no checkpoint, it is damaged, of another schema or of another game.
        OSError: S3 cannot be reached.
        RuntimeError: MLflow cannot be reached.
    """
    checkpoint = load_checkpoint(path, expect_game)
    policy = _without_weights(checkpoint.config, checkpoint.weights)
    if policy is None:
        raise ValueError(f"{path}: {WEIGHTS} does not fit the policy in {JSON}")
    # Not by to_empty(): from tensors on the meta device it imports torch's compiler, 2 s of processor time.
    like = policy.state_dict()
    own = {name: tensor.to(device, like[name].dtype, copy=True) for name, tensor in checkpoint.weights.items()}
    policy.load_state_dict(own, assign=True)
    return policy.eval(), checkpoint


def _without_weights(config: PolicyConfig, weights: Mapping[str, Tensor]) -> Policy | None:
    """Return the policy on the meta device, which takes no memory, or None when `weights` are not of its shapes."""
    if config.layers > len(weights):
        return None
    try:
        with on_meta():
            policy = build_policy(config)
    except (TypeError, ValueError, RuntimeError):  # widths that no layer can have
        return None
    shapes = {name: tensor.shape for name, tensor in weights.items()}
    return policy if shapes == {name: tensor.shape for name, tensor in policy.state_dict().items()} else None


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file and return its SHA-256 (hex)."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    path.touch()  # the library makes a file of mode 0600: it gets the mode that files have here
    mode = path.stat().st_mode
    try:
        safetensors.torch.save_file(on_cpu, path)
        path.chmod(mode)
    except SafetensorError as error:  # most likely a full disk
        raise OSError(f"{path}: {error}") from error
    return digest(path)


def read_tensors(folder: Path, name: str, digests: Mapping[str, str]) -> dict[str, Tensor]:
    """Read a safetensors file of a checkpoint to the CPU; ValueError when it is missing or damaged."""
    path = folder / name
    if not path.is_file():
        raise ValueError(f"{folder}: damaged checkpoint ({name} is missing)")
    if digest(path) != digests.get(name):
        raise ValueError(f"{folder}: damaged checkpoint ({name} is not what was written)")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > LONGEST_HEADER:
        raise ValueError(f"{folder}: damaged checkpoint ({name}: a header of {header:,} bytes)")
    try:
        return safetensors.torch.load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{folder}: damaged checkpoint ({name}: {error})") from error


def digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
