// Charts over time, drawn by plotly. Their texts were made by the
// command that wrote the page, so that a number reads the same everywhere.

const darkness = window.matchMedia("(prefers-color-scheme: dark)");
const overTime = [];
const later = [];

const ON_PAPER = { "--text": "#000", "--line": "#bbb", "--card": "#fff" };
let printing = false;

// Styles for print are not in force yet when a browser is about to print, so they are named here.
function colourOf(name) {
  if (printing) return ON_PAPER[name];
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// plotly takes some markup in its texts; escaped it is shown as it is.
function asPlain(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function themed() {
  const text = colourOf("--text"), grid = colourOf("--line");
  return {
    "font.color": text, "xaxis.gridcolor": grid, "yaxis.gridcolor": grid,
    "xaxis.linecolor": grid, "yaxis.linecolor": grid, "xaxis.zerolinecolor": grid,
    "yaxis.zerolinecolor": grid, "hoverlabel.bgcolor": colourOf("--card"),
    "hoverlabel.font.color": text, "hoverlabel.bordercolor": grid,
  };
}

function nested(flat) {
  const made = {};
  for (const [path, value] of Object.entries(flat)) {
    const keys = path.split(".");
    const last = keys.pop();
    keys.reduce((inside, key) => (inside[key] ??= {}), made)[last] = value;
  }
  return made;
}

function layoutOf(block, height) {
  const layout = nested(themed());
  Object.assign(layout, {
    height, margin: { l: 64, r: 12, t: 8, b: 40 }, paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)", hovermode: "x unified", dragmode: "zoom",
    showlegend: block.stacked, legend: { orientation: "h", y: -0.22, traceorder: "normal" },
  });
  layout.font.family = "system-ui, sans-serif";
  layout.xaxis.title = { text: `${block.x_unit} since the training process started` };
  layout.yaxis.title = { text: asPlain(block.unit) };
  layout.yaxis.rangemode = "tozero";
  if (block.x_range) layout.xaxis.range = [...block.x_range];
  if (block.stacked) layout.yaxis.range = [0, 100];
  if (block.id === "chart-loss") layout.yaxis.rangemode = "normal";
  return layout;
}

function tracesOf(block) {
  const traces = [];
  for (const line of block.lines) {
    const hovered = { text: line.texts.map(asPlain), hovertemplate: `%{text}<extra>${asPlain(line.name)}</extra>` };
    const common = { x: block.x, type: "scatter", mode: "lines", name: asPlain(line.name) };
    if (block.stacked) {
      traces.push({ ...common, ...hovered, y: line.mean, stackgroup: "phases", fillcolor: line.colour,
        line: { width: 0.5, color: line.colour, shape: "hv" } });
      continue;
    }
    if (block.ranged) {
      const grey = { color: "rgba(128,128,128,0.55)", width: 0.5 };
      traces.push({ ...common, y: line.low, line: grey, hoverinfo: "skip" });
      traces.push({ ...common, y: line.high, line: grey, fill: "tonexty", fillcolor: "rgba(128,128,128,0.3)", hoverinfo: "skip" });
    }
    const mode = block.x.length < 40 ? "lines+markers" : "lines";
    traces.push({ ...common, ...hovered, mode, y: line.mean, line: { color: "#3d8bfd", width: 1.5 } });
  }
  return traces;
}

const settings = { displaylogo: false, displayModeBar: false, doubleClick: "reset", responsive: true };

function figureOf(block, drawn) {
  const plot = element("div", { class: "plot", id: block.id, tabindex: "0", role: "img", "aria-label": block.caption });
  const figure = element("figure", { class: "chart" }, element("h3", {}, block.title), plot,
    element("figcaption", {}, block.caption));
  later.push(() => drawn(plot));
  return figure;
}

function drawChart(block) {
  const figure = figureOf(block, (plot) => {
    const height = block.stacked ? 330 : block.id === "chart-step-time" ? 260 : 180;
    Plotly.newPlot(plot, tracesOf(block), layoutOf(block, height), settings);
    overTime.push(plot);
    plot.on("plotly_relayout", (change) => follow(plot, change));
    plot.addEventListener("keydown", (event) => moveByKey(plot, block, event));
  });
  figure.append(numbersOf(block));
  return figure;
}

function numbersOf(block) {
  const rows = () => block.x_texts.map((at, index) => [at, ...block.lines.map((line) => line.texts[index])]);
  const made = element("details", { class: "numbers" }, element("summary", {}, "The numbers as a table"));
  made.addEventListener("toggle", () => {
    if (made.childElementCount > 1) return;
    const headings = ["time", ...block.lines.map((line) => line.name)];
    made.append(drawTable({ caption: block.caption, headings, rows: rows(), numeric: " ".padEnd(headings.length, "#") }));
  });
  return made;
}

// All charts over time show the same seconds.
let following = false;
function follow(source, change) {
  const from = change["xaxis.range[0]"] ?? change["xaxis.range"]?.[0];
  const to = change["xaxis.range[1]"] ?? change["xaxis.range"]?.[1];
  if (following || from === undefined) return;
  following = true;
  const changes = [];
  for (const plot of overTime) {
    if (plot !== source) changes.push(Plotly.relayout(plot, { "xaxis.range": [from, to] }));
  }
  Promise.all(changes).finally(() => { following = false; });
}

function moveByKey(plot, block, event) {
  const [from, to] = plot.layout.xaxis.range;
  const width = to - from;
  const moves = {
    "+": [from + width / 4, to - width / 4], "=": [from + width / 4, to - width / 4],
    "-": [from - width / 2, to + width / 2],
    ArrowLeft: [from - width / 4, to - width / 4], ArrowRight: [from + width / 4, to + width / 4],
  };
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "0") Plotly.relayout(plot, { "xaxis.range": block.x_range });
  else if (moves[event.key]) Plotly.relayout(plot, { "xaxis.range": moves[event.key] });
  else return;
  event.preventDefault();
}

function recolour(event) {
  printing = event.type === "beforeprint";
  for (const plot of document.querySelectorAll(".plot")) Plotly.relayout(plot, themed());
}

darkness.addEventListener("change", recolour);
window.addEventListener("beforeprint", recolour);
window.addEventListener("afterprint", recolour);

drawings.chart = drawChart;
