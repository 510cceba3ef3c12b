"""Serves a page that shows a training while it runs: curves, reconstructions, traversals; at the end, the report.

The server answers requests of this machine only. It reads the files of the run folder and nothing else, in a thread of
its own, so it cannot change the numbers of the training. If it fails, the training goes on.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from betavae.data.factor_data import FactorData
from betavae.objectives.registry import objective_title
from betavae.report.explorer.networks import pack_decoder, pack_encoder
from betavae.report.pages.image_uri import png_uri
from betavae.report.pages.line_chart import chart_names, loss_charts
from betavae.report.pages.templates import join_scripts, policy_hash, render_page
from betavae.report.pages.wording import about_data, about_method
from betavae.report.run_page import as_bytes
from betavae.runs.checkpoints import load_snapshot
from betavae.runs.contents import split_of
from betavae.runs.folder import Run, open_run, read_curve

SHOWN_IMAGES = 10
_HOST = "127.0.0.1"
_PATIENCE = 8.0  # seconds to wait at the end for a page that is open to fetch the report
_RECENT = 6.0  # seconds since its last request in which a page counts as open


class LivePage:
    """The page of one training.

    Args:
        folder: folder of the run. It need not exist yet.
        data: the data of the run.

    Attributes:
        address: address to open in a browser.

    Raises:
        OSError: no port is free.
    """

    def __init__(self, folder: Path, data: FactorData) -> None:
        self._folder, self._data = folder, data
        self._asked, self._delivered = 0.0, threading.Event()
        self._model: tuple[float, bytes] = 0.0, b"{}"
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((_HOST, 0), self._handler())
        self._server.daemon_threads = True
        self.address = f"http://{_HOST}:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self, finished: bool) -> None:
        """Stop the server. If the run is finished, wait until an open page has become the report."""
        done = finished and open_run(self._folder).done
        if done and time.monotonic() - self._asked < _RECENT:
            self._delivered.wait(_PATIENCE)
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[str, bytes]:
        """The content type and the body for a path.

        Raises:
            KeyError: there is no such path.
        """
        self._asked = time.monotonic()
        run = open_run(self._folder) if (self._folder / "config.json").is_file() else None
        if path == "/":
            return "text/html; charset=utf-8", self._page(run)
        if path == "/state.json":
            return "application/json", json.dumps(self._state(run)).encode()
        if path == "/model.json":
            return "application/json", self._packed(run)
        raise KeyError(path)

    def _page(self, run: Run | None) -> bytes:
        if run and run.done and run.path("report.html").is_file():
            self._delivered.set()
            return run.path("report.html").read_bytes()
        script = join_scripts("explorer/networks.js", "charts.js", "live.js")
        config = run.config if run else None
        images, channels = [], self._data.image_shape
        if config:
            split = split_of(config, self._data)
            rows = (split.validation if len(split.validation) else split.train)[:SHOWN_IMAGES]
            images = [png_uri(image) for image in as_bytes(self._data, rows)]
        page = render_page(
            "live.html",
            title=self._folder.resolve().name,
            about=[about_method(objective_title(config.objective) if config else ""), about_data(self._data)],
            images=images,
            live_data={"image": channels, "likelihood": config.likelihood if config else "bernoulli"},
            script=script,
            script_hash=policy_hash(script),
        )
        return page.encode()

    def _state(self, run: Run | None) -> dict[str, Any]:
        if run is None:
            return {"step": 0, "steps": 0, "done": False, "model": 0, "charts": ""}
        records = read_curve(run) if run.path("curve.jsonl").is_file() else []
        charts = loss_charts(records)
        checkpoint = run.path("checkpoint.safetensors")
        return {
            "step": max((record["step"] for record in records), default=0),
            "steps": run.config.steps,
            "done": run.done,
            "model": checkpoint.stat().st_mtime if checkpoint.is_file() else 0,
            "charts": render_page("live_charts.html", charts=charts, names=chart_names(charts)),
        }

    def _packed(self, run: Run | None) -> bytes:
        """The networks of the last checkpoint as JSON."""
        if run is None:
            return b"{}"
        with self._lock:
            written = run.path("checkpoint.safetensors").stat().st_mtime
            if written != self._model[0]:
                model = load_snapshot(run, self._data.image_shape)
                packed = {"decoder": pack_decoder(model), "encoder": pack_encoder(model), "latents": model.latent_dim}
                self._model = written, json.dumps(packed).encode()
            return self._model[1]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = page.address.removeprefix("http://").rstrip("/")
                if self.headers.get("Host") not in (known, known.replace(_HOST, "localhost")):
                    return self.send_error(403)  # a page from elsewhere, under a name that leads here
                try:
                    kind, body = page.answer(self.path.split("?")[0])
                except KeyError:
                    return self.send_error(404)
                except Exception:  # a file that is being written; the page asks again
                    return self.send_error(503)
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Cache-Control", "no-store")
                self.end_headers()
                with suppress(OSError):  # the page was closed
                    self.wfile.write(body)
                return None

            def log_message(self, *words: Any) -> None:
                pass

        return Handler


@contextmanager
def live_page(folder: Path, data: FactorData) -> Iterator[str]:
    """Serve the page of a training; yields its address."""
    page = LivePage(folder, data)
    finished = False
    try:
        yield page.address
        finished = True
    finally:
        page.close(finished)
