"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 560px)");
  const chosen = {};
  let printing = false;

  // What follows the page: its colours, and room on a narrow screen.
  const dressed = (layout) => {
    const night = dark.matches && !printing;
    const ink = night ? "#e6e9ed" : "#1b1f24";
    const line = night ? "#3a424b" : "#d8dee4";
    const axis = {gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true};
    const whole = {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: {color: ink, family: getComputedStyle(document.body).fontFamily, size: narrow.matches ? 11 : 13},
      margin: narrow.matches ? {l: 45, r: 10, t: 30, b: 60} : {l: 60, r: 20, t: 30, b: 70},
      hoverlabel: {namelength: -1},
    };
    for (const name of Object.keys(whole)) {
      if (/^[xy]axis\d*$/.test(name)) whole[name] = {...axis, ...whole[name]};
    }
    if (whole.legend) whole.margin.b += narrow.matches ? 80 : 30;
    if (narrow.matches && whole.grid && whole.grid.columns > 1) stack(whole);
    return whole;
  };

  // Panels below each other instead of side by side.
  const stack = (layout) => {
    const panels = layout.annotations.length;
    layout.grid = {...layout.grid, rows: panels, columns: 1};
    layout.height = 90 + 220 * panels;
  };

  const draw = (id) => {
    const panels = Object.values(figures[id]);
    const panel = panels[chosen[id] ?? panels.length - 1];
    return Plotly.react(id, structuredClone(panel.data), dressed(structuredClone(panel.layout)), {
      responsive: true,
      displaylogo: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d"],
    });
  };

  const drawAll = () => Promise.all(
    Object.keys(figures).filter((id) => document.getElementById(id)).map(draw));

  for (const select of document.querySelectorAll("select[data-for]")) {
    select.addEventListener("change", () => {
      chosen[select.dataset.for] = Number(select.value);
      draw(select.dataset.for);
    });
    chosen[select.dataset.for] = Number(select.value);
  }
  dark.addEventListener("change", drawAll);
  narrow.addEventListener("change", drawAll);
  window.addEventListener("beforeprint", () => { printing = true; drawAll(); });
  window.addEventListener("afterprint", () => { printing = false; drawAll(); });
  drawAll().then(() => { document.documentElement.dataset.drawn = "yes"; });
})();
