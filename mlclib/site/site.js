// What all pages do: tables scroll in a frame, sort by a click on a column's head, and filter where they are long.
"use strict";

// An element: attributes (functions as listeners), then children, elements or texts.
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes))
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== false && value !== undefined) element.setAttribute(key, value);
  element.append(...children.flat(2).filter(child => child !== undefined && child !== ""));
  return element;
}

// The order of two cells: numbers from the highest, texts after them.
function compare(a, b) {
  const [m, n] = [a, b].map(text => parseFloat(text.replace("−", "-").replace(/[,<]/g, "")));
  if (isNaN(m) && isNaN(n)) return a.localeCompare(b);
  return isNaN(m) ? 1 : isNaN(n) ? -1 : n - m;
}

function sort(table, head) {
  const sign = head.getAttribute("aria-sort") === "descending" ? -1 : 1;
  const text = row => row.cells[head.cellIndex].textContent.trim();
  table.tBodies[0].append(...[...table.tBodies[0].rows].sort((a, b) => sign * compare(text(a), text(b))));
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign > 0 ? "descending" : "ascending");
}

function filter(table, wanted) {
  for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted.toLowerCase());
}

// Let a table with a row of heads be sorted, and a long one be filtered.
function equip(table) {
  const frame = table.parentNode, heads = table.tHead?.rows.length === 1 ? table.tHead.rows[0].cells : [];
  for (const head of heads) {
    if (!head.textContent.trim()) continue;  // the corner of a data frame: a button there would have no name
    head.setAttribute("scope", "col");
    head.replaceChildren(h("button", { type: "button", click: () => sort(table, head) }, ...head.childNodes));
  }
  if (!frame || table.rows.length < 14 || frame.previousElementSibling?.className === "filter") return;
  const search = h("input", { type: "search", input: event => filter(table, event.target.value) });
  frame.before(h("label", { class: "filter" }, "filter ", search));
}

document.querySelectorAll("main table").forEach((table, i) => {
  const frame = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table ${i + 1}` });
  table.replaceWith(frame);
  frame.append(table);
  equip(table);
});
