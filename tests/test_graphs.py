"""Recorded steps: what is replayed does what steps one by one do, for every objective, without a GPU.

`Tape` stands for a CUDA graph. It keeps the operations that a work calls, with the very tensors that they read and
write; playing calls them again on these. So it goes wrong where a graph would: where a number of Python's that changes
from step to step went into an operation, where a value was read in between, where a tensor moved.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from betavae import graphs, native
from betavae import train as module
from betavae.config import TC, Beta, Control
from betavae.data import split_rows
from betavae.run import create_run, load_checkpoint, save_checkpoint
from betavae.train import new_state, train
from tests.golden_curves import GRID, tiny_config, trained

READING = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal")
"""What waits for a device, and so cannot be recorded."""


class Tape(TorchDispatchMode):
    """Operations as they are called, and what tensors held before one changed them."""

    def __init__(self):
        super().__init__()
        self.calls, self.before = [], {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name, kwargs = operation._schema.name, kwargs or {}
        if name in READING:
            raise RuntimeError(f"{name} while recording")
        given = [*args, *kwargs.values()]
        if operation._schema.is_mutable:
            for tensor in tree_leaves(given):
                if isinstance(tensor, torch.Tensor) and tensor.data_ptr() not in self.before:
                    self.before[tensor.data_ptr()] = (tensor, tensor.clone())
        result = operation(*args, **kwargs)
        self.calls.append((operation, args, kwargs, result))
        return result

    def play(self):
        with torch.no_grad():
            for operation, args, kwargs, result in self.calls:
                again = operation(*args, **kwargs)
                for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def tape(work):
    """As `graphs.cuda_graph`: nothing has happened when the recording is done."""
    recording = Tape()
    with recording:
        left = work()
    with torch.no_grad():
        for tensor, before in recording.before.values():
            tensor.copy_(before)
    return left, recording.play


def never(work):
    raise RuntimeError("no graphs here")


@pytest.fixture
def recorded(monkeypatch):
    """Training as on CUDA, with a tape in place of graphs; how many recordings were played."""
    played = []

    def counted(work):
        left, play = tape(work)
        return left, lambda: (played.append(work), play())

    monkeypatch.setattr(native, "library", lambda dtype: None)  # code of ours is no operation of PyTorch's
    monkeypatch.setattr(graphs, "cuda_graph", counted)
    monkeypatch.setattr(module, "RECORDED", ["cpu"])
    monkeypatch.setattr(module, "RECORD_STEPS", 10)
    return played


MORE = {
    "tc-falling": tiny_config(
        TC(8.0, 20, memory_images=40, final_beta=2.0, fall_after=50, fall_steps=30, second_warmup_steps=40)
    ),
    "muon": tiny_config(Beta(2.0, 30), muon_after=40, schedule="one-cycle"),
    "muon-between": tiny_config(Beta(2.0), muon_after=45),
}


@pytest.mark.parametrize("name", [*GRID, *MORE])
def test_replayed_steps_are_those_one_by_one(name, grid, recorded):
    config = replace((GRID | MORE)[name], steps=106)
    state, records = trained(config, grid)
    assert len(recorded) >= 5
    module.RECORDED.clear()
    plain_state, plain = trained(config, grid)
    for one, other in zip(records, plain, strict=True):
        assert (one.step, one.split) == (other.step, other.split)
        assert one.terms == pytest.approx(other.terms, rel=1e-5, abs=1e-5)
    for one, other in zip(state.model.parameters(), plain_state.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_networks_with_running_means_are_replayed(small, recorded):
    config = tiny_config(Beta(), model="residual", steps=30, batch_size=4)
    state, _ = trained(config, small)
    assert len(recorded) == 2
    counts = [value for name, value in state.model.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counts
    assert all(count == 30 for count in counts)


def test_a_replayed_run_goes_on_where_it_stopped(grid, recorded, tmp_path):
    config, split = tiny_config(TC(6.0, 50, memory_images=40), steps=150), split_rows(len(grid), 700, 100, seed=0)
    run, whole = create_run(tmp_path / "run", config), new_state(config, grid)
    for record in train(config, grid, split.train, split.validation, whole):
        if record.split == "train" and record.step == 50:
            save_checkpoint(run, whole)
    broken = new_state(config, grid)
    load_checkpoint(run, broken)
    list(train(config, grid, split.train, split.validation, broken))
    for one, other in zip(whole.model.parameters(), broken.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_recorded_runs_one_by_one_and_says_so(grid, recorded, monkeypatch):
    monkeypatch.setattr(graphs, "cuda_graph", never)
    with pytest.warns(RuntimeWarning, match="steps cannot be recorded and run one by one, slower: no graphs here") as w:
        state, _ = trained(tiny_config(Beta(), steps=100), grid)
    assert len(w) == 1
    assert state.step == 100
    assert not recorded


def test_a_work_is_recorded_once_for_each_way_and_shape():
    done, total = [], torch.zeros(())

    def add(way, given):
        done.append(way)
        total.add_(given["x"].sum() * way)
        return total * 2

    repeated = graphs.Repeated(add, tape)
    expected = 0.0
    for way, size in [(1, 2), (1, 2), (1, 2), (2, 2), (1, 3), (2, 2), (1, 3), (2, 2), (1, 2)]:
        given = torch.arange(size) + float(len(done))
        expected += float(given.sum()) * way
        assert float(repeated(way, {"x": given})) == 2 * expected
    assert done == [1, 1, 2, 1, 2, 1]


def test_a_tape_sees_what_a_graph_would_not_bear():
    with pytest.raises(RuntimeError, match="_local_scalar_dense while recording"):
        tape(lambda: torch.ones(()).item())
    step = torch.tensor(3)
    with pytest.raises(RuntimeError, match="while recording"):
        tape(lambda: 1 if step > 2 else 2)


def test_the_first_calls_leave_no_trace_in_later_ones(grid, recorded):
    """Recording twice changes nothing: Control's memory is there from the first step on, Muon's from its own."""
    config = tiny_config(Control(4.0, 0.5, 0.5, 20), steps=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other = trained(config, grid)[1], trained(config, grid)[1]
    assert [record.terms for record in one] == [record.terms for record in other]
    assert np.isfinite([record.terms["loss"] for record in one]).all()
