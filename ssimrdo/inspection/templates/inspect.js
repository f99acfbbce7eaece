"use strict";
// Shows the values of the macroblock that is pointed at.
document.documentElement.classList.add("js");

const data = JSON.parse(document.getElementById("data").textContent);
const probe = document.querySelector(".probe");
const block = probe.querySelector(".block");
const lastRow = Math.ceil(data.rows / 16) - 1;
const lastColumn = Math.ceil(data.columns / 16) - 1;
let row = Math.floor(lastRow / 2);
let column = Math.floor(lastColumn / 2);

function show(nextRow, nextColumn) {
  row = Math.min(Math.max(nextRow, 0), lastRow);
  column = Math.min(Math.max(nextColumn, 0), lastColumn);
  block.style.left = `${(1600 * column) / data.columns}%`;
  block.style.top = `${(1600 * row) / data.rows}%`;
  block.style.width = `${1600 / data.columns}%`;
  block.style.height = `${1600 / data.rows}%`;
  const values = { row, column, state: data.states[row][column] };
  for (const [name, map] of Object.entries(data.maps)) values[name] = map[row][column];
  for (const field of document.querySelectorAll("[data-value]"))
    field.textContent = String(values[field.dataset.value]).replace("-", "\u2212");
}

function point(event) {
  const box = probe.getBoundingClientRect();
  show(
    Math.floor(((event.clientY - box.top) / box.height) * (data.rows / 16)),
    Math.floor(((event.clientX - box.left) / box.width) * (data.columns / 16)),
  );
}

probe.addEventListener("pointermove", point);
probe.addEventListener("pointerdown", point);
probe.addEventListener("keydown", (event) => {
  const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (!(event.key in moves)) return;
  show(row + moves[event.key][0], column + moves[event.key][1]);
  event.preventDefault();
});
show(row, column);
