"""Gathered rows come back in order and lie in few blocks of memory."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pneumolit.model.gathered import Gathered


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=12), st.sampled_from([torch.bfloat16, torch.int64]))
def test_rows_come_back_as_one_tensor_in_order(sizes: list[int], dtype: torch.dtype) -> None:
    batches = [torch.randint(0, 100, (size, 2)).to(dtype) for size in sizes]
    gathered = Gathered()
    for batch in batches:
        gathered.add(batch)
    assert torch.equal(gathered.rows(), torch.cat(batches)) and gathered.rows().dtype == dtype


def test_a_thousand_batches_take_a_handful_of_blocks() -> None:
    # One block per batch pins the heap between the large blocks that every batch frees.
    gathered, blocks = Gathered(), []
    for _ in range(1000):
        gathered.add(torch.zeros(64, 2))
        blocks.append(gathered.rows().data_ptr())
    changes = sum(a != b for a, b in itertools.pairwise(blocks))
    assert changes <= 5
