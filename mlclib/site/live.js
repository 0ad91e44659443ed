// An experiment's page: score its predictions (DATA of predictions.js) again, and open what a number is made of.
"use strict";

const SELECTIONS = { last: "the last", best: "the best on the test set", ema: "averaged weights" };
const percent = value => Number.isNaN(value) ? "—" : (100 * value).toFixed(1);
const probability = logit => `${percent(1 / (1 + Math.exp(-logit)))} %`;
const deviation = values => Math.sqrt(sum(values.map(value => (value - mean(values)) ** 2)) / (values.length - 1));
const link = (state, text, name) => h("a", { href: `#${new URLSearchParams(state)}`, "aria-label": name }, text);
const number = (content, attributes = {}) => h("td", { class: "number", ...attributes }, content);
const row = (name, cells, attributes = {}) => h("tr", attributes, h("th", { scope: "row" }, name), cells);
const element = id => document.getElementById(id);

// A table's head and body; the first column names the row, the others hold numbers.
function fill(table, head, rows) {
  const heads = head.map((text, i) => h("th", { class: i ? "number" : "" }, text));
  table.replaceChildren(h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows));
  equip(table);
  return table;
}

class Live {
  constructor(data) {
    Object.assign(this, { data, labels: data.labels, C: data.labels.length, models: Object.keys(data.models) });
    this.targets = unpacked(data.targets, Int8Array);
    this.runs = Object.fromEntries(this.models.map(model => [model, data.models[model].map(run => this.run(run))]));
    this.disk = new Map();  // pictures from the reader's own disk, by name
    this.form = element("protocol");
    this.door = element("door");
    const everywhere = key => Object.values(this.runs).flat().every(run => run.logits[key]);
    for (const key of Object.keys(SELECTIONS).filter(everywhere))
      this.form.selection.append(h("option", { value: key }, SELECTIONS[key]));
    this.standard = this.score(DEFAULT);
    this.form.addEventListener("input", () => this.switched());
    this.form.addEventListener("reset", () => setTimeout(() => this.switched()));
    this.form.addEventListener("submit", event => event.preventDefault());
    this.door.addEventListener("close", () => { if (location.hash.includes("=")) location.hash = "live"; });
    window.addEventListener("hashchange", () => this.open());
    this.switched();
    this.open();
  }
  run(run) {
    const logits = Object.entries(run.logits).map(([key, text]) => [key, unpacked(text, Float32Array)]);
    return { ...run, logits: Object.fromEntries(logits), orders: {} };
  }
  title(model) { return this.data.titles[model]; }

  // A run under the protocol's selection: its logits, and the images of each label by falling logit.
  selected(run) {
    const key = this.protocol.selection, logits = run.logits[key];
    return { logits, orders: run.orders[key] ??= ranked(logits, this.C) };
  }
  // model -> its scores, one for each seed
  score(protocol) {
    this.protocol = protocol;
    const scores = ({ logits, orders }) => evaluate(logits, this.targets, this.C, protocol, orders);
    return Object.fromEntries(this.models.map(model => [model, this.runs[model].map(run => scores(this.selected(run)))]));
  }
  switched() {
    const { ap, difficult, sweep, threshold, top, selection } = this.form, always = top.value === "always";
    threshold.disabled = sweep.value !== "" || always;
    sweep.disabled = always;
    const protocol = { ap: ap.value, difficult: difficult.value, selection: selection.value };
    protocol.threshold = always ? -Infinity : sweep.value || Number(threshold.value) || 0;
    protocol.top = top.value === "0" ? 0 : 3;
    this.scores = this.score(protocol);
    this.showScores();
    this.showLabels();
    this.resample();
  }
  mean(model, key, scores = this.scores) { return mean(scores[model].map(one => one[key])); }
  rank(model, key, scores) {
    return 1 + this.models.filter(other => this.mean(other, key, scores) > this.mean(model, key, scores)).length;
  }

  showScores() {
    const turned = [], rows = this.models.map(model => {
      const before = turned.length, cells = ["mAP", ...RATES].map(key => this.scoreCell(model, key, turned));
      cells.splice(1, 0, number("…", { id: `interval-${model}` }), number("…", { id: `p-${model}` }));
      return row(this.title(model), cells, { class: turned.length > before ? "moved" : "", "data-model": model });
    });
    fill(element("scores"), ["model", "mAP", "mAP 95 %", "p", ...RATES], rows);
    const thresholds = new Set(Object.values(this.scores).flat().map(one => one.threshold));
    const changes = turned.length ? `Ranks that change against the default protocol: ${turned.join("; ")}.`
      : "No rank differs from the default protocol's.";
    element("said").textContent = `${this.data.names.length} test images, in percent, mean ± standard deviation over `
      + `seeds; threshold at logit ${[...thresholds].join(", ")}. ${changes}`;
  }
  // The cell of one score; a rank that differs from the default protocol's is noted in `turned`.
  scoreCell(model, key, turned) {
    const values = this.scores[model].map(one => one[key]), title = this.title(model);
    const from = this.rank(model, key, this.standard), to = this.rank(model, key, this.scores);
    if (from !== to) turned.push(`${title} by ${key} from ${from} to ${to}`);
    const spread = values.length > 1 ? ` ± ${percent(deviation(values))}` : "";
    const text = `${percent(mean(values))}${spread}${to < from ? " ↑" : to > from ? " ↓" : ""}`;
    return number(link({ model }, text, `${text}, ${key} of ${title}: what it is made of`));
  }
  showLabels() {
    const cell = (model, c) => {
      const text = percent(mean(this.scores[model].map(one => one.AP[c]))), label = this.labels[c];
      return number(link({ model, label }, text, `${text}, AP of ${label} by ${this.title(model)}: what it is made of`));
    };
    const positives = c => number(String(this.scores[this.models[0]][0].counts[c][2]));
    const rows = this.labels.map((label, c) => row(label, [positives(c), this.models.map(model => cell(model, c))]));
    fill(element("labels"), ["label", "positives", ...this.models.map(model => this.title(model))], rows);
  }

  // Intervals and p, drawn in pieces so that the page stays awake; a new switch begins anew.
  resample() {
    clearTimeout(this.timer);
    const models = this.models.map(model => this.runs[model].map(run => this.selected(run)));
    const bootstrap = new Bootstrap(models, this.targets, this.C, this.protocol);
    const piece = () => {
      for (const end = performance.now() + 60; performance.now() < end && bootstrap.count < this.data.draws; )
        bootstrap.draw(5);
      this.showIntervals(bootstrap, bootstrap.count >= this.data.draws);
      if (bootstrap.count < this.data.draws) this.timer = setTimeout(piece);
    };
    this.timer = setTimeout(piece, 30);
  }
  // What is drawn so far. A p of few draws cannot be small, so it comes when all is done.
  showIntervals(bootstrap, done) {
    const best = bootstrap.drawn.reduce((top, drawn, i) => drawn[0] > bootstrap.drawn[top][0] ? i : top, 0);
    this.models.forEach((model, i) => {
      const [low, high] = bootstrap.interval(i), p = bootstrap.p(i, best);
      element(`interval-${model}`).textContent = `${percent(low)} to ${percent(high)}${done ? "" : " …"}`;
      if (done) element(`p-${model}`).textContent = i === best ? "—" : p < 0.0005 ? "<0.001" : p.toFixed(3);
    });
    element("scores").classList.toggle("drawing", !done);
    element("drawn").hidden = done;
    element("drawn").value = bootstrap.count / this.data.draws;
    element("draws").textContent = done
      ? `Intervals and p: ${bootstrap.count} paired draws of images and seeds by this browser's own generator.`
      : `Intervals are still being drawn: ${bootstrap.count} of ${this.data.draws}.`;
  }

  // The door: what the address asks for, a label of a model (its hardest one where none is named), or an image.
  open() {
    const asked = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
    if (!this.runs[asked.model]) return this.door.close();
    asked.seed = Math.min(Number(asked.seed) || 0, this.runs[asked.model].length - 1);
    asked.label ??= this.byAP(asked.model)[0];
    const view = this.data.names.includes(asked.image) ? this.image(asked) : this.label(asked);
    const shut = h("button", { class: "shut", type: "button", click: () => this.door.close() }, "Close");
    this.door.replaceChildren(shut, ...view.flat().filter(part => part));
    if (!this.door.open) this.door.showModal();
    this.door.scrollTop = 0;
  }
  // The labels of a model, the hardest first.
  byAP(model) {
    const AP = this.labels.map((_, c) => mean(this.scores[model].map(one => one.AP[c])));
    return range(this.C).filter(c => !Number.isNaN(AP[c])).sort((a, b) => AP[a] - AP[b]).map(c => this.labels[c]);
  }
  chooser(asked) {
    const change = key => event => {
      const image = key === "label" ? "" : asked.image ?? "";  // another label is looked at on all images
      location.hash = new URLSearchParams({ ...asked, image, [key]: event.target.value });
    };
    const select = (key, options) => h("label", {}, `${key} `, h("select", { change: change(key) }, options.map(
      ([value, text]) => h("option", { value, selected: value === asked[key] ? "" : false }, text))), " ");
    return h("p", {}, select("model", this.models.map(model => [model, this.title(model)])),
      select("label", this.byAP(asked.model).map(label => [label, label])),
      select("seed", this.runs[asked.model].map((run, i) => [i, run.seed])));
  }

  // A label of a model: its images by rank, the worst decisions first.
  label(asked) {
    const { model, label, seed } = asked, c = this.labels.indexOf(label), { C } = this;
    const { logits, orders } = this.selected(this.runs[model][seed]), { decided, counts } = this.scores[model][seed];
    const present = i => this.targets[i * C + c] === 1, claimed = i => decided[i * C + c] === 1;
    const images = [...orders[c]].map((i, rank) => ({ i, rank, right: present(i) === claimed(i) }));
    const counted = images.filter(({ i }) => this.protocol.difficult === "absent" || this.targets[i * C + c] !== 0);
    const misses = counted.filter(({ i, right }) => !right && present(i)).reverse();
    const alarms = counted.filter(({ i, right }) => !right && claimed(i));
    const strip = chosen => h("ul", { class: "strip" }, chosen.map(({ i, rank, right }) =>
      this.thumbnail(i, asked, `${right ? "✓" : "✗"} ${probability(logits[i * C + c])}, rank ${rank + 1}`, right)));
    const seeds = this.scores[model].map((one, i) => `${percent(one.AP[c])} (seed ${this.runs[model][i].seed})`);
    return [h("h2", { id: "door-title" }, `${label} by ${this.title(model)}`), this.chooser(asked),
      h("p", {}, `AP by seed: ${seeds.join(", ")}. With this seed ${misses.length} of ${counts[c][2]} are missed, and `
        + `${alarms.length} of ${counts[c][1]} predictions are false alarms. A picture opens all decisions on it.`),
      h("h3", {}, "Hardest misses: present, and scored lowest"), strip(misses.slice(0, 12)),
      h("h3", {}, "Worst false alarms: absent, and scored highest"), strip(alarms.slice(0, 12)), this.ownDisk(),
      h("h3", {}, "Made of"), this.madeOf(model),
      h("details", {}, h("summary", {}, "The test images with the highest logits"), strip(counted.slice(0, 200)))];
  }

  // An image: the decisions of a model on it, the surest first.
  image(asked) {
    const { image, model, seed } = asked, first = this.data.names.indexOf(image) * this.C;
    const { logits } = this.selected(this.runs[model][seed]), source = this.source(first / this.C);
    const rows = range(this.C).sort((a, b) => logits[first + b] - logits[first + a]).map(c => {
      const [verdict, mark] = this.verdict(this.scores[model][seed].decided[first + c], this.targets[first + c]);
      const name = link({ model, label: this.labels[c], seed }, this.labels[c]);
      return row(name, [number(probability(logits[first + c])), h("td", { class: mark }, verdict)]);
    });
    const picture = source ? h("img", { class: "big", src: source, alt: `Test image ${image}` })
      : h("p", {}, "The picture is not part of the site.");
    return [h("h2", { id: "door-title" }, image), this.chooser(asked),
      h("p", {}, link({ model, label: asked.label, seed }, `back to ${asked.label}`)),
      h("div", { class: "pair" }, h("div", {}, picture, this.ownDisk()),
        h("div", {}, fill(h("table"), ["label", "probability", "decision"], rows)))];
  }
  // What a decision is worth, and the class that colours it.
  verdict(claimed, target) {
    if (target === 0 && this.protocol.difficult === "ignore") return ["difficult, not counted", ""];
    if (claimed) return target === 1 ? ["detected", "hit-mark"] : ["false alarm", "miss-mark"];
    return target === 1 ? ["missed", "miss-mark"] : ["", ""];
  }

  source(i) {
    const name = this.data.names[i];
    if (this.data.pictures) return `${this.data.pictures}/${name}.webp`;
    return this.disk.get(name.split("/").pop().replace(/\.\w+$/, ""));
  }
  thumbnail(i, { model, label, seed }, text, right) {
    const image = this.data.names[i], src = this.source(i), href = `#${new URLSearchParams({ image, model, label, seed })}`;
    const picture = src ? h("img", { src, alt: `Test image ${image}`, loading: "lazy" }) : h("span", { class: "blank" }, image);
    return h("li", {}, h("a", { class: right ? "hit" : "miss", href }, picture, text));
  }
  // Photographs may not enter the site: the reader shows their folder, and they stay on this machine.
  ownDisk() {
    const change = event => {
      for (const file of [...event.target.files].filter(file => file.type.startsWith("image/")))
        this.disk.set(file.name.replace(/\.\w+$/, ""), URL.createObjectURL(file));
      this.open();
    };
    return this.data.pictures ? "" : h("p", {}, h("label", {}, "To see the photographs, choose the folder of the data set "
      + "on your disk; nothing leaves your machine. ", h("input", { type: "file", webkitdirectory: "", multiple: "", change })));
  }
  // The runs behind a number, and the notebook's cell that wrote its table.
  madeOf(model) {
    const { experiment, named, cells } = this.data, source = cells.per_class || cells.scores;
    const runs = this.runs[model].map(run => h("li", {}, run.commit ? h("a", { href: `runs/${run.folder}/run.yaml` },
      `run ${run.folder}, ended ${run.ended}, commit ${run.commit}, on ${run.device}`) : run.folder,
    h("div", {}, h("code", {}, run.command))));
    return [h("ul", {}, runs), h("p", {}, "Everything: ", h("code", {}, `make reproduce EXPERIMENT=${named}`),
      source ? h("a", { href: `${experiment}/${source}` }, " the cell of the notebook that shows it") : "")];
  }
}

window.live = new Live(DATA);
