"""How large a report's page is, how fast it decodes and how many frames a second follow a drag; in headless Chromium.

Run it on a machine at rest: `python benchmarks/explorer.py`. The models are untrained and have 10 latents; the pages
hold no figures. Needs playwright and Chromium.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from playwright.sync_api import Page, sync_playwright

from betavae.model import VAE
from betavae.networks.layers import ImageShape
from betavae.report.explorer.latents import Explorer, describe_latents
from betavae.report.pages.report import RunReport, render_report

MODELS: dict[str, tuple[str, ImageShape]] = {
    **{name: (name, (1, 64, 64)) for name in ("burgess", "affine", "locatello", "higgins", "residual", "wide")},
    "burgess, 128 pixels, 3 channels": ("burgess", (3, 128, 128)),
}
DECODE = """() => {
  const latents = new Float64Array(10), times = [];
  for (let i = 0; i < 60; i++) {
    latents[0] = Math.sin(i);
    const start = performance.now();
    betavae.decode(latents);
    times.push(performance.now() - start);
  }
  return times.slice(10).sort((a, b) => a - b);
}"""
COUNT_FRAMES = """() => {
  window.drawn = 0;
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...words) {
    if (this.canvas.matches("[data-decoded]")) window.drawn++;
    return put.apply(this, words);
  };
}"""


def report(name: str, shape: ImageShape) -> str:
    """The page of an untrained model."""
    torch.manual_seed(0)
    model = VAE(name, shape, 10).eval()
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(2000, 10)).astype(np.float32)
    latents = describe_latents(mean, np.full_like(mean, -2), np.linspace(1, 2, 10), [[] for _ in range(10)])
    images = rng.integers(256, size=(12, *shape)).astype(np.uint8)
    return render_report(
        RunReport("benchmark", explorer=Explorer(model, latents, images, mean[:12])), max_bytes=30_000_000
    )


def frames_per_second(page: Page, seconds: float = 3.0) -> float:
    """Pictures drawn in a second while the first slider is dragged to and fro."""
    page.evaluate(COUNT_FRAMES)
    box = page.locator("input[type=range]").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    start, moves = page.evaluate("performance.now()"), 0
    while page.evaluate("performance.now()") - start < 1000 * seconds:
        for _ in range(10):
            moves += 1
            page.mouse.move(x + 0.4 * box["width"] * np.sin(moves / 20), y)
    page.mouse.up()
    drawn: float = page.evaluate("drawn") / ((page.evaluate("performance.now()") - start) / 1000)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), help=f"of {', '.join(MODELS)}")
    chosen = parser.parse_args().models
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    print("| model | page, MB | decoding, best, ms | median | frames/s while dragging | load |")
    print("| --- | --- | --- | --- | --- | --- |")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name in chosen:
            file = Path(folder) / "report.html"
            file.write_text(report(*MODELS[name]), encoding="utf-8")
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(file.as_uri())
            times = page.evaluate(DECODE)
            rate = frames_per_second(page)
            load = os.getloadavg()[0]
            size = file.stat().st_size / 1e6
            print(f"| {name} | {size:.1f} | {times[0]:.1f} | {times[len(times) // 2]:.1f} | {rate:.0f} | {load:.1f} |")
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
