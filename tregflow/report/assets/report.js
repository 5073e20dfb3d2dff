"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // --- figures: drawn when scrolled to, given back when far away ---------------------------------------------------
  let plotly = null;
  const loadPlotly = () => {
    // The source is kept as text until a figure is needed, so that the page paints before 5 MB of code is compiled.
    if (!plotly) {
      plotly = new Promise((resolve) => {
        const script = document.createElement("script");
        script.textContent = document.getElementById("plotly-source").textContent;
        document.head.append(script);
        resolve(window.Plotly);
      });
    }
    return plotly;
  };

  const unpack = async (text) => {
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const view = new DataView(await new Response(stream).arrayBuffer());
    return Array.from({ length: view.byteLength / 4 }, (_, i) => view.getUint32(4 * i, true));
  };

  const fill = async (trace, counts, bins) => {
    const flat = await unpack(counts);
    if (bins.length === 1) {
      trace.y = flat;
      return;
    }
    const [nx, ny] = bins; // counts are x-major, a heat map is drawn row by row
    const rows = Array.from({ length: ny }, (_, y) => Array.from({ length: nx }, (__, x) => flat[x * ny + y]));
    trace.customdata = rows;
    trace.z = rows.map((row) => row.map((c) => (c > 0 ? Math.log10(c) : null)));
    trace.zmax = Math.max(Math.log10(flat.reduce((a, b) => Math.max(a, b), 1)), 1);
  };

  const config = {
    displaylogo: false,
    responsive: true,
    // a closed list: nothing that could send data anywhere
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  const place = (layout, box) => {
    if (!box.classList.contains("wide")) {
      layout.modebar = { orientation: "v", bgcolor: "rgba(255,255,255,.8)" }; // inside the plot, off its title
    } else if (box.clientWidth < 720) { // two charts, one above the other
      layout.xaxis.domain = layout.xaxis2.domain = [0, 1];
      layout.yaxis.domain = [0.56, 1];
      layout.yaxis2.domain = [0, 0.4];
      layout.legend = { ...layout.legend, orientation: "h", x: 0, y: -0.12, yanchor: "top" };
      layout.height = 760;
    }
  };

  const draw = async (box) => {
    if (box.dataset.state) return;
    box.dataset.state = "drawing";
    const spec = JSON.parse(document.getElementById(box.dataset.spec).textContent);
    if (spec.counts) await fill(spec.figure.data[0], spec.counts, spec.bins);
    place(spec.figure.layout, box);
    const library = await loadPlotly();
    const live = document.createElement("div");
    live.className = "live";
    box.append(live);
    await library.newPlot(live, spec.figure.data, spec.figure.layout, config);
    box.dataset.state = "drawn";
  };

  const drop = (box) => {
    if (box.dataset.state !== "drawn") return;
    const live = box.querySelector(".live");
    window.Plotly.purge(live);
    live.remove();
    delete box.dataset.state;
  };

  if ("IntersectionObserver" in window && "DecompressionStream" in window) {
    const boxes = document.querySelectorAll(".plot");
    const near = new IntersectionObserver(
      (entries) => entries.filter((e) => e.isIntersecting).forEach((e) => draw(e.target)), { rootMargin: "200px" });
    const far = new IntersectionObserver(
      (entries) => entries.filter((e) => !e.isIntersecting).forEach((e) => drop(e.target)), { rootMargin: "4000px" });
    requestAnimationFrame(() => setTimeout(() => boxes.forEach((b) => { near.observe(b); far.observe(b); }), 0));
  }

  // --- tables: sort by a click or the keyboard, filter by text -----------------------------------------------------
  const value = (row, i) => {
    const cell = row.cells[i];
    const text = cell.dataset.order || cell.textContent.trim();
    const number = Number(text.replace(/,/g, ""));
    return text === "—" ? null : Number.isNaN(number) ? text : number;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null); // unknown stays last
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  document.querySelectorAll("table.sortable").forEach((table) => {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((h) => h.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...table.tBodies[0].rows];
        rows.sort((a, b) => {
          const [x, y] = [value(a, i), value(b, i)];
          return down && x !== null && y !== null ? compare(y, x) : compare(x, y);
        });
        table.tBodies[0].append(...rows);
      });
    });
  });
  const search = (input, items) => {
    if (!input) return;
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      items.forEach((item) => {
        const cut = [...item.querySelectorAll("[title]")].map((e) => e.title); // names are shown shortened
        const text = [item.textContent, ...cut].join(" ").toLowerCase();
        item.hidden = !words.every((word) => text.includes(word));
      });
    });
  };
  search(document.getElementById("filter"), document.querySelectorAll("#endpoint-table tbody tr"));
  search(document.getElementById("find"), document.querySelectorAll("nav .tubes li"));

  // --- navigation: the tube in view is marked ------------------------------------------------------------------------
  const links = new Map([...document.querySelectorAll("nav .tubes a")].map((a) => [a.hash.slice(1), a]));
  if ("IntersectionObserver" in window) {
    const spy = new IntersectionObserver((entries) => entries.forEach((entry) => {
      const link = links.get(entry.target.id);
      if (!link) return;
      if (entry.isIntersecting) {
        links.forEach((other) => other.removeAttribute("aria-current"));
        link.setAttribute("aria-current", "true");
        link.closest("nav").scrollTo({ top: link.offsetTop - 200 });
      }
    }), { rootMargin: "-30% 0px -65% 0px" });
    document.querySelectorAll("section.tube").forEach((section) => spy.observe(section));
  }
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
})();
