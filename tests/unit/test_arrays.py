"""Shared arrays are the same in every process; reused memory is handed out again only when nobody holds any of it."""

import gc
import os

import numpy as np
import torch

from playscale.arrays import MAX_IDLE, ReusedArrays, SharedArrays
from playscale.games.game import Column

COLUMNS = {"a": Column((5, 3), "i8"), "b": Column((7,), "u1")}


def address(arrays):
    return arrays["a"].__array_interface__["data"][0]


def test_arrays_have_their_shapes_and_do_not_overlap():
    arrays = ReusedArrays(COLUMNS, (2,)).allocate()
    for value, (name, column) in enumerate(COLUMNS.items()):
        assert (arrays[name].shape, arrays[name].dtype) == ((2, *column.shape), column.dtype)
        assert arrays[name].flags["C_CONTIGUOUS"]
        assert arrays[name].flags["ALIGNED"]
        arrays[name][:] = value
    assert (arrays["a"] == 0).all()
    assert (arrays["b"] == 1).all()


def test_memory_comes_back_when_the_last_view_is_gone():
    """A slice of one array, or a tensor made of a slice, holds the memory of all."""
    memory = ReusedArrays(COLUMNS, (2,))
    arrays = memory.allocate()
    place = address(arrays)
    held = torch.from_numpy(arrays["b"][1, 2:4][1:])
    del arrays
    gc.collect()
    other = memory.allocate()
    assert address(other) != place
    held.fill_(9)
    other["b"][:] = 1
    assert held.tolist() == [9]
    del held
    gc.collect()
    assert address(memory.allocate()) == place


def test_little_is_kept_of_much_that_was_lent():
    memory = ReusedArrays(COLUMNS, (2,))
    lent = [memory.allocate() for _ in range(3 * MAX_IDLE)]
    assert len({address(arrays) for arrays in lent}) == 3 * MAX_IDLE
    lent.clear()
    gc.collect()
    assert len(memory._idle) == MAX_IDLE


def test_shared_arrays_are_seen_through_their_descriptor():
    columns = {"a": Column((2, 3), "uint8"), "b": Column((), "int64")}
    ours = SharedArrays(columns, (5,))
    theirs = SharedArrays(columns, (5,), os.dup(ours.fd))
    ours.arrays["a"][4] = 7
    theirs.arrays["b"][:] = np.arange(5)
    assert (theirs.arrays["a"][4] == 7).all()
    assert (theirs.arrays["a"][:4] == 0).all()
    assert ours.arrays["b"].tolist() == [0, 1, 2, 3, 4]
    ours.close()
    theirs.close()
