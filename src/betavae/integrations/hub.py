"""Models on the Hugging Face hub. No other file imports huggingface_hub."""

import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from betavae.files.validation import short
from betavae.networks.weights import EXPORTED, NAMES

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def local_folder(source: str | Path, revision: str | None = None) -> Path:
    """The folder of a saved model; a download if `source` is "user/name" and there is no folder of that name.

    Args:
        source: path of a folder, or name of a model.
        revision: branch, tag or commit on the hub. If None, the newest.

    Raises:
        ValueError: a folder is given with a revision.
        ModuleNotFoundError, FileNotFoundError, ConnectionError: as `download`.
    """
    folder = Path(source)
    if not folder.exists() and isinstance(source, str) and _NAME.fullmatch(source):
        return download(source, revision)
    if revision is not None:
        raise ValueError(f"{source} is a folder, which has no revision {revision!r}: leave revision out")
    return folder


def download(name: str, revision: str | None = None) -> Path:
    """Download a model of the hub, or take it from the cache; returns its folder.

    Args:
        name: name of the model, "user/name".
        revision: branch, tag or commit. If None, the newest.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
        FileNotFoundError: there is no such model or revision, or you may not read it.
        ConnectionError: the hub cannot be reached, and the model is not in the cache.
    """
    hub, errors = _import_hub()
    try:
        files = [hub.hf_hub_download(name, file, revision=revision) for file in NAMES[:2]]
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        at = f" with revision {revision!r}" if revision else ""
        raise FileNotFoundError(
            f"{name}{at}: no such folder, and no such model on the Hugging Face hub ({_first_line(error)}); if it is "
            "private, log in with `hf auth login`"
        ) from None
    except errors.HFValidationError as error:
        raise FileNotFoundError(f"{name}: no such folder, and no name of a model ({_first_line(error)})") from None
    except (OSError, errors.HTTPError) as error:
        raise ConnectionError(
            f"{name}: no such folder, and the Hugging Face hub cannot be reached ({_first_line(error)}); check the "
            "network, or give a folder"
        ) from None
    return Path(files[0]).parent


def push(save: Callable[[Path], object], name: str, *, private: bool, commit_message: str, revision: str | None) -> str:
    """Upload what a function saves to a folder; the rest is as for `upload`."""
    _import_hub()
    with tempfile.TemporaryDirectory() as place:
        save(Path(place))
        return upload(place, name, private=private, commit_message=commit_message, revision=revision)


def upload(
    folder: str | Path,
    name: str,
    *,
    private: bool = False,
    commit_message: str = "Upload the model",
    revision: str | None = None,
) -> str:
    """Upload a saved model to the hub; returns its address.

    Args:
        folder: folder of `save_pretrained`.
        name: name of the model, "user/name". It is created if it does not exist.
        private: whether only you may read it, if it is created.
        commit_message: message of the commit.
        revision: branch to upload to, which is created if it does not exist. If None, the main branch.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
        FileNotFoundError: there is no saved model in the folder.
        ValueError: the name is not of the form "user/name".
        PermissionError: you are not logged in, or may not write to this name.
        ConnectionError: the hub cannot be reached.
    """
    hub, errors = _import_hub()
    folder = Path(folder)
    if not all((folder / file).is_file() for file in NAMES[:2]):
        raise FileNotFoundError(f"{folder} is not a saved model; save one with save_pretrained")
    try:
        api = hub.HfApi()
        address = api.create_repo(name, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(name, branch=revision, exist_ok=True)
        files = [*NAMES, *EXPORTED]
        api.upload_folder(
            repo_id=name, folder_path=folder, allow_patterns=files, commit_message=commit_message, revision=revision
        )
    except errors.HFValidationError as error:
        raise ValueError(f"{short(name)} is no name of a model ({_first_line(error)}); give 'user/name'") from None
    except (errors.HfHubHTTPError, errors.LocalTokenNotFoundError) as error:
        raise PermissionError(
            f"{name} cannot be written to ({_first_line(error)}); log in with `hf auth login`, and take a name of yours"
        ) from None
    except (OSError, errors.HTTPError) as error:
        raise ConnectionError(f"the Hugging Face hub cannot be reached ({_first_line(error)})") from None
    return str(address)


def _import_hub() -> tuple[ModuleType, ModuleType]:
    """Import huggingface_hub and its errors."""
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "models on the Hugging Face hub need huggingface_hub, which is not installed: pip install 'betavae[hub]'"
        ) from None
    return huggingface_hub, errors


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
