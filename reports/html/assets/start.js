// Draws the page: first all that is text, then the charts, which need a place to measure.

document.getElementById("title").textContent = report.name;
document.getElementById("main").append(...report.sections.map(drawSection));
document.getElementById("contents").append(element("ul", {}, report.sections.map((section) =>
  element("li", {}, element("a", { href: `#${section.id}` }, section.title)))));
later.forEach((draw) => draw());
document.documentElement.dataset.drawn = "yes";
