"""Takes the README's picture of a report: `python docs/screenshot.py runs/demo`. Needs playwright and Chromium."""

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PICTURE = Path(__file__).parent / "report.png"
SIZE = {"width": 1180, "height": 1010}
COLOURS = 128  # of the palette, which keeps the file small
MAP_DRAWN = """() => {
  const map = document.querySelector("[data-surface] canvas");
  return map.getContext("2d").getImageData(map.width - 1, map.height - 1, 1, 1).data[3] === 255;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    report = parser.parse_args().run / "report.html"
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(report.resolve().as_uri())
        slider = page.locator("input[type=range]").first
        for _ in range(12):
            slider.press("ArrowRight")
        slider.blur()
        page.wait_for_function(MAP_DRAWN)
        page.evaluate("scrollTo(0, 0)")
        shot = page.screenshot(animations="disabled")
        browser.close()
    with Image.open(io.BytesIO(shot)) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
