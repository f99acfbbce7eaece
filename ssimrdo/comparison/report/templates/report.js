"use strict";
// Chooses which of the charts drawn ahead are shown, and runs the slice viewers.
document.documentElement.classList.add("js");

const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

// --- Choosing charts: an element is shown if each choice it depends on has its value. ---

const choices = { series: null, metric: null, point: null };

function matches(element) {
  return Object.entries(choices).every(
    ([name, value]) => value === null || !(name in element.dataset) || element.dataset[name] === value,
  );
}

function showChosen() {
  for (const element of all("[data-choice]")) element.hidden = !matches(element);
  for (const empty of all("[data-empty]")) {
    const siblings = all("[data-choice]", empty.parentElement);
    empty.hidden = siblings.some((element) => !element.hidden);
  }
}

for (const select of all("select[data-chooses]")) {
  const name = select.dataset.chooses;
  choices[name] = select.value;
  select.addEventListener("change", () => {
    choices[name] = select.value;
    for (const other of all(`select[data-chooses="${name}"]`)) other.value = select.value;
    showChosen();
  });
}
showChosen();

// --- Slice viewers. ---

const MAX_ZOOM = 8;

function startViewer(root) {
  const slices = JSON.parse(root.querySelector("script[type='application/json']").textContent).slices;
  const slider = root.querySelector("[data-slider]");
  const zoomer = root.querySelector("[data-zoom]");
  const panes = all(".pane", root);
  // The point of the image in the pane's top left corner, as a share of its sides.
  const view = { zoom: 1, x: 0, y: 0 };

  function showSlice() {
    const slice = slices[Number(slider.value)];
    for (const image of all("img[data-image]", root)) image.src = slice[image.dataset.image];
    for (const text of all("[data-ssim]", root)) text.textContent = "SSIM " + slice.ssim[Number(text.dataset.ssim)];
    root.querySelector("[data-number]").textContent = slice.number;
    slider.setAttribute("aria-valuetext", `slice ${slice.number}`);
  }

  function showView() {
    const room = 1 - 1 / view.zoom;
    view.x = Math.min(Math.max(view.x, 0), room);
    view.y = Math.min(Math.max(view.y, 0), room);
    const scale = view.zoom;
    for (const pane of panes)
      for (const image of pane.children)
        image.style.transform = `scale(${scale}) translate(${-100 * view.x}%, ${-100 * view.y}%)`;
    root.classList.toggle("zoomed", scale > 1);
    zoomer.value = Math.log2(scale);
    root.querySelector("[data-zoom-text]").textContent = `${Number(scale.toFixed(1))}×`;
  }

  // Zooms so that the given point of the pane stays where it is.
  function zoomTo(zoom, x = 0.5, y = 0.5) {
    const next = Math.min(Math.max(zoom, 1), MAX_ZOOM);
    view.x += x / view.zoom - x / next;
    view.y += y / view.zoom - y / next;
    view.zoom = next;
    showView();
  }

  function place(event, pane) {
    const box = pane.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  for (const pane of panes) {
    let last = null;
    pane.addEventListener("pointerdown", (event) => {
      if (view.zoom === 1 || event.button !== 0) return;
      last = place(event, pane);
      pane.setPointerCapture(event.pointerId);
    });
    pane.addEventListener("pointermove", (event) => {
      if (last === null) return;
      const [x, y] = place(event, pane);
      view.x -= (x - last[0]) / view.zoom;
      view.y -= (y - last[1]) / view.zoom;
      last = [x, y];
      showView();
    });
    for (const end of ["pointerup", "pointercancel"]) pane.addEventListener(end, () => { last = null; });
    pane.addEventListener("dblclick", (event) => zoomTo(view.zoom > 1 ? 1 : 4, ...place(event, pane)));
    pane.addEventListener("keydown", (event) => {
      const step = 0.1 / view.zoom;
      const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
      if (event.key === "+" || event.key === "=") zoomTo(view.zoom * 1.5);
      else if (event.key === "-") zoomTo(view.zoom / 1.5);
      else if (event.key in moves && view.zoom > 1) {
        view.x += moves[event.key][0];
        view.y += moves[event.key][1];
        showView();
      } else return;
      event.preventDefault();
    });
  }

  function showLayout() {
    const chosen = root.querySelector("[data-layout]:checked").value;
    root.classList.toggle("single", chosen !== "all");
    for (const box of all(".pane-box", root)) box.classList.toggle("chosen", box.dataset.pane === chosen);
  }

  function showOffsets() {
    const chosen = root.querySelector("[data-offsets]:checked").value;
    for (const part of all("[data-offset-part]", root)) part.hidden = part.dataset.offsetPart !== chosen;
    root.classList.toggle("anatomy", root.querySelector("[data-anatomy]").checked);
  }

  slider.addEventListener("input", showSlice);
  zoomer.addEventListener("input", () => zoomTo(2 ** Number(zoomer.value)));
  for (const radio of all("[data-layout]", root)) radio.addEventListener("change", showLayout);
  for (const input of all("[data-offsets], [data-anatomy]", root)) input.addEventListener("change", showOffsets);
  showSlice();
  showView();
  showLayout();
  showOffsets();
}

const viewers = all(".viewer");
const chooser = document.querySelector("[data-viewer-chooser]");

// A viewer's images are decoded when it is first shown.
function showViewer(index) {
  viewers.forEach((viewer, place) => {
    viewer.hidden = place !== index;
    if (place === index && !viewer.dataset.started) {
      viewer.dataset.started = "yes";
      startViewer(viewer);
    }
  });
}

if (viewers.length > 0) {
  showViewer(0);
  if (chooser) chooser.addEventListener("change", () => showViewer(Number(chooser.value)));
}
