// Two images side by side, and the images between them.
"use strict";

const BETWEEN = 9; // images in the row, the two ends included

function makeBlend(explorer, area) {
  const { data, latents, width, height, say, stop, change, decode, draw } = explorer;
  const [first, second] = area.querySelectorAll("select"), slider = area.querySelector("input");
  const ends = [...area.querySelectorAll("[data-end]")], row = area.querySelector("[data-row]");
  const cell = document.createElement("canvas");
  [cell.width, cell.height] = [width, height];

  const values = (choice) => data.seeds[Number(choice.value)];
  const between = (share) => Float64Array.from(latents, (_, i) => (1 - share) * values(first)[i] + share * values(second)[i]);

  function drawRow() {
    const context = row.getContext("2d");
    [first, second].forEach((choice, i) => draw(ends[i], decode(values(choice))));
    for (let n = 0; n < BETWEEN; n++) {
      draw(cell, decode(between(n / (BETWEEN - 1))));
      context.drawImage(cell, n * width, 0);
    }
  }
  function show() {
    stop();
    latents.set(between(Number(slider.value)));
    const percent = Math.round(100 * slider.value);
    slider.setAttribute("aria-valuetext", `${percent} %`);
    say(`${100 - percent} % of ${first.selectedOptions[0].text}, ${percent} % of ${second.selectedOptions[0].text}`, true);
    change();
  }
  slider.addEventListener("input", show);
  for (const choice of [first, second]) {
    choice.addEventListener("change", () => {
      drawRow();
      show();
    });
  }
  drawRow();
}
