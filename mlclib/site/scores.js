// The scores of mlclib/metrics in the browser: the same definitions, so the same figures (tests/test_site.py).
// logits and targets are flat, image by image; a target is 1 present, 0 difficult, -1 absent.
"use strict";

const RATES = ["CP", "CR", "CF1", "OP", "OR", "OF1"];
const DEFAULT = { ap: "ranks", difficult: "ignore", threshold: 0, top: 0, selection: "last" };

const sum = values => values.reduce((total, value) => total + value, 0);
const mean = values => sum(values) / values.length;
const defined = values => values.filter(value => !Number.isNaN(value));
const range = length => Array.from({ length }, (_, i) => i);

// An array from base64, little-endian as it was written.
const unpacked = (text, Kind) => new Kind(Uint8Array.from(atob(text), character => character.charCodeAt(0)).buffer);

// For each label the images by falling logit.
function ranked(logits, labels) {
  const images = range(logits.length / labels);
  return range(labels).map(c => Int32Array.from(images).sort((a, b) => logits[b * labels + c] - logits[a * labels + c]));
}

// The ranking of label c, one step for each logit that a positive has: [hits there, positives and negatives so far].
// often: how many times each image counts, as in a bootstrap draw; null for once.
function steps(order, logits, targets, labels, c, difficult, often) {
  const ranking = [];
  for (let at = 0, tp = 0, fp = 0; at < order.length; ) {
    const logit = logits[order[at] * labels + c];
    let hits = 0;
    for (; at < order.length && logits[order[at] * labels + c] === logit; at++) {
      const target = targets[order[at] * labels + c], times = often ? often[order[at]] : 1;
      if (target === 1) hits += times;
      else if (target === -1 || difficult === "absent") fp += times;
    }
    tp += hits;
    if (hits) ranking.push([hits, tp, fp]);
  }
  return ranking;
}

function averagePrecision(ranking, ap) {
  if (!ranking.length) return NaN;
  const total = ranking[ranking.length - 1][1];
  const precision = ranking.map(([, tp, fp]) => tp / (tp + fp));
  if (ap !== "ranks")  // the highest precision at this recall or a higher one
    for (let i = precision.length - 2; i >= 0; i--) precision[i] = Math.max(precision[i], precision[i + 1]);
  if (ap === "11-point")
    return sum(range(11).map(tenth => precision[ranking.findIndex(([, tp]) => 10 * tp >= tenth * total)])) / 11;
  return sum(ranking.map(([hits], i) => hits * precision[i])) / total;
}

// Which labels are predicted, 1 or 0: logit >= threshold and, with top, among the image's highest (of equals the first).
function decide(logits, labels, threshold, top) {
  const decided = new Uint8Array(logits.length);
  for (let start = 0; start < logits.length; start += labels) {
    const cells = range(labels).map(c => start + c);
    if (top && top < labels) cells.sort((a, b) => logits[b] - logits[a]).splice(top);
    for (const cell of cells) decided[cell] = logits[cell] >= threshold;
  }
  return decided;
}

// For each label [true positives, predicted, present].
function count(decided, targets, labels, difficult) {
  const counts = range(labels).map(() => [0, 0, 0]);
  for (let cell = 0; cell < targets.length; cell++) {
    if (targets[cell] === 0 && difficult === "ignore") continue;
    const label = counts[cell % labels], present = targets[cell] === 1;
    label[0] += decided[cell] && present;
    label[1] += decided[cell];
    label[2] += present;
  }
  return counts;
}

function rates(counts) {
  const present = counts.filter(label => label[2]), total = at => sum(counts.map(label => label[at]));
  const harmonic = (p, r) => 2 * p * r / (p + r || 1);
  const CP = mean(present.map(([tp, predicted]) => tp / Math.max(predicted, 1)));
  const CR = mean(present.map(([tp, , positives]) => tp / positives));
  const OP = total(0) / Math.max(total(1), 1), OR = total(0) / total(2);
  return { CP, CR, CF1: harmonic(CP, CR), OP, OR, OF1: harmonic(OP, OR) };
}

// The threshold of -1.0, -0.9, ..., 0.9 with the highest CF1 + OF1 on this very set, the lowest of equals.
function bestThreshold(logits, targets, labels, difficult, top) {
  let best = NaN, highest = -1;
  for (const threshold of range(20).map(i => (i - 10) / 10)) {
    const { CF1, OF1 } = rates(count(decide(logits, labels, threshold, top), targets, labels, difficult));
    if (CF1 + OF1 > highest) [best, highest] = [threshold, CF1 + OF1];
  }
  return best;
}

// As mlclib.metrics.scores.evaluate, with the counts and what was decided besides. orders: those of `ranked`.
function evaluate(logits, targets, labels, protocol = {}, orders = ranked(logits, labels)) {
  const { ap, difficult, threshold: given, top } = { ...DEFAULT, ...protocol };
  const threshold = given === "sweep" ? bestThreshold(logits, targets, labels, difficult, top) : given;
  const AP = orders.map((order, c) => averagePrecision(steps(order, logits, targets, labels, c, difficult, null), ap));
  const decided = decide(logits, labels, threshold, top), counts = count(decided, targets, labels, difficult);
  return { AP, mAP: mean(defined(AP)), ...rates(counts), threshold, decided, counts };
}

// Draws of test images, and of each model's seeds, as mlclib/metrics/resampling.py makes them, by this generator.
// models: for each its runs [{logits, orders}]. After draw(n), drawn[model] holds the mAP of each draw, the plain first,
// and bySeed[model][seed] that of each seed.
class Bootstrap {
  constructor(models, targets, labels, { ap, difficult }) {
    Object.assign(this, { models, targets, labels, ap, difficult, seed: 1, drawn: models.map(() => []) });
    this.bySeed = models.map(runs => runs.map(() => []));
    this.score(null, seeds => seeds);
  }
  score(often, pick) {
    const { targets, labels, difficult, ap } = this;
    this.models.forEach((runs, m) => {
      const each = runs.map(({ logits, orders }) => mean(defined(orders.map((order, c) =>
        averagePrecision(steps(order, logits, targets, labels, c, difficult, often), ap)))));
      each.forEach((value, seed) => this.bySeed[m][seed].push(value));
      this.drawn[m].push(mean(pick(each)));
    });
  }
  draw(times) {
    const images = this.targets.length / this.labels, one = length => Math.floor(this.random() * length);
    for (; times > 0; times--) {
      const often = new Int32Array(images);
      for (let i = 0; i < images; i++) often[one(images)]++;
      this.score(often, seeds => seeds.map(() => seeds[one(seeds.length)]));
    }
  }
  // A number in [0, 1): the generator of Park and Miller.
  random() { return (this.seed = this.seed * 48271 % 2147483647) / 2147483647; }
  get count() { return this.drawn[0].length - 1; }
  interval(model) { return interval(this.bySeed[model]); }
  // The two-sided p of no difference between two models.
  p(a, b) {
    const [plain, ...drawn] = defined(this.drawn[a].map((value, i) => value - this.drawn[b][i]));
    const least = 2 / (drawn.length + 1);
    if (drawn.every(d => d > 0) || drawn.every(d => d < 0)) return least;
    return Math.max(least, 2 * cdf(-Math.abs(standing(drawn, 0) - 2 * standing(drawn, plain))));
  }
}

// The distribution function of the normal, by its series; its inverse by halving.
function cdf(x) {
  if (Math.abs(x) > 8) return x > 0 ? 1 : 0;
  let total = x, term = x;
  for (let k = 3; Math.abs(term) > 1e-17; k += 2) total += term *= x * x / k;
  return 0.5 + total * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
}
function quantile(p) {
  let low = -8, high = 8;
  for (let i = 0; i < 60; i++) if (cdf((low + high) / 2) < p) low = (low + high) / 2; else high = (low + high) / 2;
  return (low + high) / 2;
}

// The normal quantile of the share of draws below `value`.
function standing(drawn, value) {
  const below = sum(drawn.map(d => (d < value ? 1 : d === value ? 0.5 : 0)));
  return quantile((below + 0.5) / (drawn.length + 1));
}

// The number below which Student's t with `freedom` lies with probability 0.975, by halving over Simpson's rule.
function student(freedom) {
  if (freedom > 1000) return quantile(0.975);
  // with t = √freedom tan θ the density becomes a power of cos θ, from 0 to a right angle
  const density = angle => Math.cos(angle) ** (freedom - 1);
  const simpson = end => end / 600 * sum(range(201).map(i =>
    density(i * end / 200) * (i % 200 ? i % 2 ? 4 : 2 : 1)));
  const wanted = 0.95 * simpson(Math.PI / 2);
  let low = 0, high = Math.PI / 2;
  for (let i = 0; i < 40; i++) if (simpson((low + high) / 2) < wanted) low = (low + high) / 2; else high = (low + high) / 2;
  return Math.sqrt(freedom) * Math.tan(low);
}

const variance = (values, about = mean(values)) => sum(values.map(v => (v - about) ** 2)) / (values.length - 1);

// The 95 % interval of the mean over seeds, as mlclib.metrics.resampling.bootstrap: seeds [S][plain, ...draws].
function interval(seeds) {
  const S = seeds.length, means = seeds[0].map((_, i) => mean(seeds.map(values => values[i])));
  const whole = range(means.length).filter(i => !Number.isNaN(means[i]));
  if (whole[0] !== 0 || whole.length < 3) return [NaN, NaN];
  const drawn = whole.slice(1), center = 2 * means[0] - mean(drawn.map(i => means[i]));
  const own = seeds.map(values => drawn.map(i => values[i] - means[i]));
  const both = S > 1 ? sum(own.map(values => variance(values))) / (S * (S - 1)) : 0;
  const bySeeds = S > 1 ? variance(seeds.map(values => values[0])) / S : 0;
  const images = Math.max(0, variance(drawn.map(i => means[i])) - both);
  const error2 = images + both + Math.max(0, bySeeds - both);
  const reach = Math.sqrt(error2) * student(bySeeds ? error2 ** 2 * (S - 1) / bySeeds ** 2 : Infinity);
  return [center - reach, center + reach].map(value => Math.min(1, Math.max(0, value)));
}

if (typeof module !== "undefined") module.exports = { RATES, DEFAULT, ranked, evaluate, Bootstrap };
