"use strict";
// Draws the graphs of a VPS. Without JavaScript the page shows the same in words.
(() => {
  const LANGUAGE = document.documentElement.lang;
  const AGAIN_MS = 30000; // the page renews itself more often while a power action is open
  const plots = new Map(); // by its place: the plot, and the fields that it draws
  let url = "", askedAt = 0, data = null, tries = 0;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function amount(graph, value) {
    if (value === null || value === undefined) return "–";
    const words = document.getElementById("statistics").dataset; // the page spells the units in one way
    const units = graph === "cpu" ? ["%"] : (graph === "memory" ? words.units : words.rates).split("|");
    if (graph === "cpu") value *= 100;
    let rank = 0;
    for (; value >= 1024 && rank < units.length - 1; rank += 1) value /= 1024;
    return `${new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 1 }).format(value)}\u00a0${units[rank]}`;
  }

  // Ticks may be closer than what their labels tell apart, as several in one day: the first one says it.
  const once = (labels) => labels.map((label, nth) => (nth && label === labels[nth - 1] ? "" : label));

  function moment(seconds, long) {
    const near = ["hour", "day"].includes(data.timeframe);
    const how = near ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" };
    if (long) Object.assign(how, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });
    return new Intl.DateTimeFormat(LANGUAGE, { ...how, hourCycle: "h23" }).format(new Date(seconds * 1000));
  }

  function options(holder, graph) {
    const axis = { stroke: () => colour("--quiet"), grid: { stroke: () => colour("--line"), width: 1 }, ticks: { show: false } };
    const lines = holder.dataset.lines.split("|");
    const top = graph === "cpu" ? 0.05 : 1024;
    return {
      width: holder.clientWidth,
      height: 180,
      padding: [null, 32, null, null], // half of the last label
      hooks: { setCursor: [(plot) => plot.root.classList.toggle("pointed", plot.cursor.idx !== null && plot.cursor.left >= 0)] },
      series: [
        { label: holder.closest("article").dataset.time, value: (_, at) => (at === null ? "–" : moment(at, true)) },
        ...lines.map((label, nth) => ({
          label,
          width: 2,
          stroke: () => colour(nth ? "--second" : "--first"),
          points: { show: false },
          value: (_, value) => amount(graph, value),
        })),
      ],
      scales: { y: { range: (_, __, most) => [0, Math.max(top, (most || 0) * 1.1)] } },
      axes: [
        { ...axis, size: 30, space: 75, values: (_, splits) => once(splits.map((at) => moment(at, false))) },
        {
          ...axis,
          size: 80,
          values: (_, splits) => once(splits.map((value) => amount(graph, value))),
          ...(graph === "cpu" ? {} : { incrs: Array.from({ length: 45 }, (_, power) => 2 ** power) }),
        },
      ],
    };
  }

  function draw() {
    for (const [holder, { plot, fields }] of plots) {
      if (holder.isConnected && holder.contains(plot.root) && holder.dataset.fields === fields) continue;
      plot.destroy(); // its place is gone, or has other lines now
      plots.delete(holder);
    }
    if (!data) return;
    const times = data.points.map((point) => Date.parse(point.time) / 1000);
    for (const holder of document.querySelectorAll("#statistics [data-graph]")) {
      const { graph, fields } = holder.dataset; // the page leaves out a line of which nothing was measured
      const values = [times, ...fields.split("|").map((field) => data.points.map((point) => point[field]))];
      const drawn = plots.get(holder);
      if (drawn) drawn.plot.setData(values);
      else plots.set(holder, { plot: new uPlot(options(holder, graph), values, holder), fields });
    }
  }

  async function look() {
    const shown = document.getElementById("statistics");
    if (!shown) return;
    draw();
    if (shown.dataset.stats === url && Date.now() - askedAt < AGAIN_MS) return;
    url = shown.dataset.stats;
    askedAt = Date.now();
    let answer;
    try {
      const response = await fetch(url, { headers: { Accept: "application/json" } });
      if (!response.ok) return;
      answer = (await response.json()).data;
    } catch {
      return; // the next look comes with the next renewal of the page
    }
    data = answer;
    draw();
    if (answer.code === "being_read" && tries < 3) {
      tries += 1;
      setTimeout(() => { askedAt = 0; look(); }, 5000);
    }
    // The words on the page are older than the graphs: let the page renew itself.
    const words = document.getElementById("statistics");
    if (answer.as_of && words && words.dataset.asOf !== answer.as_of) document.body.dispatchEvent(new Event("vps-changed"));
  }

  document.addEventListener("htmx:after:swap", look);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => plots.forEach(({ plot }) => plot.redraw()));
  addEventListener("resize", () => {
    for (const [holder, { plot }] of plots) plot.setSize({ width: holder.clientWidth, height: 180 });
  });
  look();
})();
