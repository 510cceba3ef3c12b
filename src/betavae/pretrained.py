"""Loads trained models: of a run folder, a saved model, the zoo, or the Hugging Face hub."""

from pathlib import Path

from betavae import zoo
from betavae.files.validation import nearest
from betavae.integrations import hub
from betavae.model import VAE
from betavae.runs.checkpoints import load_model
from betavae.runs.folder import LAYOUT
from betavae.training.devices import choose_device


def load(source: str | Path, *, device: str = "auto", revision: str | None = None) -> VAE:
    """Load a trained model, in evaluation mode.

    Args:
        source: a run folder; a folder of `save_pretrained`; the name of a model of the zoo, which comes with the
            package; or a model of the Hugging Face hub as "user/name", which needs the extra `betavae[hub]`. A folder
            with that name is preferred.
        device: `cpu`, `cuda`, `cuda:1` or `mps`; auto takes the first accelerator found.
        revision: branch, tag or commit on the hub. If None, the newest.

    Raises:
        FileNotFoundError: there is no such folder or model, or the run is not trained.
        ValueError: a file is damaged, or the device is not available.
        ModuleNotFoundError: the model is on the hub, and huggingface_hub is not installed.

    Example:
        >>> import tempfile
        >>> folder = VAE("burgess", (1, 64, 64), 10).save_pretrained(tempfile.mkdtemp() + "/mine")
        >>> load(folder, device="cpu").sample(4, seed=0).shape
        (4, 1, 64, 64)
    """
    target, folder = choose_device(device), Path(source)
    is_zoo = not folder.exists() and source in zoo.names()
    folder = zoo.open_entry(str(source)).folder if is_zoo else hub.local_folder(source, revision)
    if not folder.exists():
        hint = nearest(str(source), zoo.names()) or ";"
        raise FileNotFoundError(
            f"{source}: no such folder{hint} give a run folder, a saved model, a model of the zoo "
            f"({', '.join(zoo.names())}), or a model of the Hugging Face hub as 'user/name'"
        )
    model = load_model(folder) if _is_run(folder) else VAE.from_pretrained(folder)
    return model.to(target).eval()


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run, finished or not, rather than a saved model."""
    return any((folder / name).exists() for name in set(LAYOUT) - {"config.json", "model.safetensors"})
