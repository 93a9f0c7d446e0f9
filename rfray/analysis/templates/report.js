// The interactive functions of a report's page. It loads nothing from a network. Without it the page
// has the same contents: numbers link to MLflow, figures are in the text.
"use strict";

const FEWEST_ROWS_TO_FILTER = 6;
const ZOOM_STEP = 1.25;
const MOST_ZOOM = 16;

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// ---- Tables: sorted by a click on a heading, filtered by words -------------------------------

/** The sort key of a cell: a number, a text, or null if the cell is empty. */
function sortValue(cell) {
  if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
  const text = cell.textContent.trim();
  if (text === "" || text.startsWith("—")) return null;
  const number = Number(text.replace("−", "-"));
  return Number.isNaN(number) ? text : number;
}

/** The order of two values; missing values are last in both directions. */
function compared(one, other, direction) {
  if (one === null || other === null) return (one === null) - (other === null);
  if (typeof one === "number" && typeof other === "number") return direction * (one - other);
  return direction * String(one).localeCompare(String(other), "en", { numeric: true });
}

/** Sorts all tables of a section by one column; direction 0 is the report's own order. */
function sortSection(section, column, direction) {
  for (const table of section.querySelectorAll(".cells")) {
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((a, b) => a.dataset.place - b.dataset.place);
    if (direction !== 0) {
      const values = new Map(rows.map(row => [row, sortValue(row.cells[column])]));
      rows.sort((a, b) => compared(values.get(a), values.get(b), direction));
    }
    body.append(...rows);
    [...table.tHead.rows[0].cells].forEach((heading, place) => {
      const sorted = place === column && direction !== 0;
      heading.setAttribute("aria-sort", sorted ? (direction > 0 ? "ascending" : "descending") : "none");
    });
  }
  section.querySelectorAll(".sort select").forEach(choice => {
    choice.value = direction === 0 ? "" : `${column} ${direction}`;
  });
}

function makeSortable(section) {
  for (const table of section.querySelectorAll(".cells")) {
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.place = place; });
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = element("button", { type: "button", textContent: heading.textContent || "Row" });
      heading.replaceChildren(button);
      heading.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const next = { none: 1, ascending: -1, descending: 0 }[heading.getAttribute("aria-sort")];
        sortSection(section, column, next);
      });
    });
  }
}

/** Text for the search: `k = 3` is one word, and so is `K=3`. */
function plain(text) {
  return text.toLowerCase().replace(/\s*=\s*/g, "=");
}

/** Shows the rows that contain every word, in the row or in the heading of its block. */
function filterSection(section, text) {
  const words = plain(text).split(/\s+/).filter(word => word !== "");
  let shown = 0;
  for (const block of section.querySelectorAll(".block")) {
    const heading = block.querySelector("h3, h4")?.textContent ?? "";
    const rows = [...block.querySelectorAll("tbody tr")];
    for (const row of rows) {
      const said = plain(`${heading} ${row.textContent}`);
      row.hidden = !words.every(word => said.includes(word));
    }
    const visible = rows.filter(row => !row.hidden).length;
    block.hidden = visible === 0;
    shown += visible;
  }
  return shown;
}

/** The choice of an order if headings are not shown, as on a phone. */
function orderChoice(section) {
  const choice = element("select", {}, element("option", { value: "", textContent: "report's order" }));
  [...section.querySelector(".cells").tHead.rows[0].cells].forEach((heading, column) => {
    for (const [direction, arrow] of [[1, "↑"], [-1, "↓"]]) {
      const textContent = `${heading.textContent} ${arrow}`;
      choice.append(element("option", { value: `${column} ${direction}`, textContent }));
    }
  });
  choice.addEventListener("change", () => {
    const [column, direction] = choice.value === "" ? [0, 0] : choice.value.split(" ").map(Number);
    sortSection(section, column, direction);
  });
  return element("label", { className: "sort" }, "Sort by ", choice);
}

function addTools(section) {
  const count = section.querySelectorAll(".cells tbody tr").length;
  if (count < FEWEST_ROWS_TO_FILTER) return;
  const told = element("output", {});
  const field = element("input", { type: "search", placeholder: "words, such as resnet50 0.9" });
  field.addEventListener("input", () => {
    const shown = filterSection(section, field.value);
    told.textContent = field.value.trim() === "" ? "" : `${shown} of ${count} rows`;
  });
  const filter = element("label", {}, "Filter ", field);
  const tools = element("div", { className: "tools" }, filter, orderChoice(section), told);
  section.querySelector(".block").before(tools);
}

// ---- Figures: opened by a click, zoomed by wheel, buttons and keys ------------------------------

function dialog(className, title, ...children) {
  const close = element("button", { type: "button", className: "close", textContent: "Close" });
  const heading = element("h2", { textContent: title });
  const made = element("dialog", { className }, element("header", {}, heading, close), ...children);
  made.setAttribute("aria-label", title);
  close.addEventListener("click", () => made.close());
  made.addEventListener("click", event => { if (event.target === made) made.close(); });
  made.addEventListener("close", () => made.remove());
  document.body.append(made);
  made.showModal();
  return made;
}

function openFigure(image) {
  const picture = element("img", { src: image.src, alt: image.alt, draggable: false });
  const view = element("div", { className: "view", tabIndex: 0 }, picture);
  const scale = element("output", {});
  const button = (textContent, title, act) => {
    const made = element("button", { type: "button", textContent, title });
    made.addEventListener("click", act);
    return made;
  };
  let zoom = 1;
  const fit = () => {
    const shape = image.width / image.height;
    return Math.max(50, Math.floor(Math.min(view.clientWidth, view.clientHeight * shape)) - 1);
  };
  const middle = () => {
    const box = view.getBoundingClientRect();
    return [box.left + box.width / 2, box.top + box.height / 2];
  };
  // The point at (x, y) of the window stays there.
  const zoomTo = (wanted, [x, y] = middle()) => {
    const before = picture.getBoundingClientRect();
    zoom = Math.min(MOST_ZOOM, Math.max(1, wanted));
    picture.style.width = `${fit() * zoom}px`;
    const after = picture.getBoundingClientRect();
    const grown = after.width / before.width;
    view.scrollBy(after.left + (x - before.left) * grown - x, after.top + (y - before.top) * grown - y);
    scale.textContent = `${Math.round(100 * zoom)} %`;
  };
  const larger = button("+", "Larger (+)", () => zoomTo(zoom * ZOOM_STEP));
  const smaller = button("−", "Smaller (−)", () => zoomTo(zoom / ZOOM_STEP));
  const whole = button("Whole", "Whole figure (0)", () => zoomTo(1));
  const bar = element("div", { className: "tools" }, smaller, scale, larger, whole);
  const shown = dialog("figure", image.alt, bar, view);
  zoomTo(1);
  view.focus();
  view.addEventListener("wheel", event => {
    event.preventDefault();
    const step = event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP;
    zoomTo(zoom * step, [event.clientX, event.clientY]);
  }, { passive: false });
  view.addEventListener("pointermove", event => {
    // On a touch screen the browser itself scrolls.
    if (event.pointerType === "mouse" && event.buttons === 1) {
      view.scrollBy(-event.movementX, -event.movementY);
    }
  });
  shown.addEventListener("keydown", event => {
    const act = { "+": larger, "=": larger, "-": smaller, 0: whole }[event.key];
    if (act) act.click();
  });
}

function makeZoomable(image) {
  image.tabIndex = 0;
  image.setAttribute("role", "button");
  image.title = "Open in detail";
  image.addEventListener("click", () => openFigure(image));
  image.addEventListener("keydown", event => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    openFigure(image);
  });
}

// ---- Numbers: the runs behind each ---------------------------------------------------------------

/** The runs of the report by id, each with its name and its page in MLflow. */
function readRuns() {
  const { address, studies } = JSON.parse(document.getElementById("runs").textContent);
  const several = studies.length > 1;
  return new Map(studies.flatMap(({ name, experiment, runs }) => Object.entries(runs).map(
    ([id, run]) => [id, {
      name: several ? `${name}: ${run}` : run,
      page: `${address}/#/experiments/${experiment}/runs/${id}`,
    }],
  )));
}

/** A number with its column and cell: `93.25 ± 0.65 (5): Dense (%), vgg19_rf, digits, RF 181 k = 2`. */
function inWords(link) {
  const cell = link.closest("td");
  if (cell === null) return `Runs: ${link.textContent}`;
  const row = cell.parentElement.querySelector("th").innerText.replace(/\s+/g, " ");
  const block = link.closest(".block").querySelector("h4").textContent;
  return `${link.textContent}: ${cell.dataset.title}, ${block}, RF ${row}`;
}

function openRuns(link, ids, known) {
  const list = element("ol", {}, ...ids.map(id => {
    const { name, page } = known.get(id);
    return element("li", {}, element("a", { href: page, textContent: name }), " ",
      element("code", { textContent: id }));
  }));
  const all = element("a", { href: link.href, textContent: "Compare them in MLflow" });
  const comparison = ids.length > 1 ? [element("p", {}, all)] : [];
  const { textContent } = document.getElementById("where-runs-are");
  const hint = element("p", { className: "notes", textContent });
  dialog("runs", inWords(link), list, ...comparison, hint);
}

function onClickOfRuns(known, event) {
  const link = event.target.closest("main a[href*='/#/']");
  const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey || event.button !== 0;
  if (link === null || elsewhere) return;
  const linked = decodeURIComponent(link.href).match(/[0-9a-f]{32}/g) ?? [];
  const ids = [...new Set(linked)].filter(id => known.has(id));
  if (ids.length === 0) return;
  event.preventDefault();
  openRuns(link, ids, known);
}

const blocks = [...document.querySelectorAll(".block")];
for (const section of new Set(blocks.map(block => block.parentElement))) {
  addTools(section);
  makeSortable(section);
}
document.querySelectorAll("figure img").forEach(makeZoomable);
const knownRuns = readRuns();
document.addEventListener("click", event => onClickOfRuns(knownRuns, event));
