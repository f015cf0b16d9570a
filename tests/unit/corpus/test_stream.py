"""A stream shows every recorded transition, in order, in the right place, whatever the shapes."""

import itertools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from counting_game import ACTIONS, plant, transitions
from hypothesis import given, settings
from hypothesis import strategies as st

from playscale.corpus.corpus import Corpus
from playscale.corpus.stream import Schedule, rounds

LENGTHS = st.lists(st.integers(1, 1400), min_size=1, max_size=6)


def open_planted(lengths, dev=frozenset()):
    with tempfile.TemporaryDirectory() as folder:
        yield Corpus.open(plant(Path(folder) / "c", lengths, dev))


def literal_stream(lengths, batch, queue, steps):
    """The slow twin: step by step, each column that has no game takes the next of the queue. Rows of (game, step)."""
    playing, rows = [None] * batch, []
    for _ in range(steps):
        for b in range(batch):
            if playing[b] is None and (game := next(queue, None)) is not None:
                playing[b] = (game, 0)
        rows.append(list(playing))
        for b, at in enumerate(playing):
            if at is not None:
                game, step = at
                playing[b] = (game, step + 1) if step + 1 < lengths[game] else None
    return rows


def check(batches, rows, lengths, unroll):
    """Every value of the batches against what the game holds at (game, step)."""
    games = [transitions(number, length) for number, length in enumerate(lengths)]
    out = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    assert all(len(array) == unroll for batch in batches for array in batch.values())
    for t, row in enumerate(rows):
        for b, at in enumerate(row):
            if at is None:
                assert not out["valid"][t, b]
                assert out["game_id"][t, b] == -1
                assert not out["pixels"][t, b].any()
                continue
            game, step = at
            assert tuple(out["where"][t, b]) == (game, step)
            for name, array in games[game].items():
                assert (out[name][t, b] == array[step]).all(), name
            previous = games[game]["action"][step - 1] if step else ACTIONS
            assert out["prev_action"][t, b] == previous
            assert out["done"][t, b] == (step == 0)
            assert out["game_id"][t, b] == game
            assert out["valid"][t, b]


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(1, 7), st.integers(1, 700), st.integers(0, 3))
def test_train_stream_equals_its_slow_twin(lengths, batch, unroll, seed):
    for corpus in open_planted(lengths):
        count = 2 + 1500 // unroll if unroll > 20 else 30
        batches = list(itertools.islice(corpus.stream(batch=batch, unroll=unroll, seed=seed), count))
        rows = literal_stream(lengths, batch, rounds(range(len(lengths)), seed), count * unroll)
        check(batches, rows, lengths, unroll)


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(1, 7), st.integers(20, 700))
def test_dev_stream_is_one_pass_over_its_games(lengths, batch, unroll):
    lengths = [5, *lengths]
    for corpus in open_planted(lengths, dev=set(range(1, len(lengths)))):
        batches = list(corpus.stream(batch=batch, unroll=unroll, split="dev"))
        check(
            batches,
            literal_stream(lengths, batch, iter(range(1, len(lengths))), len(batches) * unroll),
            lengths,
            unroll,
        )
        valid = np.concatenate([b["valid"] for b in batches])
        assert valid.sum() == corpus.transitions("dev") == sum(lengths[1:])
        assert batches[-1]["valid"].any()


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(1, 5), st.integers(1, 300), st.integers(0, 40), st.sampled_from(["train", "dev"]))
def test_start_equals_skipping(lengths, batch, unroll, start, split):
    lengths = [700, *lengths, 10]
    for corpus in open_planted(lengths, dev=set(range(1, len(lengths) - 1))):
        skipped = itertools.islice(corpus.stream(batch=batch, unroll=unroll, split=split), start, start + 3)
        begun = itertools.islice(corpus.stream(batch=batch, unroll=unroll, split=split, start=start), 3)
        for one, other in itertools.zip_longest(skipped, begun):
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[name], other[name]) for name in one)


@settings(max_examples=50, deadline=None)
@given(LENGTHS, st.integers(1, 9), st.integers(0, 5))
def test_a_round_plays_every_game_once(lengths, batch, seed):
    plays = Schedule(lengths, batch, rounds(range(len(lengths)), seed)).until(5000)
    order = [play.game for play in plays]
    for start in range(0, len(order) - len(lengths), len(lengths)):
        assert sorted(order[start : start + len(lengths)]) == list(range(len(lengths)))


def test_no_column_ever_mixes_games(tmp_path):
    """Within a column the game changes only where done says so, and then at the step 0 of another game."""
    lengths = [3, 50, 641, 1280, 1, 640, 7]
    corpus = Corpus.open(plant(tmp_path / "c", lengths))
    batches = list(itertools.islice(corpus.stream(batch=4, unroll=33), 200))
    ids, done = (np.concatenate([b[name] for b in batches]) for name in ("game_id", "done"))
    steps = np.concatenate([b["where"][..., 1] for b in batches])
    going_on = ~done[1:]
    assert (ids[1:] == ids[:-1])[going_on].all()
    assert (steps[1:] == steps[:-1] + 1)[going_on].all()
    assert (steps[done] == 0).all()
    assert len(np.unique(ids)) == len(lengths)


def test_seeds_and_rounds_differ_and_repeat(tmp_path):
    corpus = Corpus.open(plant(tmp_path / "c", [20] * 12))

    def order(seed):
        return [int(b["game_id"][0, 0]) for b in itertools.islice(corpus.stream(batch=1, unroll=20, seed=seed), 24)]

    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1)[:12] != order(1)[12:]


def test_arrays_are_fresh(tmp_path):
    corpus = Corpus.open(plant(tmp_path / "c", [100, 90]))
    first, second = itertools.islice(corpus.stream(batch=2, unroll=10), 2)
    copies = {name: array.copy() for name, array in first.items()}
    for name, array in second.items():
        array[:] = 0
        assert np.array_equal(first[name], copies[name])


def test_far_start_is_cheap(tmp_path, monkeypatch):
    """A start after ten million transitions reads the blocks of one batch, none of what is skipped."""
    corpus = Corpus.open(plant(tmp_path / "c", [1000, 1300, 700]))
    reads = []
    monkeypatch.setattr("playscale.storage.storage.read_range", lambda *a: reads.append(a) or read_range(*a))
    from playscale.storage.files import read_range

    next(corpus.stream(batch=2, unroll=50, start=100_000))
    assert len(reads) <= 2 * 2 * 3  # an index and a block for each of two columns, whose game or block may change once


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"batch": 0}, "batch"),
        ({"unroll": 0}, "unroll"),
        ({"start": -1}, "start"),
        ({"seed": -1}, "seed"),
        ({"split": "test"}, "unknown split 'test'"),
        ({"split": "dev"}, "no game in its dev split"),
    ],
)
def test_wrong_arguments_are_refused_at_once(tmp_path, wrong, says):
    corpus = Corpus.open(plant(tmp_path / "c", [10]))
    with pytest.raises(ValueError, match=says):
        corpus.stream(**({"batch": 2, "unroll": 4} | wrong))
