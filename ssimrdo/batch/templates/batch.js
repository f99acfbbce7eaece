"use strict";
// Sorts and filters the table of all series; without it the table is in the order of the names.
document.documentElement.classList.add("js");
const table = document.getElementById("all-series");
if (table) {
  const body = table.tBodies[0];
  const heads = Array.from(table.tHead.rows[0].cells);
  const rows = Array.from(body.rows);
  const collator = new Intl.Collator(undefined, { numeric: true });
  const shown = document.getElementById("shown");
  const filter = document.getElementById("filter");
  const troubled = document.getElementById("troubled");

  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const compare = (first, second) => {
    const [one, other] = [Number(first), Number(second)];
    // What has no value comes last, whatever the direction.
    if (first === "" || second === "") return null;
    return Number.isNaN(one) || Number.isNaN(other) ? collator.compare(first, second) : one - other;
  };
  const sort = (column, descending) => {
    rows.sort((a, b) => {
      const [first, second] = [value(a, column), value(b, column)];
      const order = compare(first, second);
      if (order === null) return (first === "") - (second === "");
      return descending ? -order : order;
    });
    body.append(...rows);
    heads.forEach((head, index) => head.setAttribute(
      "aria-sort", index !== column ? "none" : descending ? "descending" : "ascending"));
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const first = head.dataset.first === "descending";
    const now = head.getAttribute("aria-sort");
    sort(column, now === "none" ? first : now === "ascending");
  }));
  const show = () => {
    const wanted = filter.value.trim().toLowerCase();
    let count = 0;
    for (const row of rows) {
      const isWanted = row.cells[0].textContent.toLowerCase().includes(wanted)
        && (!troubled.checked || row.dataset.trouble === "yes");
      row.hidden = !isWanted;
      count += isWanted;
    }
    shown.textContent = `${count} of ${rows.length}`;
  };
  filter.addEventListener("input", show);
  troubled.addEventListener("change", show);
  show();
}
