"use strict";
(() => {
  const text = document.getElementById("figures").textContent;
  const charts = [...document.querySelectorAll(".chart")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;
  const hidden = new Set();
  const config = {
    responsive: false, displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d"],
    toImageButtonOptions: { format: "png", scale: 2 },
  };

  // The page's own colours: "@0" in a figure stands for --c0, "@ink" for --ink.
  function colours() {
    const css = getComputedStyle(document.documentElement);
    return name => css.getPropertyValue(/^@\d+$/.test(name) ? "--c" + name.slice(1) : "--" + name.slice(1)).trim();
  }

  function figure(index) {
    const find = colours();
    const swap = value => (typeof value === "string" && value[0] === "@" ? find(value) : value);
    const revive = (key, value) =>
      /color$/.test(key) ? (Array.isArray(value) ? value.map(swap) : swap(value)) : value;
    return { ...JSON.parse(text, revive)[index], find };
  }

  const pen = document.createElement("canvas").getContext("2d");

  // Entries stand in rows below the plot, which keeps its height whatever their number.
  function legend(data, width) {
    const names = data.filter(t => t.name && t.showlegend !== false && t.visible !== false).map(t => t.name);
    if (!names.length) return 0;
    pen.font = "12px system-ui, sans-serif";
    const widest = Math.max(...names.map(name => pen.measureText(name).width)) + 52;
    return Math.ceil(names.length / Math.max(1, Math.floor(width / widest)));
  }

  function axes(layout, find) {
    const own = { gridcolor: find("@grid"), linecolor: find("@rule"), zerolinecolor: find("@rule"),
      tickcolor: find("@rule"), automargin: true };
    const found = {};
    for (const key of new Set(["xaxis", "yaxis", ...Object.keys(layout)])) {
      if (/^[xy]axis\d*$/.test(key)) found[key] = { ...own, ...layout[key] };
    }
    return found;
  }

  function draw(div) {
    const { data, layout, find } = figure(+div.dataset.chart);
    for (const trace of data) {
      if (trace.meta && hidden.has(trace.meta.run)) trace.visible = false;
    }
    const width = div.clientWidth, rows = legend(data, width - 70), room = rows ? 12 + 20 * rows : 0;
    const height = +div.dataset.height + room;
    div.style.minHeight = height + "px";
    return Plotly.react(div, data, {
      width, height, uirevision: "kept", showlegend: rows > 0,
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: find("@ink"), family: "system-ui, sans-serif", size: 12 },
      hoverlabel: { bgcolor: find("@box"), bordercolor: find("@rule"), font: { color: find("@ink") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: find("@muted"), activecolor: find("@ink") },
      legend: { orientation: "h", x: 0, xanchor: "left", yref: "container", y: 0, yanchor: "bottom",
        bgcolor: "rgba(0,0,0,0)", traceorder: "normal" },
      dragmode: coarse ? false : "zoom",
      ...layout, ...axes(layout, find), margin: { l: 52, r: 14, t: 10, b: 46 + room, ...layout.margin },
    }, config);
  }

  async function all() {
    for (const div of charts) {
      await draw(div);
      await new Promise(next => setTimeout(next));
    }
    document.documentElement.dataset.drawn = charts.length;
  }

  function choose(table) {
    const choices = [...table.querySelectorAll("select")];
    for (const cell of table.querySelectorAll("th, td")) {
      cell.hidden = choices.some(({ value, dataset }) => {
        const own = cell.dataset["choice" + dataset.choice];
        return own !== undefined && value !== "all" && own !== value;
      });
    }
  }

  function sort(head) {
    const body = head.closest("table").tBodies[0], at = head.cellIndex;
    const falling = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = row => row.cells[at].dataset.value, words = row => row.cells[at].textContent;
    const order = (a, b) => {
      const x = value(a), y = value(b);
      if (x === undefined && y === undefined) {
        return (falling ? -1 : 1) * words(a).localeCompare(words(b));
      }
      if (x === undefined || y === undefined) return x === undefined ? 1 : -1;
      return falling ? y - x : x - y;
    };
    body.append(...[...body.rows].sort(order));
  }

  for (const table of document.querySelectorAll(".table")) choose(table);
  document.addEventListener("change", event => {
    const input = event.target;
    if (input.dataset.choice) choose(input.closest(".table"));
    if (input.dataset.run !== undefined) {
      for (const twin of document.querySelectorAll(`input[data-run="${input.dataset.run}"]`)) twin.checked = input.checked;
      input.checked ? hidden.delete(+input.dataset.run) : hidden.add(+input.dataset.run);
      all();
    }
  });
  document.addEventListener("click", event => {
    const head = event.target.closest("th button");
    if (head) sort(head.closest("th"));
  });
  dark.addEventListener("change", all);
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; all(); }
  });
  for (const [name, on] of [["beforeprint", true], ["afterprint", false]]) {
    addEventListener(name, () => {
      document.documentElement.classList.toggle("printing", on);
      charts.forEach(draw);
    });
  }
  all();
})();
