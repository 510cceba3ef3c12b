"""Recorded steps: what is replayed does what steps one by one do, for every objective, without a GPU.

`Tape` stands for a CUDA graph. It keeps the operations that a work calls, with the very tensors that they read and
write; playing calls them again on these. So it goes wrong where a graph would: where a number of Python's that changes
from step to step went into an operation, or a tensor moved. That no value is read on the way `graphs.Watch` sees.
"""

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from betavae.data.splits import split_rows
from betavae.kernels import build
from betavae.objectives.elbo import beta
from betavae.objectives.registry import OBJECTIVES, Objective
from betavae.objectives.settings import TC, Beta
from betavae.runs.checkpoints import load_checkpoint, save_checkpoint
from betavae.runs.folder import create_run
from betavae.training import cuda_graphs, steps
from betavae.training.batches import DeviceImages
from betavae.training.loop import train
from betavae.training.state import new_state
from tests.golden_curves import GRID, tiny_config, trained


class Tape(TorchDispatchMode):
    """Operations as they are called, and what tensors held before one changed them."""

    def __init__(self):
        super().__init__()
        self.calls, self.before = [], {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
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


@pytest.fixture
def recorded(monkeypatch):
    """Training as on CUDA, with a tape in place of graphs; how many recordings were played."""
    played = []

    def counted(work):
        left, play = tape(work)
        return left, lambda: (played.append(work), play())

    monkeypatch.setattr(build, "library", lambda dtype: None)  # latent of ours is no operation of PyTorch's
    monkeypatch.setattr(cuda_graphs, "cuda_graph", counted)
    monkeypatch.setattr(steps, "CAPTURED", ["cpu"])
    monkeypatch.setattr(steps, "RECORD_STEPS", 5)
    return played


MORE = {
    "tc-falling": tiny_config(
        TC(8.0, 10, memory_images=40, final_beta=2.0, anneal_after=15, anneal_steps=10, second_warmup_steps=12)
    ),
    "muon": tiny_config(Beta(2.0, 15), muon_after=20, muon_learning_rate=5e-4, schedule="one-cycle"),
    "muon-between": tiny_config(Beta(2.0), muon_after=22),
    "rotated": tiny_config(Beta(2.0), rotate_at=(20, 28)),
    "rotated-within-records": tiny_config(Beta(2.0), rotate_at=(17, 22, 27)),
}


@pytest.mark.parametrize("name", [*GRID, *MORE])
def test_replayed_steps_are_those_one_by_one(name, grid, recorded):
    config = replace((GRID | MORE)[name], steps=33)
    state, records = trained(config, grid, held_out=0)
    assert len(recorded) >= 3  # times 5 steps; 3 where Muon begins within five, elsewhere 4 or 5
    steps.CAPTURED.clear()
    plain_state, plain = trained(config, grid, held_out=0)
    for one, other in zip(records, plain, strict=True):
        assert (one.step, one.split) == (other.step, other.split)
        assert one.terms == pytest.approx(other.terms, rel=1e-5, abs=1e-5)
    for one, other in zip(state.model.parameters(), plain_state.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_networks_with_running_means_are_replayed(small, recorded):
    config = tiny_config(Beta(), model="residual", steps=15, batch_size=4)
    state, _ = trained(config, small, held_out=0)
    assert len(recorded) == 2
    counts = [value for name, value in state.model.state_dict().items() if name.endswith("num_batches_tracked")]
    assert counts
    assert all(count == 15 for count in counts)


def test_a_replayed_run_goes_on_where_it_stopped(grid, recorded, tmp_path):
    config, split = tiny_config(TC(6.0, 50, memory_images=40), steps=40), split_rows(len(grid), 700, 100, seed=0)
    run, whole = create_run(tmp_path / "run", config), new_state(config, grid)
    for record in train(config, grid, split.train, split.validation, whole):
        if record.split == "train" and record.step == 20:
            save_checkpoint(run, whole)
    broken = new_state(config, grid)
    load_checkpoint(run, broken)
    list(train(config, grid, split.train, split.validation, broken))
    for one, other in zip(whole.model.parameters(), broken.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_cannot_be_recorded_runs_one_by_one_and_says_so(grid, recorded, monkeypatch):
    def fails(work):
        try:
            raise RuntimeError("out of memory")
        finally:
            raise RuntimeError("the end of a recording that failed")  # as torch.cuda.graph has it

    monkeypatch.setattr(cuda_graphs, "cuda_graph", fails)
    reason = "steps cannot be recorded and run one by one, slower: out of memory"
    with pytest.warns(RuntimeWarning, match=reason) as warned:
        state, _ = trained(tiny_config(Beta(), steps=30), grid, held_out=0)
    assert len(warned) == 1
    assert state.step == 30
    assert not recorded


def test_an_objective_that_reads_values_runs_one_by_one(grid, recorded, monkeypatch):
    def reading(settings, model, batch):
        loss = beta(settings, model, batch)
        return loss._replace(loss=loss.loss * (2 if loss.terms["rate"] > 1 else 1))

    monkeypatch.setitem(OBJECTIVES._entries, "beta", Objective("beta", Beta, reading))
    with pytest.warns(RuntimeWarning, match=r"slower: they read values of tensors \(_local_scalar_dense\)"):
        state, _ = trained(tiny_config(Beta(), steps=20), grid, held_out=0)
    assert state.step == 20
    assert not recorded


def test_a_work_is_recorded_once_for_each_way_and_shape():
    done, total = [], torch.zeros(())

    def add(way, given):
        done.append(way)
        total.add_(given["x"].sum() * way)
        return total * 2

    repeated = cuda_graphs.Repeated(tape)
    expected = 0.0
    for way, size in [(1, 2), (1, 2), (1, 2), (2, 2), (1, 3), (2, 2), (1, 3), (2, 2), (1, 2)]:
        given = torch.arange(size) + float(len(done))
        expected += float(given.sum()) * way
        assert float(repeated(add, way, {"x": given})) == 2 * expected
    assert done == [1, 1, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("work", "operation"),
    [
        (lambda x: x.sum().item(), "_local_scalar_dense"),
        (lambda x: 1 if x[0] > 2 else 2, "_local_scalar_dense"),
        (lambda x: x[x > 1], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x + torch.tensor([1.0, 2.0, 3.0]), "lift_fresh"),
        (lambda x: x.to("meta"), "_to_copy"),
        (lambda x: x[torch.zeros(2, dtype=torch.long)].exp().to(torch.bfloat16), ""),
    ],
)
def test_what_waits_for_a_device_is_seen(work, operation):
    watch = cuda_graphs.Watch()
    with watch:
        work(torch.arange(3.0))
    assert watch.operation == operation


@pytest.mark.parametrize("name", [*GRID, "muon"])
def test_no_objective_waits_for_a_device(name, grid, recorded):
    config = replace((GRID | MORE)[name], steps=2, muon_after=None if name in GRID else 1)
    state = new_state(config, grid)
    runner = steps.StepRunner(config, grid, np.arange(700), state, None)
    given = runner._step_inputs(range(2))
    watch = cuda_graphs.Watch()
    with watch:
        runner._run_steps((0, (False, name == "muon")), given)
    assert not watch.operation


class Elsewhere(TorchDispatchMode):
    """What comes out of every operation is where the model is, on a device that has no values."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            assert not isinstance(leaf, torch.Tensor) or leaf.is_meta, operation
        return result


@pytest.mark.parametrize("name", GRID)
def test_no_objective_leaves_its_device(name, grid, recorded, monkeypatch):
    monkeypatch.setattr(steps, "update_parameters", lambda optimisers, loss, rate: loss.backward())
    monkeypatch.setattr(torch, "autocast", lambda *given, **more: nullcontext())  # not known for such a device
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)
    config, device = replace(GRID[name], precision="fp32"), torch.device("meta")
    state = new_state(config, grid)
    given = steps.StepRunner(config, grid, np.arange(700), state, None)._step_inputs(range(1))
    given = {name: tensor.to(device) for name, tensor in given.items()}
    for network in filter(None, (state.model, state.network)):
        network.to(device)
    runner = steps.StepRunner(config, grid, np.arange(700), state, DeviceImages(grid, device))
    with Elsewhere():
        _, memory = runner._run_steps((0, (False,)), given)
        seen, _ = runner._run_steps((0, (False,)), given | {f"memory.{key}": tensor for key, tensor in memory.items()})
    assert seen[0].loss.is_meta
