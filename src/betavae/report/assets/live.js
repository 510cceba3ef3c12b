// The page of a training: asks for new records and checkpoints, and draws what the networks make of fixed images.
"use strict";

const ASK_EVERY = 2000; // milliseconds
const STRIP_CELLS = 9, STRIP_END = 2, MOST_STRIPS = 20;

{
  const { image: [channels, height, width], likelihood } = JSON.parse(document.querySelector("[data-live]").textContent);
  const find = (selector) => document.querySelector(selector);
  const images = [...document.querySelectorAll("[data-image]")], rebuilt = [...document.querySelectorAll("[data-rebuilt]")];
  const cell = document.createElement("canvas");
  [cell.width, cell.height] = [width, height];
  let model = 0, step = -1;

  function pixelsOf(image) {
    const context = cell.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    const { data } = context.getImageData(0, 0, width, height);
    return Float32Array.from({ length: width * height * channels }, (_, i) => data[4 * Math.floor(i / channels) + (i % channels)] / 255);
  }

  function draw(canvas, pixels, left = 0) {
    const picture = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) {
        const value = pixels[i * channels + (c % channels)];
        picture.data[4 * i + c] = Math.round(255 * (likelihood === "bernoulli" ? 1 / (1 + Math.exp(-value)) : Math.min(Math.max(value, 0), 1)));
      }
      picture.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(picture, left, 0);
  }

  function showModel(packed) {
    const decode = readNetwork(packed.decoder), encode = readNetwork(packed.encoder);
    const means = images.map((image) => encode(pixelsOf(image)).slice(0, packed.latents));
    means.forEach((values, i) => draw(rebuilt[i], decode(values)));
    const rows = Array.from({ length: Math.min(packed.latents, MOST_STRIPS) }, (_, index) => {
      const row = document.createElement("li"), name = document.createElement("span"), strip = document.createElement("canvas");
      name.textContent = `z${index}`;
      [strip.width, strip.height] = [width * STRIP_CELLS, height];
      strip.setAttribute("role", "img");
      strip.setAttribute("aria-label", `The first image, while z${index} moves`);
      for (let n = 0; n < STRIP_CELLS; n++) {
        const values = means[0].slice();
        values[index] = STRIP_END * ((2 * n) / (STRIP_CELLS - 1) - 1);
        draw(strip, decode(values), n * width);
      }
      row.append(name, strip);
      return row;
    });
    find("[data-strips]").replaceChildren(...rows);
    find("[data-strips]").hidden = false;
    find("[data-waiting]").hidden = true;
  }

  async function ask() {
    let delay = ASK_EVERY;
    try {
      const state = await (await fetch("state.json")).json();
      if (state.done || (state.step && !images.length)) return location.reload();
      find("[data-bar]").value = state.steps ? state.step / state.steps : 0;
      const ended = state.steps && state.step >= state.steps;
      find("[data-progress]").textContent = ended
        ? "Training is finished. Scores and figures are made now, which takes some time."
        : `Step ${state.step.toLocaleString("en")} of ${state.steps.toLocaleString("en")}`;
      if (state.charts.trim() && state.step !== step && !document.querySelector("[data-charts] svg:hover")) {
        step = state.step;
        find("[data-charts]").innerHTML = state.charts;
        for (const figure of document.querySelectorAll("[data-chart]")) makeChart(figure);
      }
      if (state.model > model && images.length) {
        showModel(await (await fetch("model.json")).json());
        model = state.model;
      }
    } catch {
      delay = 2 * ASK_EVERY; // the server is busy, or gone
    }
    return setTimeout(ask, delay);
  }
  ask();
}
