"""Models on the Hugging Face hub. No other file imports huggingface_hub."""

from pathlib import Path
from types import ModuleType

from betavae.files.validation import short
from betavae.networks.weights import EXPORTED, NAMES


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


def upload(folder: str | Path, name: str, *, private: bool = False, message: str = "Upload the model") -> str:
    """Upload a saved model to the hub; returns its address.

    Args:
        folder: folder of `save_pretrained`.
        name: name of the model, "user/name". It is created if it does not exist.
        private: whether only you may read it, if it is created.
        message: message of the commit.

    Raises:
        ModuleNotFoundError: huggingface_hub is not installed.
        FileNotFoundError: there is no saved model in the folder.
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
        api.upload_folder(repo_id=name, folder_path=folder, allow_patterns=[*NAMES, *EXPORTED], commit_message=message)
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
