"""Seeds of episodes as ranges."""

from playscale.config import COLLECTING_SEED, EVALUATION_SEED, TRAINING_SEED
from playscale.rollout.episode import common_seeds, seed_ranges


def test_seed_ranges_join_neighbours():
    assert seed_ranges([]) == ()
    assert seed_ranges([7, 3, 5, 4, 4, 9]) == ((3, 5), (7, 7), (9, 9))


def test_common_seeds_are_cut_to_the_episodes():
    ranges = ((3, 5), (7, 7), (9, 9))
    assert common_seeds(ranges, 5, 4) == ((5, 5), (7, 7))
    assert common_seeds(ranges, 10, 100) == ()
    assert common_seeds((), 0, 100) == ()


def test_seeds_do_not_overlap_by_default():
    assert EVALUATION_SEED + 1_000_000 <= COLLECTING_SEED < COLLECTING_SEED + 1_000_000_000 < TRAINING_SEED
