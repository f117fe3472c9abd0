// The flame graph: buttons, so that the keyboard reaches each and a screen reader says what it is.

const ROW = 22;
const LEAST_WIDTH = 0.0015;

function drawFlame(block) {
  const graph = element("div", { class: "flame", role: "group", "aria-label": block.label });
  const where = element("p", { class: "note", "aria-live": "polite" }, "All phases");
  const total = block.phases.reduce((sum, phase) => sum + phase.tree[1], 0);
  const paint = (phases, all, focus) => paintFlame(block, graph, where, phases, all, focus, paint);
  graph.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    paint(block.phases, total, null);
    graph.querySelector("button").focus();
  });
  paint(block.phases, total, null);
  return element("figure", { class: "chart" }, graph, where);
}

function paintFlame(block, graph, where, phases, all, focus, paint) {
  graph.replaceChildren();
  let deepest = 0;
  const total = block.phases.reduce((sum, phase) => sum + phase.tree[1], 0);
  const put = (node, left, depth, phase) => {
    const [place, time, text, below] = node;
    const width = time / all;
    if (width < LEAST_WIDTH) return;
    deepest = Math.max(deepest, depth);
    const name = block.names[place];
    const title = `${name}: ${text}`;
    const made = coloured(element("button", { type: "button", title, "aria-label": title }, depth ? shortName(name) : title), phase.colour);
    Object.assign(made.style, { left: `${left * 100}%`, width: `${width * 100}%`, bottom: `${depth * ROW}px` });
    made.addEventListener("click", () => {
      const whole = node === focus || depth === 0 && focus !== null;
      if (whole) paint(block.phases, total, null);
      else paint([{ ...phase, tree: node }], time, node);
      graph.querySelector("button").focus();
      where.textContent = whole ? "All phases" : `Inside ${title}. Select the lowest bar, or press Escape, to see all.`;
    });
    graph.append(made);
    let at = left;
    for (const child of below) {
      put(child, at, depth + 1, phase);
      at += child[1] / all;
    }
  };
  let at = 0;
  for (const phase of phases) {
    put(phase.tree, at, 0, phase);
    at += phase.tree[1] / all;
  }
  graph.style.height = `${(deepest + 1) * ROW}px`;
}

// "function (/a/long/path/file.py:3)" as "function (file.py:3)"; the whole is in the title.
function shortName(name) {
  return name.replace(/\([^()]*\/([^/()]*)\)$/, "($1)");
}

drawings.flame = drawFlame;
