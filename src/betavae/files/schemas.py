"""The files that this package writes and reads again: what each holds, and the one way to read them. Imports no torch.

Whoever reads one of them has values of the declared types, or a sentence that names the file, what is wrong in it and
what to do. Keys that are not declared pass, for a later version may have written them; only settings (config.json,
recipes) are refused where they have a key that this version does not know, since it would decide the numbers.

    config.json             `config.Config`
    provenance.json         `Provenance`
    scores.json             `Scores`
    curve.jsonl             `CurveLine` a line, and terms, which are numbers or null
    model.safetensors       `ModelHeader` beside the tensors
    checkpoint.safetensors  `CheckpointHeader` beside the tensors
    latents.npz               `LATENTS`
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
"""Version of the layout of a run folder; one of another version is not read."""
STUDY_FORMAT = 2
"""Version of the layout of a study's folder."""
LARGEST = 100_000_000
"""Bytes of a text that are read; no run writes a tenth of them."""
LATENTS = {"rows": ("iu", 1), "mean": ("f", 2), "log_var": ("f", 2)}
"""Arrays of latents.npz: their kinds of numbers, as NumPy calls them, and how many axes they have."""


class Data(TypedDict):
    """What a run was trained on."""

    name: str
    images: int
    sha256: str
    pixels: NotRequired[int]
    file: NotRequired[str]


class Provenance(TypedDict):
    """Where the numbers of a run come from; what is written at the end of its training is not there before."""

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
    """Which latents capture a factor: `metrics.Capture`."""

    factor: str
    kind: Literal["captured", "entangled", "not captured", "does not vary"]
    latents: list[int]
    strength: float | None


class Protocol(TypedDict):
    """How scores came about."""

    preset: str
    seed: int
    evaluations: int
    rows: int
    num_train: int
    num_test: int
    betavae: NotRequired[str]
    latents: NotRequired[str]
    factors: NotRequired[list[str]]


class Scores(TypedDict):
    """What is known of a trained run: without factors only the first two. Undefined scores are null."""

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


DRAWN: dict[str, tuple[str, Any]] = {
    "mig.mutual_information": ("DK", list[list[float]]),
    "mig.factor_entropy": ("K", list[float]),
    "dci.importance": ("DK", list[list[float | None]]),
    "dci.per_latent": ("D", list[float | None]),
    "dci.per_factor": ("K", list[float | None]),
    "dci.accuracy": ("K", list[float | None]),
}
"""Axes (D latents, K factors) and types of those of `Scores.arrays` that are drawn; a metric has all of its own or
none."""


class CurveLine(TypedDict):
    """A point of the curves."""

    step: int
    wall_seconds: float
    split: str


_POINT = CurveLine.__annotations__.keys()


class ModelHeader(TypedDict):
    """What stands beside the weights of a model; `sha256` is of the tensors and the other entries."""

    format: int
    settings: str
    sha256: str
    image_shape: tuple[int, int, int]


class CheckpointHeader(TypedDict):
    """What stands beside the tensors of a checkpoint."""

    format: int
    settings: str
    sha256: str
    step: int
    wall_seconds: float


class Holder(TypedDict):
    """Who trains in a run folder at this moment."""

    host: str
    process: int
    since: str


class StudyFile(TypedDict):
    """The recipe of a study, and what tells whether a later version means the same runs by it."""

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


def read_json(path: Path, kind: Any, cure: str, version: int | None = None) -> Any:
    """The values of a JSON file.

    Args:
        path: of the file.
        kind: one of the classes above.
        cure: what to do about a damaged file, for the end of a sentence.
        version: that the file's `format` must have.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, no file, or of another version.
    """
    return parse(read_bytes(path, cure), path, kind, cure, version)


def read_bytes(path: Path, cure: str) -> bytes:
    """The content of a file, which is one, and of a size that can be; raises as `read_json`."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; {cure}")
    check_file(path, cure)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size / 1e6:,.0f} MB, which is more than it ever has; {cure}")
    return path.read_bytes()


def check_file(path: Path, cure: str) -> None:
    """Refuse what has a file's name and is none: a folder, or a pipe, which might never end."""
    if not path.is_file():
        raise ValueError(f"{path} is {'a folder' if path.is_dir() else 'no regular file'}; {cure}")


def parse(text: bytes | str, where: Any, kind: Any, cure: str, version: int | None = None) -> Any:
    """The values of a JSON text; `where` is what to call it, the rest is as for `read_json`.

    JSON has no number for what is undefined: `NaN` and `Infinity`, which Python writes, are read as null.

    Example:
        >>> parse('{"error": 3}', "failed/a.json", Failure, "run it again")
        Traceback (most recent call last):
        ValueError: failed/a.json is damaged (error is 3; it must be text); run it again
    """
    found = version
    try:
        values = json.loads(text, parse_constant=lambda name: None)
        if not isinstance(values, dict):
            raise ValueError(f"it holds {short(values)} where a table should be")
        check_plain(values)
        if version is not None:
            found = typed("format", values.get("format"), int)
        if found == version:
            return typed("", values, kind)
    except RecursionError:
        raise ValueError(f"{where} is damaged (it is nested too deep); {cure}") from None
    except UnicodeError:
        raise ValueError(f"{where} is damaged (it is no text in UTF-8); {cure}") from None
    except ValueError as error:
        raise ValueError(f"{where} is damaged ({error}); {cure}") from None
    raise ValueError(
        f"{where} is of format {found}, and this version reads format {version}; use the version that made it"
    )


def read_curve(folder: Path) -> list[dict[str, Any]]:
    """The lines of the curve in a run's folder; a last one cut off by an interruption is left out.

    Raises:
        FileNotFoundError, ValueError: as `read_json`.
    """
    path, cure = folder / "curve.jsonl", "bring it back, or move it away and go on without it"
    *whole, last = read_bytes(path, cure).split(b"\n")
    points = [_point(line, f"line {number} of {path}", cure) for number, line in enumerate(whole, 1)]
    with suppress(ValueError):
        points.append(_point(last, "", ""))
    return points


def _point(line: bytes, where: str, cure: str) -> dict[str, Any]:
    point: dict[str, Any] = parse(line, where, CurveLine, cure)
    try:
        terms = {name: typed(name, term, float | None) for name, term in point.items() if name not in _POINT}
    except ValueError as error:
        raise ValueError(f"{where} is damaged ({error}); {cure}") from None
    return point | terms


def read_provenance(folder: Path) -> Provenance:
    """Where the numbers of the run in a folder come from; raises as `read_json`."""
    values: Provenance = read_json(
        folder / "provenance.json",
        Provenance,
        "bring it back, or move it away and go on without, or repeat the run",
        RUN_FORMAT,
    )
    return values


def read_scores(folder: Path, latent_dim: int, num_factors: int | None = None) -> Scores:
    """The scores of the run in a folder, for so many latents as its settings have and factors as its data have.

    Raises:
        FileNotFoundError, ValueError: as `read_json`.
    """
    path, cure = folder / "scores.json", f"score the run again: betavae score {shlex.quote(str(folder))}"
    values: Scores = read_json(path, Scores, cure)
    try:
        _check_scores(values, latent_dim, num_factors)
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {cure}") from None
    return values


def _check_scores(values: Scores, latent_dim: int, num_factors: int | None) -> None:
    """Refuse tables whose sizes do not fit one another."""
    if len(values["kl"]) != latent_dim:
        raise ValueError(f"kl is of {len(values['kl'])} latents, and the settings have {latent_dim}")
    captures, tables = values.get("captures", []), values.get("arrays", {})
    sizes = {"D": latent_dim}
    if captures or num_factors is not None:
        sizes["K"] = len(captures) if num_factors is None else num_factors
    if captures and len(captures) != sizes["K"]:
        raise ValueError(f"captures are of {len(captures)} factors, and the data have {sizes['K']}")
    for number, capture in enumerate(captures):
        if not all(0 <= latent < latent_dim for latent in capture["latents"]):
            raise ValueError(
                f"captures[{number}].latents is {short(capture['latents'])}; there are {latent_dim} latents"
            )
        if capture["latents"] and capture["strength"] is None:
            raise ValueError(f"captures[{number}] has latents and no strength")
    for name, (axes, kind) in DRAWN.items():
        if name in tables:
            table = typed(f"arrays.{name}", tables[name], kind)
            shape = [len(table), *{len(row) for row in table if len(axes) > 1}]
            wanted = [sizes.setdefault(axis, size) for axis, size in zip(axes, shape, strict=False)]
            if shape != wanted:
                raise ValueError(f"arrays.{name} is of {short(shape)} latents and factors, and not of {wanted}")
        elif missing := next((other for other in tables if other in DRAWN and other[:4] == name[:4]), ""):
            raise ValueError(f"arrays has {missing} and lacks {name}")
