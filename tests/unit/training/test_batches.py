from contextlib import closing

import numpy as np
import pytest
import torch

from playscale.training.batches import batches

CPU = torch.device("cpu")


def stream(T=4, B=6, count=5):
    for k in range(count):
        done = np.zeros((T, B), np.bool_)
        done[k % T, k] = True
        ids = np.tile(np.arange(B), (T, 1)) + 10 * k
        yield {"done": done, "game_id": ids, "valid": np.ones((T, B), np.bool_)}


def test_batches_come_in_order_with_what_the_host_knows_of_them():
    with closing(batches(stream(), CPU)) as read:
        taken = list(read)
    assert [batch.resets for batch in taken] == [[0], [1], [2], [3], [0]]
    assert taken[2].game_ids == list(range(20, 26))
    assert torch.equal(taken[3].tensors["game_id"][0], torch.arange(30, 36))


def test_a_process_gets_its_columns_and_their_resets_alone():
    with closing(batches(stream(), CPU, slice(2, 4))) as read:
        taken = list(read)
    assert [batch.resets for batch in taken] == [[], [], [2], [3], []]
    assert taken[1].game_ids == list(range(10, 16)), "the games of all columns, to name them when a loss runs away"
    for k, batch in enumerate(taken):
        assert torch.equal(batch.tensors["game_id"][0], torch.tensor([2, 3]) + 10 * k)
        assert batch.tensors["done"].is_contiguous()


def test_batches_raise_errors_of_the_stream_in_their_place():
    def broken():
        yield from stream(count=2)
        raise OSError("disk")

    with closing(batches(broken(), CPU)) as read:
        next(read), next(read)
        with pytest.raises(OSError, match="disk"):
            next(read)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_batches_on_a_gpu_equal_those_on_a_cpu():
    with closing(batches(stream(), CPU)) as here, closing(batches(stream(), torch.device("cuda"))) as there:
        for one, two in zip(here, there, strict=True):
            assert one.resets == two.resets
            for name, value in one.tensors.items():
                assert torch.equal(value, two.tensors[name].cpu())
