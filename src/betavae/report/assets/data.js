"use strict";
// The viewer of a data set: each slider chooses the value of a factor; the image is cut from one sheet of all images.
(() => {
  const page = JSON.parse(document.querySelector("[data-page]").textContent);
  const sheet = document.querySelector("[data-sheet]");
  const canvas = document.querySelector("[data-image]");
  const note = document.querySelector("[data-row]");
  const inputs = [...document.querySelectorAll(".slider input")];
  const context = canvas.getContext("2d");

  function show() {
    // Row-major: the last slider changes fastest.
    const place = inputs.reduce((sum, input, k) => sum * page.sizes[k] + Number(input.value), 0);
    for (const input of inputs) {
      const text = JSON.parse(input.dataset.values)[Number(input.value)];
      input.closest(".slider").querySelector("output").textContent = text;
      input.setAttribute("aria-valuetext", text);
    }
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (page.rows[place] < 0) {
      note.textContent = "no image has these values";
      return;
    }
    const x = (place % page.columns) * canvas.width;
    const y = Math.floor(place / page.columns) * canvas.height;
    context.drawImage(sheet, x, y, canvas.width, canvas.height, 0, 0, canvas.width, canvas.height);
    note.textContent = `image ${page.rows[place].toLocaleString("en")}`;
  }

  let timer = 0;
  function stop() {
    clearInterval(timer);
    for (const button of document.querySelectorAll(".play")) button.setAttribute("aria-pressed", "false");
  }
  for (const input of inputs) {
    input.addEventListener("input", () => { stop(); show(); });
    const button = input.closest(".slider").querySelector(".play");
    button.addEventListener("click", () => {
      const starts = button.getAttribute("aria-pressed") === "false";
      stop();
      if (!starts) return;
      button.setAttribute("aria-pressed", "true");
      timer = setInterval(() => {
        input.value = (Number(input.value) + 1) % (Number(input.max) + 1);
        show();
      }, 250);
    });
  }
  sheet.decode().then(() => {
    show();
    document.querySelector("[data-viewer]").classList.add("ready");
  });
})();
