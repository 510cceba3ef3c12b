"""The tour of the Python interface runs as it stands, on few images and for few steps."""

import re
from pathlib import Path

import pytest

from betavae import experiment

ROOT = Path(__file__).parents[1]
SHORTER = {
    "2_000, learning_rate=1e-3": "3, latent_dim=4, model='tiny', scores=('mig',), evaluations=2, validation_images=0.1",
    "steps=500": "steps=2, model='tiny'",
    'metrics=["dci", "mig"]': 'metrics=["mig"], num_train=500',
}


@pytest.mark.filterwarnings("ignore:.* latents .* are left out")
@pytest.mark.parametrize("page", ["docs/python.md", "README.md"])
def test_its_code_runs(page, grid, tmp_path, monkeypatch, few_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(experiment, "load_for", lambda config: grid)
    text = (ROOT / page).read_text(encoding="utf-8")
    code = "".join(block for block in re.findall(r"```python\n(.+?)```", text, re.DOTALL) if "read_table" not in block)
    for long, short in SHORTER.items():
        code = code.replace(long, short)
    if page == "README.md":  # whose run is drawn in the tour
        code = code.replace("scores=('mig',)", "scores=('mig',), figures=False").replace(
            'run.figures["traversals"]', "0"
        )
    names: dict[str, object] = {}
    exec(code, names)
    assert names["z"].shape[1] == 4
