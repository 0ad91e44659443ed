// The scores of mlclib/metrics in the browser: the same definitions, so the same figures (tests/test_site.py).
// logits and targets are flat, image by image; a target is 1 present, 0 difficult, -1 absent.
"use strict";

const RATES = ["CP", "CR", "CF1", "OP", "OR", "OF1"];
const THRESHOLDS = Array.from({ length: 20 }, (_, i) => (i - 10) / 10);
const DEFAULT = { ap: "ranks", difficult: "ignore", threshold: 0, top: 0, selection: "last" };

// For each label the images by falling logit.
function ranked(logits, labels) {
  const images = logits.length / labels;
  return Array.from({ length: labels }, (_, c) => {
    const order = Int32Array.from({ length: images }, (_, i) => i);
    return order.sort((a, b) => logits[b * labels + c] - logits[a * labels + c]);
  });
}

// The ranking of label c, a step each logit that a positive has: [hits there, positives and negatives down to there].
// often: how many times each image counts, as in a bootstrap draw; null for once.
function steps(order, logits, targets, labels, c, difficult, often) {
  const found = [];
  for (let at = 0, tp = 0, fp = 0; at < order.length; ) {
    const logit = logits[order[at] * labels + c];
    let hits = 0;
    for (; at < order.length && logits[order[at] * labels + c] === logit; at++) {
      const target = targets[order[at] * labels + c], times = often ? often[order[at]] : 1;
      if (target === 1) hits += times;
      else if (target === -1 || difficult === "absent") fp += times;
    }
    tp += hits;
    if (hits) found.push([hits, tp, fp]);
  }
  return found;
}

function averagePrecision(found, ap) {
  if (!found.length) return NaN;
  const total = found[found.length - 1][1];
  const precision = found.map(([, tp, fp]) => tp / (tp + fp));
  if (ap === "11-point") {
    let sum = 0;
    for (let tenth = 0; tenth <= 10; tenth++) {
      let best = 0;
      found.forEach(([, tp], i) => { if (10 * tp >= tenth * total && precision[i] > best) best = precision[i]; });
      sum += best;
    }
    return sum / 11;
  }
  if (ap === "envelope")
    for (let i = precision.length - 2; i >= 0; i--) precision[i] = Math.max(precision[i], precision[i + 1]);
  return found.reduce((sum, [hits], i) => sum + hits * precision[i], 0) / total;
}

function meanDefined(values) {
  const defined = values.filter(value => !Number.isNaN(value));
  return defined.length ? defined.reduce((sum, value) => sum + value, 0) / defined.length : NaN;
}

// Which labels are predicted, 1 or 0: logit >= threshold and, with top, among the image's highest (of equals the first).
function decide(logits, labels, threshold, top) {
  const decided = new Uint8Array(logits.length);
  for (let start = 0; start < logits.length; start += labels) {
    if (!top || top >= labels) {
      for (let c = start; c < start + labels; c++) decided[c] = logits[c] >= threshold;
      continue;
    }
    const taken = new Set();
    while (taken.size < top) {
      let best = -1;
      for (let c = start; c < start + labels; c++)
        if (!taken.has(c) && (best < 0 || logits[c] > logits[best])) best = c;
      taken.add(best);
      decided[best] = logits[best] >= threshold;
    }
  }
  return decided;
}

// For each label [true positives, predicted, present].
function count(decided, targets, labels, difficult) {
  const counts = Array.from({ length: labels }, () => [0, 0, 0]);
  for (let cell = 0; cell < targets.length; cell++) {
    if (targets[cell] === 0 && difficult === "ignore") continue;
    const of = counts[cell % labels], present = targets[cell] === 1;
    of[0] += decided[cell] && present;
    of[1] += decided[cell];
    of[2] += present;
  }
  return counts;
}

function rates(counts) {
  const known = counts.filter(([, , present]) => present);
  const sum = at => counts.reduce((total, of) => total + of[at], 0);
  const harmonic = (p, r) => 2 * p * r / (p + r || 1);
  const cp = meanDefined(known.map(([tp, predicted]) => tp / Math.max(predicted, 1)));
  const cr = meanDefined(known.map(([tp, , present]) => tp / present));
  const op = sum(0) / Math.max(sum(1), 1), or = sum(2) ? sum(0) / sum(2) : NaN;
  return { CP: cp, CR: cr, CF1: harmonic(cp, cr), OP: op, OR: or, OF1: harmonic(op, or) };
}

// The threshold of -1.0, -0.9, ..., 0.9 with the highest CF1 + OF1 on this very set, the lowest of equals.
function bestThreshold(logits, targets, labels, difficult, top) {
  let best = NaN, highest = -1;
  for (const threshold of THRESHOLDS) {
    const found = rates(count(decide(logits, labels, threshold, top), targets, labels, difficult));
    if (found.CF1 + found.OF1 > highest) [best, highest] = [threshold, found.CF1 + found.OF1];
  }
  return best;
}

// As mlclib.metrics.scores.evaluate, with the counts and what was decided besides. orders: those of `ranked`.
function evaluate(logits, targets, labels, protocol = {}, orders = ranked(logits, labels)) {
  const { ap, difficult, threshold: given, top } = { ...DEFAULT, ...protocol };
  const threshold = given === "sweep" ? bestThreshold(logits, targets, labels, difficult, top) : given;
  const AP = orders.map((order, c) => averagePrecision(steps(order, logits, targets, labels, c, difficult, null), ap));
  const decided = decide(logits, labels, threshold, top), counts = count(decided, targets, labels, difficult);
  return { AP, mAP: meanDefined(AP), ...rates(counts), threshold, decided, counts };
}

// A generator of numbers in [0, 1) from a seed (mulberry32).
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// Draws of test images, and of each model's seeds, as mlclib/metrics/resampling.py makes them, by this generator.
// models: for each its runs [{logits, orders}]. After draw(n), drawn[model] holds the mAP of each draw, the plain first.
class Bootstrap {
  constructor(models, targets, labels, { ap, difficult }, seed = 0) {
    Object.assign(this, { models, targets, labels, ap, difficult, random: generator(seed + 1) });
    this.images = targets.length / labels;
    this.drawn = models.map(() => []);
    this.score(null, runs => runs);
  }
  score(often, pick) {
    this.models.forEach((runs, m) => {
      const each = runs.map(({ logits, orders }) => meanDefined(orders.map((order, c) => averagePrecision(
        steps(order, logits, this.targets, this.labels, c, this.difficult, often), this.ap))));
      this.drawn[m].push(pick(each).reduce((sum, value) => sum + value, 0) / runs.length);
    });
  }
  draw(times) {
    for (; times > 0; times--) {
      const often = new Int32Array(this.images);
      for (let i = 0; i < this.images; i++) often[Math.floor(this.random() * this.images)]++;
      this.score(often, each => each.map(() => each[Math.floor(this.random() * each.length)]));
    }
  }
  interval(model) { return interval(this.drawn[model]); }
  // The two-sided p of no difference between two models.
  p(a, b) {
    const [plain, ...drawn] = this.drawn[a].map((value, i) => value - this.drawn[b][i]).filter(x => !Number.isNaN(x));
    if (!drawn.length) return NaN;
    const least = 2 / (drawn.length + 1);
    if (drawn.every(d => d > 0) || drawn.every(d => d < 0)) return least;
    return Math.max(least, 2 * cdf(-Math.abs(standing(drawn, 0) - 2 * standing(drawn, plain))));
  }
}

// The distribution function of the normal, by its series; its inverse by halving.
function cdf(x) {
  if (Math.abs(x) > 8) return x > 0 ? 1 : 0;
  let sum = x, term = x;
  for (let k = 3; Math.abs(term) > 1e-17; k += 2) sum += term *= x * x / k;
  return 0.5 + sum * Math.exp(-x * x / 2) / Math.sqrt(2 * Math.PI);
}
function quantile(p) {
  let low = -8, high = 8;
  for (let i = 0; i < 60; i++) if (cdf((low + high) / 2) < p) low = (low + high) / 2; else high = (low + high) / 2;
  return (low + high) / 2;
}
function standing(drawn, value) {
  const below = drawn.reduce((sum, d) => sum + (d < value ? 1 : d === value ? 0.5 : 0), 0);
  return quantile((below + 0.5) / (drawn.length + 1));
}

// The bias-corrected 95 % percentile interval of [plain, ...draws].
function interval(values) {
  const plain = values[0], drawn = values.slice(1).filter(value => !Number.isNaN(value)).sort((a, b) => a - b);
  if (Number.isNaN(plain) || !drawn.length) return [NaN, NaN];
  const bias = 2 * standing(drawn, plain), reach = quantile(0.975);
  return [bias - reach, bias + reach].map(at => {
    const place = cdf(at) * (drawn.length - 1), below = Math.floor(place), above = Math.min(below + 1, drawn.length - 1);
    return drawn[below] + (place - below) * (drawn[above] - drawn[below]);
  });
}

// An array from base64, little-endian as it was written.
function unpacked(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), character => character.charCodeAt(0)).buffer);
}

if (typeof module !== "undefined")
  module.exports = { RATES, DEFAULT, ranked, evaluate, steps, averagePrecision, Bootstrap, interval, unpacked };
