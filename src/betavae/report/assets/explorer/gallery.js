// The gallery: true images with their factors and latents; and the panel that chooses one by its factors.
"use strict";

const LATENT_STEPS = 1000; // stored latents are multiples of 1/1000; see gallery.py

function readGallery(packed, { width, height, latents }) {
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  const table = new Int16Array(bytes(packed.latents)), factors = new Int16Array(bytes(packed.factors));
  const sheet = new Image();
  sheet.src = packed.sheet;
  const dims = latents.length, names = packed.names;
  return {
    ...packed,
    latent: (n, index) => table[n * dims + index] / LATENT_STEPS,
    latentsOf: (n) => Float64Array.from(table.subarray(n * dims, (n + 1) * dims), (value) => value / LATENT_STEPS),
    level: (n, factor) => packed.levels[factor]?.indexOf(factors[n * names.length + factor]) ?? 0,
    isClass: (factor) => packed.classes[factor],
    async paint(context, n, isWanted) {
      await sheet.decode();
      if (!isWanted()) return;
      const column = n % packed.columns, row = Math.floor(n / packed.columns);
      context.clearRect(0, 0, width, height);
      context.drawImage(sheet, column * width, row * height, width, height, 0, 0, width, height);
    },
  };
}

function makeFactorPanel(explorer, area, gallery) {
  const choices = [...area.querySelectorAll("input")];
  let wanted = 0; // number of the last change: an image that is decoded late is not painted over a newer one

  function show() {
    const number = choices.reduce((n, choice, k) => n * gallery.levels[k].length + Number(choice.value), 0);
    const turn = ++wanted;
    explorer.press(null);
    explorer.beginFrom(gallery.latentsOf(number), (context) => gallery.paint(context, number, () => turn === wanted));
    explorer.say(`True image: ${choices.map((_, k) => `${gallery.names[k]} ${label(k)}`).join(", ")}`, true);
  }
  const label = (k) => gallery.labels[k][Number(choices[k].value)];
  choices.forEach((choice, k) => {
    const output = choice.nextElementSibling;
    const tell = () => {
      output.textContent = label(k);
      choice.setAttribute("aria-valuetext", label(k));
    };
    choice.addEventListener("input", () => {
      tell();
      show();
    });
    tell();
  });
}
