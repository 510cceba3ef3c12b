"""The explorer: networks as data, the range of each latent, and the page itself in a real browser."""

import base64
import copy
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from betavae.model import VAE
from betavae.report.explorer.gallery import Gallery
from betavae.report.explorer.latents import Explorer, describe_latents
from betavae.report.explorer.networks import pack_decoder, pack_network
from betavae.report.pages.comparison import render_comparison
from betavae.report.pages.report import PAGE_BYTES, RunReport, render_report
from betavae.report.published import DSPRITES
from tests.test_comparison import member

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
]
PIXELS = "canvas => canvas.toDataURL()"


def vivid(name="burgess", shape=(1, 64, 64), latent_dim=4, likelihood="bernoulli", seed=0) -> VAE:
    """An untrained model whose pictures differ visibly, with batch statistics that are not neutral."""
    torch.manual_seed(seed)
    model = VAE(name, shape, latent_dim, likelihood)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                layer.weight *= 1.5 if name == "residual" else 2
            elif isinstance(layer, nn.BatchNorm2d):
                for values, low in ((layer.running_mean, -0.5), (layer.running_var, 0.5), (layer.weight, 0.5)):
                    values.uniform_(low, low + 1)
                layer.bias.uniform_(-0.5, 0.5)
    return model.eval()


def explorer(model: VAE, kl=None, captures=None) -> Explorer:
    rng, size = np.random.default_rng(0), model.latent_dim
    kl = np.linspace(1, 2, size) if kl is None else np.array(kl, float)
    mean = rng.normal(size=(500, size)).astype(np.float32)
    sliders = describe_latents(mean, np.full_like(mean, -2), kl, captures or [[] for _ in range(size)])
    images = rng.integers(256, size=(12, *model.image_shape)).astype(np.uint8)
    with torch.inference_mode():
        seeds = model.encode(torch.from_numpy(images / np.float32(255))).mean.numpy()
    return Explorer(model, sliders, images, seeds)


# ---------------------------------------------------------------------------------------------------------------------
# Latents and networks as data
# ---------------------------------------------------------------------------------------------------------------------


def test_sliders_are_sorted_and_span_the_aggregate_posterior():
    rng = np.random.default_rng(0)
    mean = np.stack([np.zeros(9000), rng.choice([-5.0, 3.0], 9000)], 1).astype(np.float32)
    log_var = np.full_like(mean, np.log(0.01))
    wide, narrow = describe_latents(mean, log_var, np.array([0.1, 3.0]), [[], [("posX", 0.5)]])
    assert (wide.index, wide.kl, wide.captures) == (1, 3.0, (("posX", 0.5),))
    assert -5.4 <= wide.low <= -5.2  # -5 - 2.33 * 0.1 or a little further, rounded outwards
    assert 3.2 <= wide.high <= 3.4
    assert (narrow.low, narrow.high) == (-2, 2)
    assert max(wide.counts) == max(narrow.counts) == 1
    assert np.count_nonzero(narrow.counts) <= 8  # +-3 standard deviations of 0.1 in bars of 1/8


def test_tables_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"mean \(5, 2\), log_var \(5, 2\), kl \(3,\) and 2 lists .* do not fit"):
        describe_latents(np.zeros((5, 2)), np.zeros((5, 2)), np.zeros(3), [[], []])


def test_weights_stand_in_the_order_of_use_and_channel_last():
    linear, convolution = nn.Linear(8, 1), nn.Conv2d(2, 2, 2, 2)
    packed = pack_network(nn.Sequential(convolution, nn.Flatten(), linear), (2, 4, 4))
    weights = np.frombuffer(base64.b64decode(packed["weights"]), np.float16)
    expected = [
        convolution.weight.permute(2, 3, 0, 1).flatten(),
        convolution.bias,
        linear.weight.reshape(2, 2, 2).permute(1, 2, 0).flatten(),
        linear.bias,
    ]
    np.testing.assert_array_equal(weights, torch.cat(expected).detach().numpy().astype(np.float16))
    assert [layer["output"] for layer in packed["layers"]] == [[2, 2, 2], [1, 1, 1]]


def test_a_convolution_straight_after_a_linear_layer_is_folded_where_that_saves():
    wide, burgess = vivid("wide", latent_dim=10), vivid("burgess", latent_dim=10)
    folded = pack_decoder(wide)
    assert folded["layers"][0]["output"] == [1, 1, 8 * 8 * 128]
    size = sum(parameter.numel() for parameter in wide.decoder.parameters())
    assert len(base64.b64decode(folded["weights"])) / 4 < size / 2
    assert pack_decoder(burgess)["layers"][0]["output"] == [1, 1, 256]


def test_subclasses_that_compute_the_same_are_packed():
    class Head(nn.Sequential):
        """But for its name a `Sequential`."""

    torch.manual_seed(0)
    plain = nn.Linear(4, 8)
    scaled = nn.utils.parametrizations.weight_norm(copy.deepcopy(plain))
    expected = pack_network(nn.Sequential(plain, nn.Unflatten(1, (2, 2, 2))), (4, 1, 1), 100)
    found = pack_network(Head(scaled, nn.Unflatten(-1, (2, 2, 2))), (4, 1, 1), 100)
    assert found["layers"] == expected["layers"]
    ours, theirs = (np.frombuffer(base64.b64decode(packed["weights"]), "<f4") for packed in (found, expected))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def hooked(layer):
    """Computes something else by a hook."""
    layer.register_forward_hook(lambda layer, given, result: -result)
    return layer


class Skip(nn.Sequential):
    """Is a `Sequential` and computes something else."""

    def forward(self, features):
        return features + super().forward(features)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (nn.Sigmoid(), "the page cannot run a layer of type Sigmoid; it runs AffinePicture, BatchNorm2d"),
        (Skip(nn.ReLU()), "the page cannot run a layer of type Skip; it runs"),
        (hooked(nn.ReLU()), "the page cannot run a layer of type ReLU"),
        (nn.Flatten(2), "cannot run Flatten.*, which flattens only a part"),
        (nn.Unflatten(1, (1, 1, 1)), "the page runs Unflatten to images after Linear only"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Unflatten(1, (8,))), "Unflatten to images after Linear only"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Unflatten(1, (4, 1, 1))), "to images after Linear only"),
        (nn.Conv2d(1, 1, 3, dilation=2), "square convolutions without dilation"),
        (nn.Conv2d(1, 1, 3, padding="same"), "without dilation or named padding"),
        (nn.Conv2d(1, 1, (3, 1)), "square convolutions"),
        (nn.Conv2d(2, 2, 3, groups=2), "convolutions of one group"),
        (nn.BatchNorm2d(1, track_running_stats=False), "running statistics only"),
    ],
)
def test_what_the_page_cannot_run_is_named(layer, sentence):
    with pytest.raises(ValueError, match=sentence):
        pack_network(nn.Sequential(layer), (2 if "groups=2" in str(layer) else 1, 8, 8))
    with pytest.raises(ValueError, match=sentence):  # also where it is all of the network
        pack_network(layer, (2 if "groups=2" in str(layer) else 1, 8, 8))


# ---------------------------------------------------------------------------------------------------------------------
# The page in a browser
# ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is missing: pip install playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium or Chrome on this machine; on Debian: apt-get install chromium")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=program, args=FLAGS)
        yield running.new_context(permissions=["clipboard-read", "clipboard-write"])
        running.close()


@pytest.fixture(scope="module")
def pages() -> dict[str, tuple[object, list[str]]]:
    """Pages that are open already, each with what it complained of."""
    return {}


@pytest.fixture
def show(browser, pages, tmp_path_factory) -> Iterator[Callable]:
    """Opens a page of `PAGES`, once for all tests; nothing may be logged, fail or be asked of the network."""
    shown: list[str] = []

    def show(name: str, script: str = "", again: bool = True):
        """`script` runs before the page's own; `again` loads a page anew that was open already."""
        shown.append(name + script)
        if name + script in pages:
            page, _ = pages[name + script]
            if again:
                page.reload()
            return page
        file = tmp_path_factory.mktemp("page") / "report.html"
        file.write_text(render_report(PAGES[name](), max_bytes=50_000_000), encoding="utf-8")
        page = browser.new_page()
        page.set_default_timeout(180_000)  # a busy machine is no failure
        page.set_viewport_size({"width": 1280, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: request.url.startswith("http") and complaints.append(request.url))
        if script:
            page.add_init_script(script)
        page.goto(file.as_uri())
        pages[name + script] = page, complaints
        return page

    yield show
    for key in shown:
        assert pages[key][1] == []


def picture(page) -> str:
    """The decoded image after the next frames."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page.eval_on_selector("[data-decoded]", PIXELS)


def largest_difference(page, function: str, inputs: torch.Tensor, expected: torch.Tensor) -> float:
    """Between what the page and torch make of the same inputs."""
    packed = base64.b64encode(expected.numpy().astype("<f4").tobytes()).decode()
    return page.evaluate(
        """([name, inputs, packed]) => {
          const bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
          const expected = new Float32Array(bytes.buffer);
          let largest = 0, at = 0;
          for (const input of inputs) {
            for (const value of betavae[name](input)) largest = Math.max(largest, Math.abs(value - expected[at++]));
          }
          return at === expected.length ? largest : NaN;
        }""",
        [function, inputs.flatten(1).tolist(), packed],
    )


MODELS = {
    "burgess": ("burgess", (1, 64, 64), "bernoulli"),
    "affine": ("affine", (1, 64, 64), "bernoulli"),
    "affine in colour": ("affine", (3, 32, 32), "gaussian"),
    "locatello": ("locatello", (1, 64, 64), "bernoulli"),
    "higgins": ("higgins", (1, 64, 64), "bernoulli"),
    "residual": ("residual", (1, 64, 64), "bernoulli"),
    "wide": ("wide", (3, 64, 64), "gaussian"),
    "128 pixels": ("burgess", (3, 128, 128), "bernoulli"),
    "odd shape": ("higgins", (3, 12, 20), "bernoulli"),
}
EVIL = "</script><script>document.title = 'taken'</script>"
SMALL = (1, 32, 32)


def plain(model: VAE, **options) -> RunReport:
    return RunReport(title="a run", explorer=explorer(model, **options))


def model_of(name: str) -> VAE:
    architecture, shape, likelihood = MODELS[name]
    return vivid(architecture, shape, 10, likelihood)


def unknown_layer() -> VAE:
    model = vivid(shape=SMALL)
    model.decoder.append(nn.Softplus())
    return model


def with_factors() -> RunReport:
    """A model with true images of two factors; its first latent is shown as its negative."""
    given = explorer(vivid(shape=SMALL), captures=[[("posX", 0.9)], [], [], []])
    levels = np.stack(np.meshgrid([0, 1, 2], [0, 1], indexing="ij"), -1).reshape(-1, 2).astype(np.int32)
    images = np.zeros((6, *SMALL), np.uint8)
    images[np.arange(6), 0, :, np.arange(6)] = 255
    names, labels = ("posX", "shape"), (("0", "0.5", "1"), ("square", "<b>heart"))
    latents = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    gallery = Gallery(images, latents, levels, ((0, 1, 2), (0, 1)), True, names, labels, (False, True))
    turned = [replace(latent, sign=-1) if latent.index == 0 else latent for latent in given.latents]
    return RunReport(title="a run", explorer=replace(given, latents=turned, gallery=gallery))


PAGES: dict[str, Callable[[], RunReport]] = {
    **{name: lambda name=name: plain(model_of(name)) for name in MODELS},
    "small": lambda: plain(vivid(shape=SMALL)),
    "ten latents": lambda: plain(
        vivid(shape=SMALL, latent_dim=10), captures=[[("orientation", 0.876), ("posX", 0.1)]] * 10
    ),
    "64 latents": lambda: plain(vivid(shape=SMALL, latent_dim=64)),
    "one latent": lambda: plain(vivid(shape=SMALL, latent_dim=1)),
    "colours": lambda: plain(vivid(shape=(3, 32, 32))),
    "some inactive": lambda: plain(vivid(shape=SMALL, latent_dim=3), kl=[0.001, 2.0, 0.0]),
    "all inactive": lambda: plain(vivid(shape=SMALL, latent_dim=3), kl=[0.0, 0.01, 0.0]),
    "evil": lambda: RunReport(title=EVIL, explorer=explorer(vivid(shape=SMALL), captures=[[(EVIL, 0.5)]] * 4)),
    "factors": with_factors,
    "unknown layer": lambda: plain(unknown_layer()),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_page_computes_as_torch_does(show, name):
    model = model_of(name)
    latents = torch.randn(25 if name == "128 pixels" else 100, 10, generator=torch.Generator().manual_seed(1))
    images = torch.rand(3, *model.image_shape, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        pixels, means = model.decode(latents).permute(0, 2, 3, 1), model.encode(images).mean
    page = show(name)
    assert largest_difference(page, "decode", latents, pixels) < 2e-3
    inputs = images.permute(0, 2, 3, 1)
    assert largest_difference(page, "encode", inputs, means) < 2e-3 * float(means.abs().max())


def test_without_webassembly_it_computes_the_same(show):
    for name in ("small", "colours"):
        model = PAGES[name]().explorer.model
        latents = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            pixels = model.decode(latents).permute(0, 2, 3, 1)
        page = show(name, "delete window.WebAssembly")
        assert page.evaluate("typeof WebAssembly") == "undefined"
        assert largest_difference(page, "decode", latents, pixels) < 2e-3


def test_everything_that_can_be_moved_changes_the_picture(show):
    page = show("small")
    seen = [picture(page)]

    def changed():
        now = picture(page)
        assert now not in seen
        seen.append(now)

    slider = page.locator("#z3").bounding_box()  # the largest KL is at the top
    page.mouse.move(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    page.mouse.move(slider["x"] + 0.9 * slider["width"], slider["y"] + slider["height"] / 2, steps=4)
    page.mouse.up()
    changed()
    page.locator("#z3").press("ArrowLeft")
    changed()
    page.locator("#z3").press("Home")
    changed()
    assert page.evaluate("betavae.latents[3]") == float(page.locator("#z3").get_attribute("min"))
    surface = page.locator("[data-surface]").bounding_box()
    page.mouse.click(surface["x"] + 0.25 * surface["width"], surface["y"] + 0.25 * surface["height"])
    changed()
    low, high = (float(page.locator("#z3").get_attribute(end)) for end in ("min", "max"))
    assert page.evaluate("betavae.latents[3]") == pytest.approx(low + 0.25 * (high - low), abs=0.05)
    page.evaluate("betavae.latents[3] = 9")  # beyond what the map shows
    page.locator("[data-surface]").press("Shift+ArrowUp")
    changed()
    assert page.evaluate("betavae.latents[3]") == 9
    page.get_by_role("button", name="image 5").click()
    changed()
    page.get_by_role("button", name="Sample the prior").click()
    changed()
    page.get_by_role("button", name="All zero").click()
    changed()
    assert page.evaluate("betavae.latents.every(latent => latent === 0)")
    zero = seen[-1]
    play = page.get_by_role("button", name="Animate z1")
    play.click()
    changed()
    changed()
    assert play.get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    assert play.get_attribute("aria-pressed") == "false"
    page.get_by_role("button", name="Reset").click()
    assert picture(page) == zero


def test_copy_and_save(show):
    page = show("small")
    page.get_by_role("button", name="All zero").click()
    page.locator("#z2").press("End")
    page.get_by_role("button", name="Copy latents").click()
    page.get_by_text("Copied 4 latents").wait_for()
    high = float(page.locator("#z2").get_attribute("max"))
    assert page.evaluate("navigator.clipboard.readText()") == f"[0.0000, 0.0000, {high:.4f}, 0.0000]"
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save PNG").click()
    assert saved.value.suggested_filename == "a-run.png"
    with Image.open(saved.value.path()) as image:
        assert image.size == (512, 512)


def test_what_is_drawn_or_opened_is_encoded(show, tmp_path):
    page, model = show("small"), vivid(shape=SMALL)
    page.get_by_role("button", name="Clear").click()
    with torch.inference_mode():
        black, white = (model.encode(torch.full((1, *SMALL), shade)).mean[0].tolist() for shade in (0.0, 1.0))
    picture(page)
    assert page.evaluate("Array.from(betavae.latents)") == pytest.approx(black, abs=2e-3)
    canvas = page.locator("[data-original]").bounding_box()
    page.mouse.move(canvas["x"] + 20, canvas["y"] + 20)
    page.mouse.down()
    page.mouse.move(canvas["x"] + 90, canvas["y"] + 60)
    page.mouse.up()
    picture(page)
    assert page.evaluate("Array.from(betavae.latents)") != pytest.approx(black, abs=2e-2)
    Image.new("L", (64, 64), 255).save(tmp_path / "white.png")
    page.locator("[data-file]").set_input_files(tmp_path / "white.png")
    page.get_by_text("Encoded white.png").wait_for()
    picture(page)
    assert page.evaluate("Array.from(betavae.latents)") == pytest.approx(white, abs=2e-2)
    (tmp_path / "words.png").write_text("no picture")
    page.locator("[data-file]").set_input_files(tmp_path / "words.png")
    page.get_by_text("words.png is no picture that this browser can read").wait_for()


COUNT_FRAMES = """() => {
  window.drawn = 0;
  const put = CanvasRenderingContext2D.prototype.putImageData;
  CanvasRenderingContext2D.prototype.putImageData = function (...words) {
    if (this.canvas.matches("[data-decoded]")) window.drawn++;
    return put.apply(this, words);
  };
}"""
MOVE_OFTEN = """() => {
  const slider = document.querySelector("#z3");
  for (let i = 0; i < 50; i++) {
    slider.value = i / 50;
    slider.dispatchEvent(new Event("input"));
  }
}"""


def test_every_frame_of_a_drag_is_drawn_and_only_once(show):
    page = show("small")
    picture(page)
    page.evaluate(COUNT_FRAMES)
    page.locator("#z3").hover()
    slider = page.locator("#z3").bounding_box()
    page.mouse.move(slider["x"] + slider["width"] / 2, slider["y"] + slider["height"] / 2)
    page.mouse.down()
    picture(page)
    before = page.evaluate("drawn")
    for step in range(10):
        page.mouse.move(slider["x"] + slider["width"] * (0.6 + 0.02 * step), slider["y"] + slider["height"] / 2)
        picture(page)
    page.mouse.up()
    assert page.evaluate("drawn") - before == 10
    page.evaluate(MOVE_OFTEN)
    picture(page)
    assert page.evaluate("drawn") - before == 11


OVERLAPS = """() => {
  const parts = [...document.querySelectorAll(
    ".start, .stage, .tools button, .slider label, .track, .slider output, .play, .surface, .axes"
  )].filter(part => part.checkVisibility());
  const boxes = parts.map(part => [part, part.getBoundingClientRect()]);
  const found = [];
  for (const [a, p] of boxes) for (const [b, q] of boxes) {
    if (a === b || a.contains(b) || b.contains(a)) continue;
    const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (across > 1 && down > 1) found.push(`${a.className || a.textContent} / ${b.className || b.textContent}`);
  }
  return found;
}"""


@pytest.mark.parametrize(
    "name", ["ten latents", "64 latents", "one latent", "all inactive", "colours", "evil", "128 pixels"]
)
def test_nothing_overlaps_or_scrolls_sideways(show, name):
    page = show(name, again=False)
    for width, scheme in ((360, "light"), (768, "dark"), (1440, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(OVERLAPS) == []


def test_a_comparison_fits_on_a_phone(browser):
    """The page does not scroll sideways, and the values of the charts are in sight."""
    members = [member(seed, beta, mig=0.3 + seed / 10) for beta in (1.0, 4.0) for seed in (0, 1)]
    page = browser.new_page()
    page.set_viewport_size({"width": 360, "height": 800})
    page.set_content(render_comparison(members, "dsprites", ["posX"], DSPRITES))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    ends = page.evaluate("[...document.querySelectorAll('.dots .number')].map(e => e.getBoundingClientRect().right)")
    assert 0 < max(ends) <= 360
    page.close()


def test_charts_tell_values_and_zoom_by_mouse_and_keyboard(browser):
    page = browser.new_page()
    page.set_content(render_comparison([member(0), member(1)], "dsprites", []))
    chart, readout = page.locator(".chart svg").first, page.locator("[data-readout]").first
    chart.scroll_into_view_if_needed()
    ticks, box = page.locator(".chart").first.locator(".ticks text"), chart.bounding_box()
    whole = ticks.all_inner_texts()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 50)
    assert readout.inner_text().startswith("step 0: b4.0-s0 9")
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 50)
    page.mouse.up()
    assert readout.inner_text().startswith("Zoomed.")
    assert ticks.all_inner_texts() != whole
    chart.dblclick()
    assert ticks.all_inner_texts() == whole
    chart.press("ArrowLeft")
    assert readout.inner_text().startswith("step 1:")
    chart.press("+")
    assert ticks.all_inner_texts() != whole
    chart.press("ArrowRight")  # stays in what is shown
    assert readout.inner_text().startswith("step 1:")
    chart.press("Escape")
    assert ticks.all_inner_texts() == whole
    page.close()


def test_inactive_latents_are_folded_away(show):
    page = show("some inactive")
    assert page.locator("#z1").is_visible()
    assert not page.locator("#z0").is_visible()
    page.get_by_text("2 inactive latents, below 0.05 nats").click()
    assert page.locator("#z0").is_visible()
    page = show("all inactive")
    assert page.get_by_text("All latents are inactive").is_visible()
    assert page.locator("#z0").is_visible()


def test_a_true_image_is_chosen_by_its_factors(show):
    page, gallery = show("factors"), with_factors().explorer.gallery
    page.get_by_role("tab", name="True factors").click()
    page.get_by_label("posX", exact=True).and_(page.locator("#factor0")).press("End")
    page.locator("#factor1").press("End")
    page.get_by_text("True image: posX 1, shape <b>heart").wait_for()
    assert page.evaluate("Array.from(betavae.latents)") == pytest.approx(gallery.latents[5].tolist(), abs=1e-3)
    column = "canvas => canvas.getContext('2d').getImageData(5, 0, 1, 1).data[0]"
    page.wait_for_function(f"() => ({column})(document.querySelector('[data-original]')) === 255")
    page.get_by_role("tab", name="Two latents").click()
    page.select_option("[data-background]", "1")
    page.get_by_text("Each point is a true image, coloured by shape").wait_for()
    assert page.locator("[data-key] li").all_inner_texts() == ["square", "<b>heart"]


def test_a_turned_slider_moves_its_factor_to_the_right_and_says_so(show):
    page = show("factors")
    slider = page.locator("#z0")
    slider.press("End")
    picture(page)
    assert page.evaluate("betavae.latents[0]") == -float(slider.get_attribute("max"))
    assert "−z0" in page.locator("label[for=z0]").inner_text()
    assert "negative of z0" in page.locator("label[for=z0]").get_attribute("title")
    assert page.locator("[data-status]").inner_text().startswith("posX ")


def test_images_between_two_images_links_and_animations(show):
    page = show("factors")
    page.get_by_role("tab", name="Between two images").click()
    page.get_by_label("From the first image to the second").fill("0.5")
    page.get_by_text("50 % of image 1, 50 % of image 2").wait_for()
    seeds = with_factors().explorer.seed_latents
    half = ((seeds[0] + seeds[1]) / 2).tolist()
    assert page.evaluate("Array.from(betavae.latents)") == pytest.approx(half, abs=1e-3)
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Copied a link to these latents").wait_for()
    page.reload()
    assert page.locator("[data-status]").inner_text() == "Latents of the link"
    assert page.evaluate("Array.from(betavae.latents)") == pytest.approx(half, abs=1e-3)
    with page.expect_download() as saved:
        page.get_by_role("button", name="Save GIF").click()
    with Image.open(saved.value.path()) as image:
        assert (image.size, image.n_frames) == ((256, 256), 46)
        image.seek(10)
        shade = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.NEAREST))
    assert shade.max() > shade.min()
    page.evaluate("history.replaceState(null, '', location.pathname)")


def test_it_opens_from_a_read_only_folder(show):
    page = show("small")
    folder = Path(page.evaluate("decodeURIComponent(location.pathname)")).parent
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    page.reload()
    assert page.locator(".explorer.ready").count() == 1
    folder.chmod(stat.S_IRWXU)


def test_a_run_called_script_stays_text(show):
    page = show("evil")
    assert page.title() == f"{EVIL} · betavae"
    assert page.locator("h1").inner_text() == EVIL
    assert page.locator("label[for=z0]").inner_text().count("<script>") == 1


def test_a_model_that_cannot_run_in_the_page_is_said(show):
    page = show("unknown layer")
    assert page.get_by_text("The model cannot run in the page: the page cannot run a layer of type Softplus").count()
    assert page.get_by_text("The figures below show precomputed traversals.").count()
    assert not page.locator("[data-explorer]").count()


@pytest.mark.parametrize("name", ["burgess", "affine", "locatello", "residual", "wide", "128 pixels"])
def test_a_page_has_decoder_and_encoder_and_is_small(name):
    page = render_report(PAGES[name]())
    assert "data-explorer>" in page
    assert "draw on it" in page
    assert len(page) < PAGE_BYTES - 1_000_000  # which is for figures


def test_a_decoder_that_does_not_fit_is_left_out_and_how_to_get_it_is_said():
    report = PAGES["higgins"]()
    page = render_report(report)
    assert (
        "its weights alone are 20.8 MB. To include it, write the page again with betavae report --megabytes 22." in page
    )
    assert len(page) < 1_000_000
    larger = render_report(report, max_bytes=22_000_000)
    assert "data-explorer>" in larger
    assert len(larger) < 22_000_000
