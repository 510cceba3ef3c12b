"""Logs runs to MLflow. No other file imports mlflow."""

import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from betavae.integrations.loggers import LogStart

if TYPE_CHECKING:
    from PIL.Image import Image


def open_mlflow(start: LogStart) -> "MLflow":
    """Open a run of MLflow: in an SQLite file in the run folder, unless MLFLOW_TRACKING_URI names another place."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would use the network; a value of yours is kept
    return MLflow(start)


class MLflow:
    """A run of MLflow. A resumed run continues under the same id."""

    def __init__(self, start: LogStart) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        for noisy in ("mlflow", "alembic"):  # they announce each table of a new database
            logging.getLogger(noisy).setLevel(logging.WARNING)
        self._metric = Metric
        artifacts = None
        if not (address := os.environ.get("MLFLOW_TRACKING_URI", "")):
            start.folder.mkdir(parents=True, exist_ok=True)
            address, artifacts = f"sqlite:///{start.folder / 'mlflow.db'}", (start.folder / "artifacts").as_uri()
        self._client = MlflowClient(address)
        if start.id:
            self.id = start.id
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "betavae")
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name, artifacts)
        self.id = self._client.create_run(experiment, run_name=start.name).info.run_id
        self._client.log_batch(self.id, params=[Param(key, str(value)) for key, value in start.settings.items()])

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        now = round(1000 * time.time())
        self._client.log_batch(self.id, [self._metric(tag, value, now, step) for tag, value in values.items()])

    def images(self, images: Mapping[str, "Image"], step: int) -> None:
        for tag, image in images.items():
            self._client.log_image(self.id, image, key=tag, step=step)

    def scores(self, values: Mapping[str, float], step: int) -> None:
        self.scalars(values, step)

    def close(self, finished: bool) -> None:
        self._client.set_terminated(self.id, "FINISHED" if finished else "KILLED")
