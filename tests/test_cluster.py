"""A study on a Ray cluster of this machine; skipped where ray is not installed."""

import functools
import json
import signal
from types import SimpleNamespace

import pytest

from betavae.cli.recipes import find_recipe
from betavae.config_files import read
from betavae.data.exporting import export_npz
from betavae.experiment import experiment
from betavae.studies import on_ray
from betavae.studies.study import create_study, failures, run_study
from tests import stubs

RECIPE = {"seeds": 3, "steps": 9, "grid": {"latent_dim": [4, 6]}}


def test_without_ray_the_command_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"--ray needs ray, .* run: pip install 'betavae\[ray\]'"):
        next(on_ray.execute({}))


def test_a_worker_of_another_version_refuses(tmp_path):
    sentence = on_ray._task(None, "a", str(tmp_path), False, stubs.quick, "99.0")
    assert sentence.startswith("the worker has betavae ")
    assert "and the driver 99.0; install the same version everywhere" in sentence


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:port"])
def test_an_address_where_nobody_answers(address):
    sentence = rf"no Ray cluster answers at {address} \(.*\); start one with `ray start --head`"
    with pytest.raises(ConnectionError, match=sentence):
        on_ray._connect(None, address)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two nodes on this machine, with a processor each."""
    pytest.importorskip("ray", reason="ray is not installed; the extra betavae[ray] has it")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield nodes
    nodes.shutdown()


@pytest.fixture(scope="module")
def ray(cluster):
    import ray

    on_ray._connect(ray, cluster.address)
    cluster.doomed = cluster.add_node(num_cpus=1)
    yield ray
    ray.shutdown()


def test_sigterm_stays_the_drivers(cluster, monkeypatch):
    """Ray's own handler aborts the process: a job's end would save no checkpoint."""

    def init(**options):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        on_ray._connect(SimpleNamespace(init=init), cluster.address)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


def test_all_runs_on_ray(ray, tmp_path):
    study = create_study(tmp_path, RECIPE)
    tally = run_study(study, functools.partial(on_ray.execute, perform=stubs.quick))
    assert (tally.done, tally.failed) == (6, 0)


def test_a_run_ends_in_the_same_weights_here_and_on_ray(ray, small, tmp_path):
    export_npz(small, tmp_path / "small.npz")
    recipe = read(find_recipe("smoke", "studies")) | {
        **{"data": str(tmp_path / "small.npz"), "train_images": 600, "validation_images": 50, "scored_images": 1.0},
        **{"seeds": 1, "steps": 10, "batch_size": 8, "scores": ["mig"], "device": "cpu", "precision": "fp32"},
        "grid": {"objective": [{"name": "beta", "beta": 4.0}]},
    }
    study = create_study(tmp_path / "there", recipe)
    assert run_study(study, on_ray.execute).done == 1
    (run,) = study.runs
    here = experiment(study.runs[run], tmp_path / "here")
    for name in ("model.safetensors", "scores.json"):
        assert (study.path(run) / name).read_bytes() == here.path(name).read_bytes(), name


def test_one_worker_of_another_version_stops_the_study_and_fails_no_run(ray, tmp_path, monkeypatch):
    study = create_study(tmp_path, RECIPE)
    monkeypatch.setattr(on_ray.metadata, "version", lambda name: "99.0")
    with pytest.raises(RuntimeError, match=r"the worker has betavae .* and the driver 99\.0; install the same"):
        run_study(study, functools.partial(on_ray.execute, perform=stubs.quick))
    assert not failures(study)


def test_failures_and_lost_workers_on_ray(ray, tmp_path):
    study = create_study(tmp_path, RECIPE)
    assert run_study(study, functools.partial(on_ray.execute, perform=stubs.two_fail)).failed == 2
    assert all("loss is not finite" in error for error in failures(study).values())
    assert run_study(study, functools.partial(on_ray.execute, perform=stubs.killed_once), retry=True).done == 6


def test_a_worker_told_to_stop_costs_its_run_another_attempt(ray, tmp_path):
    study = create_study(tmp_path, RECIPE)
    assert run_study(study, functools.partial(on_ray.execute, perform=stubs.stopped_once)).done == 6
    assert not failures(study)


def test_files_of_ones_own_are_imported_by_workers(ray, tmp_path, monkeypatch):
    (tmp_path / "shapes.py").write_text(
        "from betavae.networks import registry\nregistry.register('shapely', registry.ARCHITECTURES['burgess'])\n"
    )
    monkeypatch.setenv("BETAVAE_IMPORT", json.dumps([str(tmp_path / "shapes.py")]))
    study = create_study(tmp_path / "study", RECIPE)
    assert run_study(study, functools.partial(on_ray.execute, perform=stubs.needs_shapely)).done == 6
    monkeypatch.setenv("BETAVAE_IMPORT", json.dumps([str(tmp_path / "gone.py")]))
    other = create_study(tmp_path / "other", {"steps": 9})
    assert run_study(other, functools.partial(on_ray.execute, perform=stubs.quick)).failed == 1
    assert "there is no file" in next(iter(failures(other).values()))


def test_runs_at_a_url_on_ray(ray, tmp_path):
    study = create_study(tmp_path / "study", RECIPE)
    url = (tmp_path / "bucket").as_uri()
    assert run_study(study, functools.partial(on_ray.execute, url=url, perform=stubs.quick)).done == 6
    assert len(list((tmp_path / "bucket" / "runs").glob("*/DONE"))) == 6
    assert not (study.path(next(iter(study.runs))) / "attempts").exists()


def test_a_lost_node_costs_its_runs_another_attempt(ray, cluster, tmp_path):
    """The last test: afterwards the cluster has one node."""
    study, killed = create_study(tmp_path, RECIPE), []

    def kill_when_busy(tally):
        if not killed and len(list(tmp_path.glob("runs/*/started"))) >= 2:
            killed.append(cluster.doomed)
            cluster.remove_node(cluster.doomed, allow_graceful=False)

    assert run_study(study, functools.partial(on_ray.execute, perform=stubs.sleepy), watch=kill_when_busy).done == 6
    assert killed
