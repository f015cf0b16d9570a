"""How many transitions an optimizer step sees, by model size, when neither a study nor a user says. No torch here."""

from __future__ import annotations

from playscale.agents.size import parse_size

SMALL = 1_000_000
SMALL_STEP = (8, 16)
PLAYED_STEP = (32, 20)
LARGEST_STEP = 104 * 80  # what Tuyls et al. (arXiv 2307.09423) trained all sizes with


def recipe_batch(size: str, method: str = "bc") -> tuple[int, int]:
    """Columns and unroll: 8 x 16 up to a million parameters, then samples a step in proportion to parameters.

    Small budgets run out of optimizer steps before they run out of samples, and a small model's step is short of work
    only on a GPU. At a compute-optimal budget samples grow about as parameters do, so in proportion every size gets as
    many steps. Longer unrolls train memory over longer times; 80 is the paper's. ValueError: no such size.

    Where agents play themselves (any method but bc) columns are the environments of an actor.
    """
    params = parse_size(size)
    if method != "bc":
        return PLAYED_STEP
    if params <= SMALL:
        return SMALL_STEP
    unroll = 32 if params <= 10 * SMALL else 80
    samples = min(LARGEST_STEP, SMALL_STEP[0] * SMALL_STEP[1] * params / SMALL)
    return max(8, 8 * round(samples / unroll / 8)), unroll
