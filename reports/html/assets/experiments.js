// Experiments, drawn by plotly: one band for each, its interval above and its pairs below as dots.

const BAND = 84;
const BLUE = "#3d8bfd";
const LANES = [0.04, 0.4];

// Names lie above their bands and not beside them: a phone is too narrow for both.
function labelsOf(block, width) {
  const room = Math.max(16, Math.floor(width / 6.3));
  return block.marks.map((mark, index) => ({
    text: asPlain(mark.label.length > room ? `${mark.label.slice(0, room - 1)}…` : mark.label),
    x: 0, xref: "paper", xanchor: "left", y: index - 0.36, yref: "y", showarrow: false, xshift: 2,
    bgcolor: colourOf("--card"),
  }));
}

// Pairs lie below each other in the order in which they were measured.
function dotsOf(block, counting) {
  const dots = [];
  block.marks.forEach((mark, index) => mark.pairs.forEach((pair, place) => {
    if (pair.counts !== counting || pair.ratio === null) return;
    const lane = LANES[0] + (LANES[1] - LANES[0]) * place / Math.max(mark.pairs.length - 1, 1);
    dots.push({ x: pair.ratio, y: index + lane, text: asPlain(pair.text) });
  }));
  return dots;
}

function scatter(name, dots, marker) {
  return { type: "scatter", mode: "markers", name, marker, x: dots.map((one) => one.x),
    y: dots.map((one) => one.y), text: dots.map((one) => one.text),
    hovertemplate: "%{text}<extra></extra>", visible: dots.length ? true : false };
}

function intervalsOf(block) {
  const known = block.marks.map((mark, index) => ({ ...mark, y: index - 0.12 }));
  const measured = known.filter((mark) => mark.low !== null && mark.high !== null && mark.speedup !== null);
  const trace = scatter("ratio with its interval", measured.map((mark) => ({ x: mark.speedup, y: mark.y, text: asPlain(mark.label) })),
    { size: 10, color: BLUE, symbol: "diamond" });
  trace.error_x = { type: "data", symmetric: false, array: measured.map((mark) => mark.high - mark.speedup),
    arrayminus: measured.map((mark) => mark.speedup - mark.low), thickness: 2, width: 5, color: BLUE };
  const deciding = known.filter((mark) => mark.deciding_low !== null).map((mark) =>
    ({ x: mark.deciding_low, y: mark.y, text: asPlain(`decided by ${mark.deciding_text}, which must be above 1`) }));
  const ends = known.flatMap((mark) => (mark.predicted || []).map((x) =>
    ({ x, y: mark.y, text: asPlain(`predicted ${mark.predicted_text}`) })));
  return [trace,
    scatter("end that decides", deciding, { size: 16, symbol: "line-ns-open", color: colourOf("--text"), line: { width: 2 } }),
    scatter("predicted", ends, { size: 9, symbol: "square-open", color: colourOf("--text") })];
}

function limitsOf(block, count) {
  const line = (x, dash) => ({ type: "line", x0: x, x1: x, yref: "y", y0: -0.5, y1: count - 0.5,
    line: { color: colourOf("--text"), width: 1, dash } });
  return [line(1, "dot"), ...(block.threshold ? [line(block.threshold, "dash")] : [])];
}

// An interval of two pairs may reach from 0 to millions: what was measured keeps the picture.
function reachOf(block) {
  const points = block.marks.flatMap((mark) => [mark.speedup, ...(mark.predicted || []), ...mark.pairs.map((pair) => pair.ratio)]);
  const known = [1, block.threshold, ...points].filter((x) => x !== null);
  const from = Math.min(...known), to = Math.max(...known), room = Math.max(to - from, 0.1);
  const ends = block.marks.flatMap((mark) => [mark.low, mark.high, mark.deciding_low]).filter((x) => x !== null);
  const margin = 0.04 * room;
  return [Math.max(Math.min(from, ...ends), from - room / 2) - margin, Math.min(Math.max(to, ...ends), to + room / 2) + margin];
}

function drawIntervals(block) {
  const count = block.marks.length;
  return figureOf(block, (plot) => {
    const layout = layoutOf({ ...block, unit: "", x_unit: "", stacked: true }, 130 + BAND * count);
    Object.assign(layout, { hovermode: "closest", dragmode: false, shapes: limitsOf(block, count),
      annotations: labelsOf(block, plot.clientWidth - 24) });
    Object.assign(layout.margin, { l: 12, r: 12, t: 8, b: 90 });
    Object.assign(layout.xaxis, { title: { text: "times faster" }, range: reachOf(block), zeroline: false });
    layout.yaxis = { ...layout.yaxis, range: [count - 0.5, -0.5], fixedrange: true, showticklabels: false,
      zeroline: false, tickvals: block.marks.map((_, index) => index + 0.5), title: undefined, rangemode: "normal" };
    layout.legend = { orientation: "h", y: -70 / (BAND * count), yanchor: "top", itemclick: false, itemdoubleclick: false };
    Plotly.newPlot(plot, [...intervalsOf(block),
      scatter("a pair", dotsOf(block, true), { size: 7, color: "rgba(61,139,253,0.35)", line: { color: BLUE, width: 1 } }),
      scatter("a pair left out", dotsOf(block, false), { size: 8, symbol: "x-thin-open", color: colourOf("--text"), line: { width: 2 } })],
    layout, settings);
    experiments.push(plot);
  });
}

// What plotly drew in the colour of the text follows it; grid and axes do so with all charts.
const experiments = [];
function recolourExperiments() {
  const text = colourOf("--text"), card = colourOf("--card");
  for (const plot of experiments) {
    const changes = {};
    plot.layout.shapes.forEach((_, index) => { changes[`shapes[${index}].line.color`] = text; });
    plot.layout.annotations.forEach((_, index) => { changes[`annotations[${index}].bgcolor`] = card; });
    Plotly.restyle(plot, { "marker.color": text }, [1, 2, 4]);
    Plotly.relayout(plot, changes);
  }
}

darkness.addEventListener("change", recolourExperiments);
window.addEventListener("beforeprint", recolourExperiments);
window.addEventListener("afterprint", recolourExperiments);

drawings.intervals = drawIntervals;
