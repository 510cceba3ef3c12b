"""Declares the contents of the files that betavae writes, and reads them with validation. Imports no torch.

The readers return values of the declared types. If a file is damaged, they raise an error that names the file, the
problem and what to do. Unknown keys are accepted, because a later version may have written them. The exception is
settings (config.json, recipes), where an unknown key would change the results.

    config.json             `config.Config`
    provenance.json         `Provenance`
    scores.json             `Scores`
    curve.jsonl             `CurveLine` in each line, and loss terms, which are numbers or null
    model.safetensors       `ModelHeader` and the tensors
    checkpoint.safetensors  `CheckpointHeader` and the tensors
    latents.npz             `LATENTS`
    .holder.json            `Holder`
    study.json              `StudyFile`
    failed/<run id>.json    `Failure`
    results.parquet         `results.COLUMNS`
"""

import json
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from betavae.files.validation import check_plain, short, typed

RUN_FORMAT = 1
"""Version of the layout of a run folder. Other versions are not read."""
STUDY_FORMAT = 2
"""Version of the layout of a study folder. Other versions are not read."""
LARGEST = 100_000_000
"""Largest text file that is read, in bytes. Runs write less than a tenth of it."""
LATENTS = {"rows": ("iu", 1), "mean": ("f", 2), "log_var": ("f", 2)}
"""Arrays of latents.npz: NumPy's kinds of their numbers, and their numbers of axes."""


class Data(TypedDict):
    """The data that a run was trained on."""

    name: str
    images: int
    sha256: str
    pixels: NotRequired[int]
    file: NotRequired[str]


class Provenance(TypedDict):
    """Origin of a run. The last three keys are written at the end of the training."""

    format: int
    data: Data
    started: NotRequired[str]
    command: NotRequired[list[str]]
    imported: NotRequired[list[str]]
    commit: NotRequired[str | None]
    modified: NotRequired[bool]
    versions: NotRequired[dict[str, str]]
    system: NotRequired[str]
    device: NotRequired[str]
    threads: NotRequired[int]
    precision: NotRequired[str]
    convolutions: NotRequired[str]
    seeds: NotRequired[dict[str, Any]]
    continued: NotRequired[list[dict[str, Any]]]
    train_seconds: NotRequired[float]
    images_per_second: NotRequired[float]
    peak_memory_bytes: NotRequired[int | None]


class Capture(TypedDict):
    """The latents that capture a factor, as `metrics.Capture`."""

    factor: str
    kind: Literal["captured", "entangled", "not captured", "does not vary"]
    latents: list[int]
    strength: float | None


class Protocol(TypedDict):
    """Protocol of an evaluation."""

    preset: str
    seed: int
    evaluations: int
    rows: int
    num_train: int
    num_test: int
    betavae: NotRequired[str]
    latents: NotRequired[str]
    factors: NotRequired[list[str]]


class CombinationScores(TypedDict):
    """Reconstruction loss and accuracies on a kind of combinations of the factors, seen or unseen."""

    images: int
    reconstruction: float | None
    accuracy: NotRequired[dict[str, float]]
    mean_accuracy: NotRequired[float]


class Combinations(TypedDict):
    """Scores on the combinations of the factors that are in training, and on those held out."""

    seen: CombinationScores
    unseen: CombinationScores


class Scores(TypedDict):
    """Scores of a trained run. Without factors, only the first two keys. Undefined scores are null."""

    kl: list[float]
    held_out: dict[str, float]
    scores: NotRequired[dict[str, float | None]]
    intervals: NotRequired[dict[str, tuple[float | None, float | None]]]
    chance: NotRequired[dict[str, float | None]]
    ceilings: NotRequired[dict[str, float | None]]
    arrays: NotRequired[dict[str, list[Any]]]
    captures: NotRequired[list[Capture]]
    protocol: NotRequired[Protocol]
    notes: NotRequired[list[str]]
    skipped: NotRequired[dict[str, str]]
    combinations: NotRequired[Combinations]


DRAWN: dict[str, tuple[str, Any]] = {
    "mig.mutual_information": ("DK", list[list[float]]),
    "mig.factor_entropy": ("K", list[float]),
    "dci.importance": ("DK", list[list[float | None]]),
    "dci.per_latent": ("D", list[float | None]),
    "dci.per_factor": ("K", list[float | None]),
    "dci.accuracy": ("K", list[float | None]),
}
"""Axes (D latents, K factors) and types of the arrays in `Scores.arrays` that figures need. For each metric, all of its
arrays are present, or none."""


class CurveLine(TypedDict):
    """A record of the loss curves."""

    step: int
    wall_seconds: float
    split: str


_POINT = CurveLine.__annotations__.keys()


class ModelHeader(TypedDict):
    """Metadata of the weights of a model. `sha256` covers the tensors and the other entries."""

    format: int
    settings: str
    sha256: str
    image_shape: tuple[int, int, int]


class CheckpointHeader(TypedDict):
    """Metadata of a checkpoint. `sha256` covers the tensors and the other entries."""

    format: int
    settings: str
    sha256: str
    step: int
    wall_seconds: float


class Holder(TypedDict):
    """The process that holds the lock of a run folder."""

    host: str
    process: int
    since: str


class StudyFile(TypedDict):
    """The recipe of a study, and the digest and defaults that detect whether it still means the same runs."""

    format: int
    recipe: dict[str, Any]
    began: str
    betavae: str
    digest: str
    runs: NotRequired[int]
    defaults: NotRequired[dict[str, dict[str, Any]]]


class Failure(TypedDict):
    """The last error of a run of a study."""

    error: str
    when: NotRequired[str]


# ---------------------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------------------


def read_json(path: Path, kind: Any, remedy: str, version: int | None = None) -> Any:
    """Read and validate a JSON file.

    Args:
        path: path of the file.
        kind: type of the contents, one of the classes above.
        remedy: what to do about a damaged file, for the end of the error message.
        version: required value of the file's `format`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, not a regular file, or from another version.
    """
    return parse(read_bytes(path, remedy), path, kind, remedy, version)


def read_bytes(path: Path, remedy: str) -> bytes:
    """Read a regular file of limited size; arguments and errors as for `read_json`."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; {remedy}")
    check_file(path, remedy)
    if path.stat().st_size > LARGEST:
        raise ValueError(
            f"{path} has {path.stat().st_size / 1e6:,.0f} MB; at most {LARGEST / 1e6:,.0f} MB are allowed; {remedy}"
        )
    return path.read_bytes()


def check_file(path: Path, remedy: str) -> None:
    """Refuse a path that is not a regular file, such as a folder or a pipe, which might never end."""
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'not a regular file'}; {remedy}")


def parse(text: bytes | str, where: Any, kind: Any, remedy: str, version: int | None = None) -> Any:
    """Parse and validate a JSON text; `where` is its name in error messages, the rest is as for `read_json`.

    `NaN` and `Infinity`, which Python writes although JSON does not allow them, are read as null.

    Example:
        >>> parse('{"error": 3}', "failed/a.json", Failure, "run it again")
        Traceback (most recent call last):
        ValueError: failed/a.json is damaged (error is 3; it must be text); run it again
    """
    actual = version
    try:
        values = json.loads(text, parse_constant=lambda name: None)
        if not isinstance(values, dict):
            raise ValueError(f"it holds {short(values)} where a table should be")
        check_plain(values)
        if version is not None:
            actual = typed("format", values.get("format"), int)
        if actual == version:
            return typed("", values, kind)
    except RecursionError:
        raise ValueError(f"{where} is damaged (it is nested too deep); {remedy}") from None
    except UnicodeError:
        raise ValueError(f"{where} is damaged (it is not UTF-8 text); {remedy}") from None
    except ValueError as error:
        raise ValueError(f"{where} is damaged ({error}); {remedy}") from None
    raise ValueError(
        f"{where} has format {actual}, and this version reads format {version}; use the betavae version that wrote it"
    )


def read_curve(folder: Path) -> list[dict[str, Any]]:
    """Read the curve file of a run. An incomplete last line is left out.

    Raises:
        FileNotFoundError, ValueError: as `read_json`.
    """
    path, remedy = folder / "curve.jsonl", "restore it, or move it away and continue without it"
    *complete, last = read_bytes(path, remedy).split(b"\n")
    points = [_point(line, f"line {number} of {path}", remedy) for number, line in enumerate(complete, 1)]
    with suppress(ValueError):
        points.append(_point(last, "", ""))
    return points


def _point(line: bytes, where: str, remedy: str) -> dict[str, Any]:
    point: dict[str, Any] = parse(line, where, CurveLine, remedy)
    try:
        terms = {name: typed(name, term, float | None) for name, term in point.items() if name not in _POINT}
    except ValueError as error:
        raise ValueError(f"{where} is damaged ({error}); {remedy}") from None
    return point | terms


def read_provenance(folder: Path) -> Provenance:
    """Read the provenance of a run; raises as `read_json`."""
    values: Provenance = read_json(
        folder / "provenance.json",
        Provenance,
        "restore it, move it away and continue without it, or repeat the run",
        RUN_FORMAT,
    )
    return values


def read_scores(folder: Path, latent_dim: int, num_factors: int | None = None) -> Scores:
    """Read the scores of a run and check their sizes.

    Args:
        folder: run folder.
        latent_dim: number of latents in the run's settings.
        num_factors: number of factors of the data; if None, it is not checked.

    Raises:
        FileNotFoundError, ValueError: as `read_json`.
    """
    path, remedy = folder / "scores.json", f"score the run again: betavae score {shlex.quote(str(folder))}"
    values: Scores = read_json(path, Scores, remedy)
    try:
        _check_scores(values, latent_dim, num_factors)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}") from None
    return values


def _check_scores(values: Scores, latent_dim: int, num_factors: int | None) -> None:
    """Refuse tables whose sizes do not match."""
    if len(values["kl"]) != latent_dim:
        raise ValueError(f"kl has {len(values['kl'])} values, but the settings have {latent_dim} latents")
    captures, tables = values.get("captures", []), values.get("arrays", {})
    sizes = {"D": latent_dim}
    if captures or num_factors is not None:
        sizes["K"] = len(captures) if num_factors is None else num_factors
    if captures and len(captures) != sizes["K"]:
        raise ValueError(f"captures has {len(captures)} factors, but the data have {sizes['K']}")
    for number, capture in enumerate(captures):
        if not all(0 <= latent < latent_dim for latent in capture["latents"]):
            raise ValueError(
                f"captures[{number}].latents is {short(capture['latents'])}, but there are {latent_dim} latents"
            )
        if capture["latents"] and capture["strength"] is None:
            raise ValueError(f"captures[{number}] has latents but no strength")
    for name, (axes, kind) in DRAWN.items():
        if name in tables:
            table = typed(f"arrays.{name}", tables[name], kind)
            shape = [len(table), *{len(row) for row in table if len(axes) > 1}]
            expected = [sizes.setdefault(axis, size) for axis, size in zip(axes, shape, strict=False)]
            if shape != expected:
                raise ValueError(f"arrays.{name} has shape {short(shape)}; it must be {expected}")
        elif present := next((other for other in tables if other in DRAWN and other[:4] == name[:4]), ""):
            raise ValueError(f"arrays has {present} but not {name}")
