"""Windows, as `tests.elsewhere` plays it, and what else other systems lack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from betavae.cli.main import main
from betavae.runs import provenance


@pytest.mark.skipif(sys.platform != "linux", reason="Linux plays the other")
def test_a_run_comes_to_its_report_on_windows(tmp_path):
    """Where POSIX is missing, files in use stay, only what is written to is synced, and output knows no Greek."""
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), str(root / "src"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-X", "warn_default_encoding", "-m", "tests.elsewhere", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="cp1252", errors="replace")
    assert done.returncode == 0, done.stderr
    assert "mig" in done.stdout


def test_peak_memory_is_told_by_linux_or_posix_or_not_at_all(monkeypatch):
    def missing(path: Path, **_: object) -> str:
        raise FileNotFoundError(2, "No such file or directory", str(path))

    if sys.platform == "linux":
        assert provenance.peak_memory() > 50e6
    monkeypatch.setattr(Path, "read_text", missing)
    resource = pytest.importorskip("resource")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    assert provenance.peak_memory() == pytest.approx(peak, rel=0.1)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert provenance.peak_memory() is None


def test_output_that_knows_no_greek_shows_the_rest(monkeypatch, tmp_path):
    with (tmp_path / "output").open("w", encoding="ascii") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as ended:
            main(["--help"])
    assert ended.value.code == 0
    assert "a ?-TCVAE on generated images" in (tmp_path / "output").read_text(encoding="ascii")
