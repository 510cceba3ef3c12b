"""A study on a Ray cluster of this machine; skipped where ray is not installed."""

import functools
import json
import subprocess
import sys

import pytest

from betavae.cli.recipes import find_recipe
from betavae.config import read
from betavae.data.exporting import export_npz
from betavae.studies import on_ray, workers
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
def ray():
    ray = pytest.importorskip("ray", reason="ray is not installed; the extra betavae[ray] has it")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_all_runs_on_ray(ray, tmp_path):
    study = create_study(tmp_path, RECIPE)
    tally = run_study(study, functools.partial(on_ray.execute, perform=stubs.quick))
    assert (tally.done, tally.failed) == (6, 0)


def test_the_smoke_study_ends_in_the_same_weights_here_and_on_ray(ray, small, tmp_path):
    export_npz(small, tmp_path / "small.npz")
    recipe = read(find_recipe("smoke", "studies")) | {
        **{"data": str(tmp_path / "small.npz"), "train_images": 600, "validation_images": 50, "scored_images": 1.0},
        **{"seeds": 1, "steps": 10, "batch_size": 8, "scores": ["mig"], "device": "cpu", "precision": "fp32"},
    }
    here, there = (create_study(tmp_path / name, recipe) for name in ("here", "there"))
    assert run_study(here, functools.partial(workers.execute, workers=2)).done == 2
    assert run_study(there, on_ray.execute).done == 2
    for run in here.runs:
        for name in ("model.safetensors", "scores.json"):
            assert (here.path(run) / name).read_bytes() == (there.path(run) / name).read_bytes(), (run, name)


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


def test_sigterm_stays_the_drivers(ray, tmp_path):
    """Ray's own handler aborts the process: a job's end would save no checkpoint."""
    words = "import signal, ray; from betavae.studies import on_ray as cluster; signal.signal(signal.SIGTERM, print); "
    words += "cluster._connect(ray, 'local'); print(signal.getsignal(signal.SIGTERM) is print); ray.shutdown()"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True"


def test_runs_at_a_url_on_ray(ray, tmp_path):
    study = create_study(tmp_path / "study", RECIPE)
    url = (tmp_path / "bucket").as_uri()
    assert run_study(study, functools.partial(on_ray.execute, url=url, perform=stubs.quick)).done == 6
    assert len(list((tmp_path / "bucket" / "runs").glob("*/DONE"))) == 6
    assert not (study.path(next(iter(study.runs))) / "attempts").exists()


def test_a_lost_node_costs_its_runs_another_attempt(ray, tmp_path):
    """Two nodes; the one with more room is killed while it works."""
    from ray.cluster_utils import Cluster

    ray.shutdown()  # what the tests above use
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    doomed = nodes.add_node(num_cpus=2)
    study, killed = create_study(tmp_path, RECIPE), []

    def kill_when_busy(tally):
        if not killed and list(tmp_path.glob("runs/*/config.json")):
            killed.append(doomed)
            nodes.remove_node(doomed, allow_graceful=False)

    try:
        execute = functools.partial(on_ray.execute, address=nodes.address, perform=stubs.sleepy)
        assert run_study(study, execute, watch=kill_when_busy).done == 6
        assert killed
    finally:
        nodes.shutdown()
