"""Memory is used again when, and only when, nobody holds anything of it."""

import gc

import numpy as np
import torch

from playscale.corpus.window import MAX_IDLE, Field, Memory

FIELDS = {"a": Field((5, 3), np.dtype("i8")), "b": Field((7,), np.dtype("u1"))}


def address(arrays):
    return arrays["a"].__array_interface__["data"][0]


def test_arrays_have_their_shapes_and_do_not_overlap():
    arrays = Memory(FIELDS).allocate()
    for value, (name, field) in enumerate(FIELDS.items()):
        assert (arrays[name].shape, arrays[name].dtype) == (field.shape, field.dtype)
        assert arrays[name].flags["C_CONTIGUOUS"]
        assert arrays[name].flags["ALIGNED"]
        arrays[name][:] = value
    assert (arrays["a"] == 0).all()
    assert (arrays["b"] == 1).all()


def test_memory_comes_back_when_the_last_view_is_gone():
    """A slice of one array, or a tensor made of a slice, holds the memory of all."""
    memory = Memory(FIELDS)
    arrays = memory.allocate()
    place = address(arrays)
    held = torch.from_numpy(arrays["b"][2:4][1:])
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
    memory = Memory(FIELDS)
    lent = [memory.allocate() for _ in range(3 * MAX_IDLE)]
    assert len({address(arrays) for arrays in lent}) == 3 * MAX_IDLE
    lent.clear()
    gc.collect()
    assert len(memory._idle) == MAX_IDLE
