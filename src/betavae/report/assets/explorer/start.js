// Starts the explorer of the page, after all its parts are defined.
"use strict";

{
  const root = document.querySelector("[data-explorer]");
  try {
    startExplorer(root, JSON.parse(document.querySelector("[data-explorer-data]").textContent));
    root.classList.add("ready");
  } catch (error) {
    root.querySelector("[data-status]").textContent = `The explorer cannot run in this browser: ${error.message}`;
    throw error;
  }
}
