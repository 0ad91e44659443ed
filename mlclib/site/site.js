// What the pages do: sort and filter tables; score an experiment anew under any protocol; open what a number is made of.
"use strict";

// An element: attributes (functions as listeners), then children, elements or texts.
function h(tag, attributes = {}, ...children) {
  const svg = ["svg", "polyline", "line", "text"].includes(tag);
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(attributes))
    if (typeof value === "function") made.addEventListener(key, value);
    else if (value !== false && value !== undefined) made.setAttribute(key, value);
  made.append(...children.flat().filter(child => child !== undefined && child !== ""));
  return made;
}
const percent = value => Number.isNaN(value) ? "—" : (100 * value).toFixed(1);
const mean = values => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = values => Math.sqrt(values.reduce((sum, x) => sum + (x - mean(values)) ** 2, 0) / (values.length - 1));

// Every table with a head sorts by a click on a column, a long one filters.
function equip(table) {
  const number = text => parseFloat(text.replace("−", "-").replace(/[,<]/g, ""));
  for (const head of table.tHead.rows[0].cells) {
    if (!head.textContent.trim()) continue;  // the corner of a data frame: a button there would have no name
    const button = h("button", { type: "button", click: () => {
      const falling = head.getAttribute("aria-sort") !== "descending", value = row => row.cells[head.cellIndex].textContent.trim();
      const compare = (a, b) => {
        const [m, n] = [number(value(a)), number(value(b))];
        if (isNaN(m) && isNaN(n)) return (falling ? 1 : -1) * value(a).localeCompare(value(b));
        return isNaN(m) ? 1 : isNaN(n) ? -1 : falling ? n - m : m - n;
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    } }, ...head.childNodes);
    head.setAttribute("scope", "col");
    head.replaceChildren(button);
  }
  const scroll = table.closest(".scroll");
  if (table.tBodies[0].rows.length < 12 || scroll.previousElementSibling?.className === "filter") return;
  const alone = scroll.firstElementChild === table;  // else a title stands above it, in a notebook's output
  (alone ? scroll : table).before(h("label", { class: "filter" }, "filter ", h("input", { type: "search", input: event => {
    const wanted = event.target.value.toLowerCase();
    for (const row of table.tBodies[0].rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  } })));
}

// An experiment: its predictions are DATA (predictions.js).
class Live {
  constructor(data) {
    this.data = data;
    this.labels = data.labels;
    this.C = data.labels.length;
    this.targets = unpacked(data.targets, Int8Array);
    this.models = Object.keys(data.models);
    this.runs = Object.fromEntries(Object.entries(data.models).map(([model, runs]) => [model, runs.map(run => {
      const logits = Object.fromEntries(Object.entries(run.logits).map(([key, text]) => [key, unpacked(text, Float32Array)]));
      return { ...run, logits, orders: {} };
    })]));
    this.disk = new Map();  // pictures from the reader's own disk, by name
    this.protocol = { ...DEFAULT };
    this.form = document.getElementById("protocol");
    this.door = document.getElementById("door");
    const known = { last: "the last", best: "the best on the test set", ema: "averaged weights" };
    const there = Object.keys(known).filter(key => Object.values(this.runs).flat().every(run => run.logits[key]));
    this.form.selection.append(...there.map(key => h("option", { value: key }, known[key])));
    this.standard = this.scored(DEFAULT);
    this.form.addEventListener("input", () => this.switched());
    this.form.addEventListener("reset", () => setTimeout(() => this.switched()));
    this.form.addEventListener("submit", event => event.preventDefault());
    this.door.addEventListener("close", () => { if (location.hash.includes("=")) location.hash = "live"; });
    window.addEventListener("hashchange", () => this.open());
    this.switched();
    this.open();
  }
  orders(run, selection) { return run.orders[selection] ??= ranked(run.logits[selection], this.C); }
  // model -> [a score a seed]
  scored(protocol) {
    return Object.fromEntries(this.models.map(model => [model, this.runs[model].map(run => {
      const key = protocol.selection;
      return evaluate(run.logits[key], this.targets, this.C, protocol, this.orders(run, key));
    })]));
  }
  switched() {
    const { ap, difficult, sweep, threshold, top, selection } = this.form;
    threshold.disabled = sweep.value !== "" || top.value === "always";
    sweep.disabled = top.value === "always";
    const at = top.value === "always" ? -Infinity : sweep.value || Number(threshold.value) || 0;
    this.protocol = { ap: ap.value, difficult: difficult.value, threshold: at, top: top.value === "0" ? 0 : 3, selection: selection.value };
    this.found = this.scored(this.protocol);
    this.table();
    this.perLabel();
    this.resample();
  }
  mean(found, model, score) { return mean(found[model].map(one => one[score])); }
  place(found, model, score) {
    return 1 + this.models.filter(other => this.mean(found, other, score) > this.mean(found, model, score)).length;
  }
  link(state, text, title) { return h("a", { href: `#${new URLSearchParams(state)}`, "aria-label": title }, text); }
  table() {
    const columns = ["mAP", ...RATES], table = document.getElementById("scores");
    const head = ["model", "mAP", "mAP 95 %", "p", ...RATES];
    let turned = [];
    const rows = this.models.map(model => {
      let moved = false;
      const cells = columns.map(score => {
        const values = this.found[model].map(one => one[score]), spread = values.length > 1 ? ` ± ${percent(deviation(values))}` : "";
        const now = this.place(this.found, model, score), before = this.place(this.standard, model, score);
        if (now !== before) { moved = true; turned.push(`${model} by ${score} from ${before} to ${now}`); }
        const text = `${percent(mean(values))}${spread}${now < before ? " ↑" : now > before ? " ↓" : ""}`;
        return h("td", { class: "number" }, this.link({ model, score }, text, `${text}, ${score} of ${model}: what it is made of`));
      });
      cells.splice(1, 0, h("td", { class: "number", id: `interval-${model}` }, "…"), h("td", { class: "number", id: `p-${model}` }, "…"));
      return h("tr", { class: moved ? "moved" : "", "data-model": model }, h("th", { scope: "row" }, model), cells);
    });
    table.replaceChildren(h("thead", {}, h("tr", {}, head.map((text, i) => h("th", { class: i ? "number" : "" }, text)))), h("tbody", {}, rows));
    equip(table);
    const thresholds = [...new Set(Object.values(this.found).flat().map(one => one.threshold))];
    this.note = `${this.models.length} models, ${this.data.names.length} test images, in percent, mean ± standard deviation over seeds; threshold at logit ${thresholds.join(", ")}. `
      + (turned.length ? `Ranks that change against the default protocol: ${turned.join("; ")}. ` : "No rank differs from the default protocol's. ");
    document.getElementById("said").textContent = this.note;
  }
  perLabel() {
    const table = document.getElementById("labels");
    const rows = this.labels.map((label, c) => h("tr", {},
      h("th", { scope: "row" }, this.link({ label }, label, `${label}: misses and false alarms`)),
      h("td", { class: "number" }, String(this.found[this.models[0]][0].counts[c][2])),
      this.models.map(model => {
        const text = percent(mean(this.found[model].map(one => one.AP[c])));
        return h("td", { class: "number" }, this.link({ model, label }, text, `${text}, AP of ${label} by ${model}: what it is made of`));
      })));
    const head = ["label", "positives", ...this.models].map((text, i) => h("th", { class: i ? "number" : "" }, text));
    table.replaceChildren(h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows));
    equip(table);
  }
  // Intervals and p, drawn in pieces so that the page stays awake; a new switch begins anew.
  resample() {
    clearTimeout(this.timer);
    const key = this.protocol.selection;
    const models = this.models.map(model => this.runs[model].map(run => ({ logits: run.logits[key], orders: this.orders(run, key) })));
    const bootstrap = this.bootstrap = new Bootstrap(models, this.targets, this.C, this.protocol);
    const best = this.models.reduce((top, model, i) => bootstrap.drawn[i][0] > bootstrap.drawn[top][0] ? i : top, 0);
    const piece = () => {
      for (const end = performance.now() + 60; performance.now() < end && bootstrap.drawn[0].length <= this.data.draws; ) bootstrap.draw(5);
      const made = bootstrap.drawn[0].length - 1, done = made >= this.data.draws;
      if (done || made % 50 === 0 || made < 50) this.models.forEach((model, i) => {
        const [low, high] = bootstrap.interval(i), p = i === best ? NaN : bootstrap.p(i, best);
        document.getElementById(`interval-${model}`).textContent = `${percent(low)} to ${percent(high)}`;
        if (done)  // p of few draws cannot be small
          document.getElementById(`p-${model}`).textContent = Number.isNaN(p) ? "—" : p < 0.0005 ? "<0.001" : p.toFixed(3);
      });
      if (done) document.getElementById("said").textContent = `${this.note}Intervals and p: ${made} paired draws of images and seeds by this browser's own generator (seed 0), so the last digit may differ from the tables below.`;
      else this.timer = setTimeout(piece);
    };
    this.timer = setTimeout(piece, 30);
  }

  // The door: what the address asks for, a score of a model, a label of a model, or an image.
  open() {
    const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    if (!asked.model && !asked.label && !asked.image) { if (this.door.open) this.door.close(); return; }
    if (!this.runs[asked.model])
      asked.model = this.models.reduce((a, b) => this.mean(this.found, b, "mAP") > this.mean(this.found, a, "mAP") ? b : a);
    asked.seed = Math.min(Number(asked.seed) || 0, this.runs[asked.model].length - 1);
    const content = asked.image && this.data.names.includes(asked.image) ? this.image(asked)
      : this.labels.includes(asked.label) ? this.label(asked) : this.score(asked);
    this.door.replaceChildren(h("button", { class: "shut", type: "button", click: () => this.door.close() }, "Close"), ...content);
    if (!this.door.open) this.door.showModal();
    this.door.scrollTop = 0;
  }
  chooser(asked) {
    const change = key => event => { location.hash = new URLSearchParams({ ...asked, [key]: event.target.value }); };
    const option = (value, text, chosen) => h("option", { value, selected: chosen ? "" : false }, text);
    const runs = this.runs[asked.model];
    return h("p", {},
      h("label", {}, "model ", h("select", { change: change("model") }, this.models.map(m => option(m, m, m === asked.model)))), " ",
      runs.length > 1 ? h("label", {}, "seed ", h("select", { change: change("seed") }, runs.map((run, i) => option(i, run.seed, i === asked.seed)))) : "");
  }
  score({ model, score = "mAP" }) {
    const found = this.found[model];
    const rows = this.labels.map((label, c) => {
      const [tp, predicted, present] = [0, 1, 2].map(at => mean(found.map(one => one.counts[c][at])));
      return { label, AP: mean(found.map(one => one.AP[c])), present, hits: tp, misses: present - tp, alarms: predicted - tp };
    }).sort((a, b) => a.AP - b.AP);
    const head = ["label", "AP", "present", "found", "missed", "false alarms"];
    const table = h("table", {}, h("thead", {}, h("tr", {}, head.map((text, i) => h("th", { class: i ? "number" : "" }, text)))),
      h("tbody", {}, rows.map(row => h("tr", {},
        h("th", { scope: "row" }, this.link({ model, label: row.label }, row.label, `${row.label}: the decisions of ${model}`)),
        [percent(row.AP), ...[row.present, row.hits, row.misses, row.alarms].map(x => x.toFixed(1).replace(/\.0$/, ""))].map(text => h("td", { class: "number" }, text))))));
    const scroll = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Labels" }, table);
    equip(table);
    return [h("h2", { id: "door-title" }, `${score} of ${model}: ${percent(this.mean(this.found, model, score))}`),
      h("p", {}, `By seed: ${found.map((one, i) => `${percent(one[score])} (seed ${this.runs[model][i].seed})`).join(", ")}. Hardest label first, counts are means over the seeds; a label opens its images.`),
      scroll, ...this.madeOf(model, "scores")];
  }
  label(asked) {
    const { model, label, seed } = asked, c = this.labels.indexOf(label), key = this.protocol.selection;
    const run = this.runs[model][seed], one = this.found[model][seed], logits = run.logits[key], C = this.C;
    const order = [...this.orders(run, key)[c]], counted = order.filter(i => this.protocol.difficult === "absent" || this.targets[i * C + c] !== 0);
    const is = i => this.targets[i * C + c] === 1, said = i => one.decided[i * C + c] === 1;
    const misses = counted.filter(i => is(i) && !said(i)).reverse(), alarms = counted.filter(i => !is(i) && said(i));
    const item = i => this.picture(i, asked, `${percent(1 / (1 + Math.exp(-logits[i * C + c])))} %, rank ${order.indexOf(i) + 1}`, is(i) === said(i) ? "hit" : "miss");
    const strip = (images, none) => images.length ? h("ul", { class: "strip" }, images.slice(0, 12).map(item)) : h("p", {}, none);
    const ranking = h("ul", { class: "strip" }, counted.slice(0, 24).map(item));
    const more = h("button", { type: "button", class: "more", click: event => {
      const shown = ranking.children.length;
      ranking.append(...counted.slice(shown, shown + 48).map(item));
      if (ranking.children.length === counted.length) event.target.remove();
    } }, "Show more of the ranking");
    return [h("h2", { id: "door-title" }, `${label} by ${model}`), this.chooser(asked),
      h("p", {}, `AP by seed: ${this.found[model].map((f, i) => `${percent(f.AP[c])} (seed ${this.runs[model][i].seed})`).join(", ")}. With this seed ${misses.length} of ${one.counts[c][2]} are missed, and ${alarms.length} of ${one.counts[c][1]} answers are false alarms. A picture opens all decisions on it.`),
      h("h3", {}, "Hardest misses: present, and scored lowest"), strip(misses, "None is missed."),
      h("h3", {}, "Worst false alarms: absent, and scored highest"), strip(alarms, "There is no false alarm."),
      ...this.ownDisk(),
      h("div", { class: "pair" }, h("div", {}, h("h3", {}, "Precision against recall, a line each seed"), this.curves(model, c)),
        h("div", {}, h("h3", {}, "Confused with"), this.confusions(c, misses, alarms, one))),
      h("h3", {}, "All test images by this label's logit"),
      h("p", {}, "Green: decided rightly; red: wrongly, at the threshold of the protocol."), ranking, counted.length > 24 ? more : "",
      ...this.madeOf(model, "per_class")];
  }
  image(asked) {
    const { image, model, seed, label } = asked, i = this.data.names.indexOf(image), C = this.C;
    const logits = this.runs[model][seed].logits[this.protocol.selection], one = this.found[model][seed];
    const rows = this.labels.map((name, c) => ({ name, c, logit: logits[i * C + c] })).sort((a, b) => b.logit - a.logit).map(({ name, c, logit }) => {
      const target = this.targets[i * C + c], said = one.decided[i * C + c] === 1;
      const verdict = target === 0 && this.protocol.difficult === "ignore" ? "difficult, not counted"
        : said ? (target === 1 ? "found" : "false alarm") : target === 1 ? "missed" : "";
      const mark = verdict === "found" ? "hit-mark" : verdict === "missed" || verdict === "false alarm" ? "miss-mark" : "";
      return h("tr", {}, h("th", { scope: "row" }, this.link({ model, label: name, seed }, name, `${name} by ${model}`)),
        h("td", { class: "number" }, `${percent(1 / (1 + Math.exp(-logit)))} %`), h("td", { class: mark }, verdict));
    });
    const source = this.source(i);
    return [h("h2", { id: "door-title" }, image), this.chooser(asked),
      label ? h("p", {}, this.link({ model, label, seed }, `back to ${label} by ${model}`, `back to ${label} by ${model}`)) : "",
      h("div", { class: "pair" },
        h("div", {}, source ? h("img", { class: "big", src: source, alt: `Test image ${image}` }) : h("p", {}, "The picture is not part of the site."), ...this.ownDisk(),
          h("p", {}, `Shows: ${this.labels.filter((_, c) => this.targets[i * C + c] === 1).join(", ") || "none of the labels"}.`)),
        h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Decisions" }, h("table", {},
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "label"), h("th", { scope: "col", class: "number" }, "probability"), h("th", { scope: "col" }, "decision"))), h("tbody", {}, rows))))];
  }
  source(i) {
    const name = this.data.names[i];
    return this.data.pictures ? `${this.data.pictures}/${name}.webp` : this.disk.get(name.split("/").pop().replace(/\.\w+$/, ""));
  }
  picture(i, { model, label, seed }, text, verdict) {
    const name = this.data.names[i], source = this.source(i);
    return h("li", {}, h("a", { class: verdict, href: `#${new URLSearchParams({ image: name, model, label, seed })}` },
      source ? h("img", { src: source, alt: `Test image ${name}`, loading: "lazy" }) : h("span", { class: "blank" }, name), `${verdict === "hit" ? "✓" : "✗"} ${text}`));
  }
  // Photographs may not enter the site: the reader shows their folder, and they stay on this machine.
  ownDisk() {
    if (this.data.pictures) return [];
    return [h("p", {}, h("label", {}, "These are photographs, shown by name. To see them, choose the folder of the data set on your disk; nothing leaves your machine. ",
      h("input", { type: "file", webkitdirectory: "", multiple: "", change: event => {
        for (const file of event.target.files) if (file.type.startsWith("image/")) this.disk.set(file.name.replace(/\.\w+$/, ""), URL.createObjectURL(file));
        this.open();
      } })))];
  }
  curves(model, c) {
    const key = this.protocol.selection;
    const lines = this.runs[model].map(run => {
      const found = steps(this.orders(run, key)[c], run.logits[key], this.targets, this.C, c, this.protocol.difficult, null);
      const total = found.length ? found[found.length - 1][1] : 1;
      return h("polyline", { points: found.map(([, tp, fp]) => `${40 + 250 * tp / total},${210 - 200 * tp / (tp + fp)}`).join(" ") });
    });
    const axes = [h("line", { x1: 40, y1: 210, x2: 290, y2: 210, class: "grid" }), h("line", { x1: 40, y1: 10, x2: 40, y2: 210, class: "grid" }),
      h("text", { x: 165, y: 240, "text-anchor": "middle" }, "recall"), h("text", { x: 24, y: 18 }, "1"), h("text", { x: 20, y: 214 }, "0"), h("text", { x: 284, y: 227 }, "1")];
    return h("svg", { class: "curves", viewBox: "0 0 300 245", role: "img", "aria-label": `Precision against recall of ${this.labels[c]} by ${model}` }, axes, lines);
  }
  confusions(c, misses, alarms, one) {
    const C = this.C, images = this.data.names.length;
    const counted = (chosen, holds) => this.labels.map((name, other) => ({ name, other, times: chosen.filter(i => holds(i * C + other)).length,
      share: this.targets.reduce((sum, target, cell) => sum + (cell % C === other && target === 1), 0) / images }))
      .filter(row => row.other !== c && row.times).sort((a, b) => b.times / (b.share + 0.02) - a.times / (a.share + 0.02)).slice(0, 5);
    const list = (rows, of, words) => rows.length ? h("ul", {}, rows.map(({ name, times, share }) => h("li", {}, `${name}: ${times} of ${of} ${words(share)}`))) : h("p", {}, "None.");
    return h("div", {}, h("p", {}, "Where it is a false alarm, these are there (beside how many of all images show them):"),
      list(counted(alarms, cell => this.targets[cell] === 1), alarms.length, share => `(${percent(share)} % of all)`),
      h("p", {}, "Where it is missed, these are answered falsely:"),
      list(counted(misses, cell => one.decided[cell] === 1 && this.targets[cell] === -1), misses.length, () => ""));
  }
  madeOf(model, table) {
    const { experiment, cells } = this.data, cell = cells[table];
    return [h("h3", {}, "Made of"), h("ul", {}, this.runs[model].map(run => h("li", {}, `run ${run.folder}`,
      run.commit ? `, seed ${run.seed}, ended ${run.ended}, commit ${run.commit}, on ${run.device} (` : "",
      run.files.flatMap((file, i) => [i ? ", " : "", h("a", { href: `${experiment}/runs/${run.folder}/${file}` }, file)]), run.files.length ? ")" : "",
      run.command ? h("div", {}, h("code", {}, run.command)) : ""))),
      h("p", {}, cell ? h("a", { href: `${experiment}/${cell[0]}.html#cell-${cell[1]}` }, `cell ${cell[1]} of notebook ${cell[0]}`) : "", cell ? "; everything: " : "Everything: ", h("code", {}, `make reproduce EXPERIMENT=${experiment}`))];
  }
}

for (const table of document.querySelectorAll("main table")) if (table.tHead?.rows.length === 1 && table.tBodies[0] && table.closest(".scroll")) equip(table);
if (typeof DATA !== "undefined") window.live = new Live(DATA);
