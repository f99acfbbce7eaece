"use strict";
// Chooses which of the charts drawn ahead are shown, and runs the slice viewers.
document.documentElement.classList.add("js");

const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

// --- Choosing charts: an element is shown if each choice it depends on has its value. ---

const choices = { series: null, metric: null, point: null, view: null, slices: null };

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

for (const button of all("[data-shows]"))
  button.addEventListener("click", () => {
    const isShown = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", isShown);
    for (const element of all(`[data-encoder="${button.dataset.shows}"]`))
      element.toggleAttribute("hidden", !isShown);
  });

// --- Slice viewers. ---

const MAX_ZOOM = 16;
const number = (value, digits = 0) => {
  const text = value.toFixed(digits).replace(/^-(?=[0.]*$)/, "");
  return text.replace("-", "\u2212");
};
const signed = (value, digits = 0) => (Number(value.toFixed(digits)) > 0 ? "+" : "") + number(value, digits);

// Returns the red, green, blue and alpha of all samples of an image.
async function samplesOf(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Returns what gives a value its colour on a scale: a place in the samples of its bar.
function colourOf(value, [low, high], bar) {
  return 4 * clamp(Math.floor(((value - low) / (high - low)) * bar.width), 0, bar.width - 1);
}

function startViewer(root) {
  const data = JSON.parse(root.querySelector("script[type='application/json']").textContent);
  const [gridRows, gridColumns] = data.grid;
  const find = (selector) => root.querySelector(selector);
  const slider = find("[data-slider]");
  const zoomer = find("[data-zoom]");
  const panes = all(".pane", root);
  const bars = {};
  for (const [key, part] of [["error", "maps"], ["offset", "blocks"], ["qp", "blocks"]])
    bars[key] = samplesOf(find(`[data-${part}-part="${key}"] .colourbar img`).src);
  const samples = new Map();
  const byPlace = data.slices.map((_, index) => index);
  const byWorst = [...byPlace].sort((one, other) => data.slices[one].worst - data.slices[other].worst);
  let order = byPlace;
  let slice = data.slices[0];
  // The point of the image in the pane's top left corner, as a share of its sides.
  const view = { zoom: 1, x: 0, y: 0 };
  const cursor = { x: null, y: null };

  const checked = (name) => find(`[data-${name}]:checked`).value;
  const encodeOf = (key) => slice.encodes[key === "ours" ? checked("mode") : key];
  const hu = (level) => (data.hu.length ? data.hu[level] : level);

  async function pixels(uri) {
    if (!samples.has(uri)) {
      if (samples.size > 12) samples.clear();
      samples.set(uri, samplesOf(uri));
    }
    return samples.get(uri);
  }

  // --- What is shown of a slice. ---

  function showSlice() {
    slice = data.slices[order[Number(slider.value)]];
    const mode = checked("mode");
    const uris = {
      source: slice.source,
      reference: slice.encodes.reference.image,
      ours: slice.encodes[mode].image,
      "map-reference": slice.encodes.reference.map,
      "map-ours": slice.encodes[mode].map,
    };
    for (const image of all("img[data-image]", root)) image.src = uris[image.dataset.image];
    for (const text of all("[data-ssim]", root)) text.textContent = `SSIM ${encodeOf(text.dataset.ssim).ssim}`;
    find('[data-label="reference"]').textContent = data.labels.reference;
    find('[data-label="ours"]').textContent = data.labels[mode];
    find("[data-compared]").textContent = `${data.labels[mode]}, relative to ${data.labels.reference}: ${data.compared[mode]}.`;
    find("[data-number]").textContent = slice.number;
    find("[data-place]").textContent = `${Number(slider.value) + 1} of ${order.length}`;
    slider.setAttribute("aria-valuetext", `slice ${slice.number}`);
    showMaps();
    showReadout();
  }

  async function showErrors(canvas, key) {
    const shown = slice;
    const [bar, source, decoded] = await Promise.all([bars.error, pixels(slice.source), pixels(encodeOf(key).image)]);
    if (shown !== slice) return;
    canvas.width = source.width;
    canvas.height = source.height;
    const context = canvas.getContext("2d");
    const map = context.createImageData(source.width, source.height);
    for (let at = 0; at < map.data.length; at += 4) {
      const from = colourOf(hu(decoded.data[at]) - hu(source.data[at]), data.ends.error, bar);
      for (let part = 0; part < 4; part += 1) map.data[at + part] = bar.data[from + part];
    }
    context.putImageData(map, 0, 0);
    canvas.dataset.drawn = `${shown.number}`;
  }

  // Returns the values of the chosen map of macroblocks, which of them say nothing, and its scale.
  function blocks() {
    const chosen = find("[data-blocks]").value;
    const ours = encodeOf("ours");
    const isSet = (mask, at) => mask !== null && mask[at] === "1";
    if (chosen === "offset")
      return { key: "offset", values: slice.offset, isEmpty: (at) => isSet(slice.clipped, at) || isSet(ours.skipped, at) };
    const encode = chosen === "qp-ours" ? ours : slice.encodes.reference;
    return { key: "qp", values: encode.qp, isEmpty: (at) => isSet(encode.skipped, at) };
  }

  async function showBlocks() {
    const { key, values, isEmpty } = blocks();
    const shown = slice;
    const bar = await bars[key];
    if (shown !== slice) return;
    const canvas = find('[data-canvas="blocks"]');
    const side = 16;
    canvas.width = side * gridColumns;
    canvas.height = side * gridRows;
    // The last row and column of macroblocks may reach over the slice.
    const pane = canvas.closest(".pane").style.aspectRatio.split("/").map(Number);
    canvas.style.width = `${(100 * canvas.width) / pane[0]}%`;
    canvas.style.height = `${(100 * canvas.height) / pane[1]}%`;
    const context = canvas.getContext("2d");
    for (let at = 0; at < gridRows * gridColumns; at += 1) {
      const [x, y] = [side * (at % gridColumns), side * Math.floor(at / gridColumns)];
      if (values === null || isEmpty(at)) {
        context.strokeStyle = "rgb(150 150 150)";
        context.lineWidth = 1.2;
        context.beginPath();
        for (const shift of [4, 12, 20, 28]) {
          context.moveTo(x + Math.max(shift - side, 0), y + Math.min(shift, side));
          context.lineTo(x + Math.min(shift, side), y + Math.max(shift - side, 0));
        }
        context.stroke();
      } else {
        const from = colourOf(values[at], data.ends[key], bar);
        context.fillStyle = `rgb(${bar.data[from]} ${bar.data[from + 1]} ${bar.data[from + 2]})`;
        context.fillRect(x, y, side, side);
      }
    }
    canvas.dataset.drawn = `${find("[data-blocks]").value} ${shown.number}`;
  }

  function showMaps() {
    const isError = checked("maps") === "error";
    for (const part of all("[data-maps-part]", root)) part.hidden = part.dataset.mapsPart !== checked("maps");
    const select = find("[data-blocks]");
    for (const part of all("[data-blocks-part]", root)) part.hidden = part.dataset.blocksPart !== blocks().key;
    find("[data-blocks-title]").textContent = select.selectedOptions[0].textContent;
    showBlocks();
    if (isError) for (const key of ["reference", "ours"]) showErrors(find(`[data-canvas="error-${key}"]`), key);
  }

  // --- What is under the pointer. ---

  async function showReadout() {
    for (const mark of all(".cursor", root)) mark.remove();
    if (cursor.x === null) return;
    const shown = slice;
    const images = await Promise.all([slice.source, encodeOf("reference").image, encodeOf("ours").image].map(pixels));
    if (shown !== slice || cursor.x === null) return;
    const { width, height } = images[0];
    const column = clamp(Math.floor(cursor.x * width), 0, width - 1);
    const row = clamp(Math.floor(cursor.y * height), 0, height - 1);
    const [source, ...decoded] = images.map((image) => image.data[4 * (row * width + column)]);
    const ends = data.hu[255] > data.hu[0] ? ["≤ ", "≥ "] : ["≥ ", "≤ "];
    const edge = source === 0 ? ends[0] : source === 255 ? ends[1] : "";
    const block = Math.floor(row / 16) * gridColumns + Math.floor(column / 16);
    const parts = [
      `Row ${row}, column ${column}`,
      `source ${data.hu.length ? edge : ""}${number(hu(source))}\u00a0${data.unit}`,
      "errors: " +
        ["reference", "ours"]
          .map((key, at) => `${key} ${signed(hu(decoded[at]) - hu(source))}\u00a0${data.unit}`)
          .join(", "),
      `ΔQP ${signed(slice.offset[block], 1)}`,
    ];
    for (const key of ["reference", "ours"]) {
      const { qp, skipped } = encodeOf(key);
      if (qp !== null) parts.push(`QP of ${key} ${qp[block]}${skipped !== null && skipped[block] === "1" ? ", skipped" : ""}`);
    }
    find("[data-readout]").textContent = parts.join(" · ");
    for (const pane of panes) {
      const mark = document.createElement("i");
      mark.className = "cursor";
      mark.style.left = `${100 * (cursor.x - view.x) * view.zoom}%`;
      mark.style.top = `${100 * (cursor.y - view.y) * view.zoom}%`;
      pane.append(mark);
    }
  }

  function pointAt(x, y) {
    cursor.x = clamp(view.x + x / view.zoom, 0, 0.9999);
    cursor.y = clamp(view.y + y / view.zoom, 0, 0.9999);
    showReadout();
  }

  // --- Zoom and movement. ---

  function showView() {
    const room = 1 - 1 / view.zoom;
    view.x = clamp(view.x, 0, room);
    view.y = clamp(view.y, 0, room);
    for (const layer of all(".layer", root))
      layer.style.transform = `scale(${view.zoom}) translate(${-100 * view.x}%, ${-100 * view.y}%)`;
    root.classList.toggle("zoomed", view.zoom > 1);
    zoomer.value = Math.log2(view.zoom);
    find("[data-zoom-text]").textContent = `${Number(view.zoom.toFixed(1))}×`;
    showReadout();
  }

  // Zooms so that the given point of the pane stays where it is.
  function zoomTo(zoom, x = 0.5, y = 0.5) {
    const next = clamp(zoom, 1, MAX_ZOOM);
    view.x += x / view.zoom - x / next;
    view.y += y / view.zoom - y / next;
    view.zoom = next;
    showView();
  }

  function step(by) {
    const before = slider.value;
    slider.value = Number(slider.value) + by;
    if (slider.value === before) return false;
    showSlice();
    return true;
  }

  function place(event, pane) {
    const box = pane.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  const wipe = find(".wipe");
  const wipeTo = (share) => {
    wipe.dataset.edge = clamp(share, 0, 1);
    wipe.style.setProperty("--edge", `${100 * wipe.dataset.edge}%`);
  };
  wipeTo(0.5);

  for (const pane of panes) {
    const pointers = new Map();
    // The wheel scrolls the page until the pointer has been moved here on purpose.
    let isMeant = false;
    pane.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      pointers.set(event.pointerId, place(event, pane));
      if (view.zoom > 1 || pointers.size > 1) pane.setPointerCapture(event.pointerId);
      isMeant = true;
    });
    pane.addEventListener("pointermove", (event) => {
      const [x, y] = place(event, pane);
      if (event.movementX || event.movementY) isMeant = true;
      if (pane === wipe && pointers.size < 2) wipeTo(x);
      const last = pointers.get(event.pointerId);
      if (last !== undefined && pointers.size === 1 && view.zoom > 1) {
        view.x -= (x - last[0]) / view.zoom;
        view.y -= (y - last[1]) / view.zoom;
        showView();
      } else if (last !== undefined && pointers.size === 2) {
        const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
        const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
        if (apart(last) > 0.01) zoomTo((view.zoom * apart([x, y])) / apart(last), (x + other[0]) / 2, (y + other[1]) / 2);
      }
      if (last !== undefined) pointers.set(event.pointerId, [x, y]);
      pointAt(x, y);
    });
    for (const end of ["pointerup", "pointercancel"])
      pane.addEventListener(end, (event) => pointers.delete(event.pointerId));
    pane.addEventListener("pointerleave", () => {
      isMeant = false;
      if (pointers.size > 0) return;
      cursor.x = null;
      showReadout();
    });
    pane.addEventListener("dblclick", (event) => zoomTo(view.zoom > 1 ? 1 : 4, ...place(event, pane)));
    pane.addEventListener(
      "wheel",
      (event) => {
        if (event.ctrlKey) zoomTo(view.zoom * 2 ** (-event.deltaY / 200), ...place(event, pane));
        else if (!isMeant || !step(Math.sign(event.deltaY))) return;
        event.preventDefault();
      },
      { passive: false },
    );
    pane.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const by = 0.1 / view.zoom;
      const moves = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
      if (event.key === "+" || event.key === "=") zoomTo(view.zoom * 1.5);
      else if (event.key === "-") zoomTo(view.zoom / 1.5);
      else if ((event.key === "[" || event.key === "]") && pane === wipe)
        wipeTo(Number(wipe.dataset.edge) + (event.key === "[" ? -0.05 : 0.05));
      else if (event.key in moves) {
        const [x, y] = moves[event.key];
        if (view.zoom > 1) {
          view.x += x;
          view.y += y;
          showView();
        } else pointAt((cursor.x ?? 0.5) + x / 10, (cursor.y ?? 0.5) + y / 10);
      } else return;
      event.preventDefault();
    });
  }

  // --- Controls and keys. ---

  function showLayout() {
    const chosen = checked("layout");
    root.classList.toggle("single", chosen !== "all");
    for (const box of all(".pane-box", root)) box.classList.toggle("chosen", box.dataset.pane === chosen);
    showView();
  }

  function choose(name, value) {
    const input = all(`[data-${name}]`, root).find((one) => one.value === value);
    if (!input) return;
    input.checked = true;
    input.dispatchEvent(new Event("change"));
  }

  const KEYS = {
    a: () => choose("layout", "all"),
    w: () => choose("layout", "wipe"),
    s: () => choose("layout", "source"),
    r: () => choose("layout", "reference"),
    o: () => choose("layout", "ours"),
    f: () => choose("layout", checked("layout") === "reference" ? "ours" : "reference"),
    e: () => choose("mode", checked("mode") === "ours" ? "matched" : "ours"),
    PageDown: () => step(1),
    PageUp: () => step(-1),
  };
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("select")) return;
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!act) return;
    const pane = event.target.closest(".pane-box");
    act();
    event.preventDefault();
    // What had the keys may be hidden now.
    if (pane && !pane.offsetParent) (find(".pane-box.chosen .pane") ?? panes[0]).focus();
  });

  find("[data-order]").addEventListener("change", (event) => {
    const shown = order[Number(slider.value)];
    order = event.target.value === "worst" ? byWorst : byPlace;
    slider.value = event.target.value === "worst" ? 0 : order.indexOf(shown);
    showSlice();
  });
  slider.addEventListener("input", showSlice);
  zoomer.addEventListener("input", () => zoomTo(2 ** Number(zoomer.value)));
  for (const radio of all("[data-layout]", root)) radio.addEventListener("change", showLayout);
  for (const radio of all("[data-mode]", root)) radio.addEventListener("change", showSlice);
  for (const input of all("[data-maps], [data-blocks]", root)) input.addEventListener("change", showMaps);
  slider.value = byPlace.indexOf(byWorst[0]);
  showSlice();
  showLayout();
}

const viewers = all(".viewer");
const chooser = document.querySelector("[data-viewer-chooser]");

// A viewer's images are decoded when it is first shown.
function showViewer(index) {
  viewers.forEach((viewer, at) => {
    viewer.hidden = at !== index;
    if (at === index && !viewer.dataset.started) {
      viewer.dataset.started = "yes";
      startViewer(viewer);
    }
  });
}

if (viewers.length > 0) {
  showViewer(0);
  if (chooser) chooser.addEventListener("change", () => showViewer(Number(chooser.value)));
}
