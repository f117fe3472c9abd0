// Blocks of data become elements here. Texts are set as text, so that nothing recorded is markup.

const report = JSON.parse(document.getElementById("report-data").textContent);

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value !== undefined && value !== null && value !== "") made.setAttribute(key, value);
  }
  for (const child of children.flat()) {
    if (child === null || child === undefined) continue;
    made.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return made;
}

function coloured(node, colour) {
  node.style.backgroundColor = colour;
  return node;
}

function drawText(block) {
  return element("p", { class: block.style }, block.text);
}

function drawList(block) {
  return element("ul", {}, block.items.map((item) => element("li", {}, item)));
}

function drawFacts(block) {
  const rows = block.rows.map(([label, value]) => {
    const [first, ...rest] = value.split("\n");
    const command = block.style === "commands";
    const told = element("dd", {}, command ? element("code", {}, first) : first);
    rest.forEach((line) => told.append(element("small", {}, line)));
    return element("div", {}, element("dt", {}, label), told);
  });
  return element("dl", { class: block.style || "facts" }, rows);
}

function drawCell(cell, index, numeric) {
  const plain = typeof cell === "string";
  const made = index === 0 ? element("th", { scope: "row" }) : element("td", {});
  if (numeric[index] === "#") made.classList.add("number");
  if (!plain && cell.colour) {
    made.append(coloured(element("span", { class: "swatch", "aria-hidden": "true" }, cell.letter), cell.colour));
  }
  made.append(document.createTextNode(plain ? cell : cell.text));
  if (!plain && cell.shade !== undefined && cell.shade !== null) {
    const depth = Math.max(0, Math.min(1, cell.shade));
    made.style.backgroundColor = `rgb(var(--shade) / ${(depth * 0.55).toFixed(3)})`;
  }
  return made;
}

function valueOf(cell) {
  if (typeof cell === "string") return cell;
  return cell.value === undefined ? cell.text : cell.value;
}

// What was not measured stays at the end, whichever way the rest is sorted.
function inOrder(rows, index, descending) {
  const known = rows.filter(([row]) => valueOf(row[index]) !== null);
  const unknown = rows.filter(([row]) => valueOf(row[index]) === null);
  known.sort(([one], [other]) => {
    const [left, right] = [valueOf(one[index]), valueOf(other[index])];
    const order = typeof left === "number" && typeof right === "number"
      ? left - right : String(left).localeCompare(String(right), "en");
    return descending ? -order : order;
  });
  return [...known, ...unknown];
}

function makeSortable(head, body, rows, numeric) {
  head.forEach((heading, index) => {
    const button = element("button", { type: "button" }, heading.textContent);
    button.addEventListener("click", () => {
      const sorted = heading.getAttribute("aria-sort");
      const descending = sorted ? sorted === "ascending" : numeric[index] === "#";
      head.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      body.append(...inOrder(rows, index, descending).map(([, drawn]) => drawn));
    });
    heading.replaceChildren(button);
  });
}

function drawTable(block) {
  const head = block.headings.map((heading, index) =>
    element("th", { scope: "col", class: block.numeric[index] === "#" ? "number" : "" }, heading));
  const rows = block.rows.map((row) =>
    [row, element("tr", {}, row.map((cell, index) => drawCell(cell, index, block.numeric)))]);
  const body = element("tbody", {}, rows.map(([, drawn]) => drawn));
  if (block.sortable) makeSortable(head, body, rows, block.numeric);
  const made = element("table", {}, element("caption", {}, block.caption),
    element("thead", {}, element("tr", {}, head)), body);
  return element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": block.caption }, made);
}

function drawCode(block) {
  const lines = block.lines.map((line, index) => {
    const number = block.first === null ? null : block.first + index;
    const meant = number !== null && number === block.marked;
    const margin = number === null ? "" : `${meant ? "→" : " "} ${String(number).padStart(5)}  `;
    const sign = block.diff && !/^(\+\+\+|---)/.test(line) ? { "+": " added", "-": " removed" }[line[0]] || "" : "";
    const made = element("span", { class: `line${meant ? " meant" : ""}${sign}` });
    if (margin) made.append(element("span", { class: "margin" }, margin));
    made.append(document.createTextNode(`${line}\n`));
    return made;
  });
  const shown = element("pre", { tabindex: "0", "aria-label": block.label }, element("code", {}, lines));
  return element("figure", { class: "code" }, element("figcaption", {}, block.label), shown);
}

function drawPage(block) {
  return element("pre", { class: "page", tabindex: "0" }, block.lines.map((line) => `${line}\n`));
}

function drawDetails(block) {
  const made = element("details", {}, element("summary", {}, block.summary));
  made.addEventListener("toggle", () => {
    if (made.childElementCount === 1) made.append(...block.blocks.map(drawBlock));
  });
  return made;
}

function drawGroup(block) {
  const badge = block.badge
    ? element("span", { class: "badge", "data-grade": block.grade }, block.badge) : null;
  const heading = element("h3", {}, badge, badge ? " " : null, block.heading);
  return element("article", { "data-grade": block.grade }, heading, block.blocks.map(drawBlock));
}

function drawVerdict(block) {
  const said = block.headline.toLowerCase().startsWith(block.word.toLowerCase());
  const word = said ? null : element("strong", { class: "word" }, `${block.word}: `);
  return element("p", { class: "verdict", "data-verdict": block.verdict }, word, block.headline);
}

function drawBar(block) {
  const total = block.parts.reduce((sum, part) => sum + part.share, 0) || 1;
  const said = block.parts.map((part) => `${part.label} ${part.text}`).join(", ");
  const bar = element("div", { class: "bar", role: "img", "aria-label": `${block.label}: ${said}` });
  for (const part of block.parts) {
    const width = part.share / total;
    const title = `${part.label}: ${part.text}, ${part.time}`;
    const shown = width > 0.14 ? `${part.label} ${part.text}` : width > 0.02 ? part.letter : "";
    const made = coloured(element("div", { title }, shown), part.colour);
    made.style.flexGrow = String(width);
    bar.append(made);
  }
  if (!block.captioned) return bar;
  return element("figure", {}, element("figcaption", {}, `${block.label}: ${said}`), bar);
}

const drawings = {
  text: drawText, list: drawList, facts: drawFacts, table: drawTable, code: drawCode,
  page: drawPage, details: drawDetails, group: drawGroup, verdict: drawVerdict, bar: drawBar,
};

function drawBlock(block) {
  return drawings[block.kind](block);
}

function drawSection(section) {
  const heading = element("h2", { id: `${section.id}-heading` }, section.title);
  return element("section", { id: section.id, "aria-labelledby": `${section.id}-heading` },
    heading, section.blocks.map(drawBlock));
}
