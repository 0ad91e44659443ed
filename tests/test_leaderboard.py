"""The leaderboard says what is better, what is the same and what cannot be told; checked against other ways to the
same numbers, and where the truth is known.
"""

import re
import shutil
from itertools import combinations

import numpy as np
import pytest
from made_runs import make
from scipy.stats import friedmanchisquare, norm, rankdata, t, ttest_ind

from mlclib import config
from mlclib.common.errors import UserError
from mlclib.metrics import pairwise as leaderboard
from mlclib.metrics import resampling as significance
from mlclib.metrics.pairwise import BETTER, EQUIVALENT, UNKNOWN, WORSE
from mlclib.metrics.scores import best_threshold, evaluate
from mlclib.metrics.variance import VarianceComponents
from mlclib.models import title
from mlclib.results import ablation, across, findings
from mlclib.results import leaderboard as tables
from mlclib.results import scores as performance
from mlclib.runs import store

ONES = np.ones((200, 1), dtype=np.int8)


def logits_of(shares: list[float], rng: np.random.Generator, images: int = 200) -> np.ndarray:
    """Logits [S, images, 1] of seeds that find each label, present in all images, with these chances: "OR" is it."""
    return np.stack([norm.ppf(share) + rng.standard_normal((images, 1)) for share in shares])


# Verdicts


def test_a_better_an_equal_and_an_unclear_pair_get_their_verdicts():
    rng = np.random.default_rng(0)
    marks = np.where(rng.random((400, 5)) < 0.3, 1, -1).astype(np.int8)
    noise = rng.standard_normal(marks.shape)
    good, bad, near = marks + noise, 0.3 * marks + noise, marks + rng.standard_normal(marks.shape)
    same = good + 0.02 * rng.standard_normal(marks.shape)
    pairs = leaderboard.compare([good, bad, same, near], marks, margin=0.01, draws=500)
    verdicts = {(pair.a, pair.b): pair.verdict for pair in pairs}
    assert list(verdicts) == list(combinations(range(4), 2))
    assert verdicts[0, 1] == BETTER and verdicts[1, 2] == WORSE
    assert verdicts[0, 2] == EQUIVALENT and verdicts[0, 3] == UNKNOWN


def test_the_same_p_as_where_the_others_are_compared_with_the_highest():
    rng = np.random.default_rng(1)
    models = [logits_of([0.6, 0.65, 0.62], rng), logits_of([0.55, 0.6], rng)]
    (pair,) = leaderboard.compare(models, ONES, "OR", margin=0.01, draws=300)
    back = significance.paired_bootstrap(models[1], models[0], ONES, "OR", draws=300)
    assert pair.difference.p == back.p and pair.difference.delta == pytest.approx(-back.delta)


def test_p_of_equivalence_is_that_of_two_one_sided_normal_tests():
    # independent Bernoulli scores: the difference is normal to a good approximation, its error known
    rng = np.random.default_rng(2)
    ones = np.ones((4000, 1), dtype=np.int8)
    a, b = logits_of([0.60], rng, 4000), logits_of([0.595], rng, 4000)
    (pair,) = leaderboard.compare([a, b], ones, "OR", margin=0.03, draws=4000)
    shares = [(model >= 0).mean() for model in (a, b)]
    error = np.sqrt(sum(p * (1 - p) for p in shares) / 4000)
    delta = shares[0] - shares[1]
    wanted = max(norm.sf((delta + 0.03) / error), norm.cdf((delta - 0.03) / error))
    assert pair.p_equivalence == pytest.approx(wanted, abs=0.01) and 0.001 < wanted < 0.2
    assert pair.variance.smallest_gap == pytest.approx((1.959964 + 0.841621) * error, rel=0.05)


def test_equivalence_is_shown_just_where_the_smallest_margin_lies_below_the_margin():
    rng, seen = np.random.default_rng(3), set()
    for _ in range(30):
        a, b = logits_of([0.6], rng), logits_of([0.6], rng)
        (pair,) = leaderboard.compare([a, b], ONES, "OR", margin=0.12, draws=400)
        if abs(pair.p_equivalence - 0.05) > 0.015:
            within = pair.equivalent_within < 0.12
            assert within == (pair.p_equivalence < 0.05) == (pair.verdict == EQUIVALENT)
            seen.add(within)
    assert seen == {True, False}


def test_p_is_corrected_for_all_pairs_as_holm_does():
    p = [0.01, 0.04, np.nan, 0.03, 0.005]
    by_definition = [0.03, 0.06, np.nan, 0.06, 0.02]  # 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04 no less than that
    np.testing.assert_allclose(leaderboard.holm(p), by_definition)
    assert leaderboard.holm([]).size == 0


# What it would take


def test_the_variance_is_split_into_images_seeds_and_both():
    # the score of a seed on an image: what the seed brings, what the image brings for this model, what both bring
    rng = np.random.default_rng(7)
    sd = {"images": 0.5, "both": 0.8, "seeds": 0.1}
    images, seeds, draws = 120, 4, 150
    estimates = []
    for _ in range(250):
        models = []
        counts = rng.multinomial(images, np.full(images, 1 / images), draws).T / images
        counts = np.concatenate([np.full((images, 1), 1 / images), counts], axis=1)
        for _model in range(2):
            values = sd["seeds"] * rng.standard_normal((seeds, 1)) + sd["images"] * rng.standard_normal(images)
            models.append((values + sd["both"] * rng.standard_normal((seeds, images))) @ counts)
        estimates.append(leaderboard.variance_components(*models))
    of_images, both, of_seeds = np.mean([parts[:3] for parts in estimates], axis=0)
    assert of_images == pytest.approx(2 * sd["images"] ** 2 / images, rel=0.1)
    assert both == pytest.approx(2 * sd["both"] ** 2 / images / seeds, rel=0.1)
    assert of_seeds == pytest.approx(2 * sd["seeds"] ** 2 / seeds, rel=0.15)
    assert np.mean([parts.seed_variances for parts in estimates]) * 2 == pytest.approx(both + of_seeds, rel=0.05)


def test_images_and_seeds_needed_are_the_fewest_of_one_digit_with_80_percent_power():
    def at(images: float, seeds: float) -> VarianceComponents:
        of_seeds = 1e-3 / seeds
        return VarianceComponents(0.2 / images, 0.0, of_seeds, (of_seeds / 2, of_seeds / 2), (seeds, seeds), level=0.01)

    one_digit = [n * 10**k for k in range(6) for n in range(1, 10)]
    here = at(500, 5)
    for gap in (0.09, 0.1):
        enough = [n for n in one_digit if at(n, 5).power(gap) >= 0.8]
        assert here.images_needed(gap, 500) == enough[0]
        enough = [n for n in one_digit if n > 1 and at(500, n).power(gap) >= 0.8]
        assert here.seeds_needed(gap) == enough[0]
    assert np.isnan(here.images_needed(0.02, 500))  # the seeds alone are worth more
    assert np.isnan(here.seeds_needed(0.05)) and np.isnan(here.seeds_needed(0.0))  # the images alone are
    wide = VarianceComponents(images=4e-2, interaction=0.0, seeds=0.0, seed_variances=(0.0, 0.0), counts=(3, 3))
    assert wide.images_needed(0.1, 400) > 4000 and np.isnan(wide.images_needed(0.01, 400))  # beyond 100 times 400
    assert here.images_needed(here.smallest_gap + 1e-9, 500) == 500
    assert here.power(here.smallest_gap) == pytest.approx(0.8, abs=1e-6)


def test_few_seeds_that_carry_the_variance_leave_few_degrees_of_freedom():
    few = VarianceComponents(images=0.0, interaction=0.0, seeds=2e-4, seed_variances=(1e-4, 1e-4), counts=(3, 3))
    assert few.degrees_of_freedom == pytest.approx(4) and few.seeds_share == 1
    welch = ttest_ind([0.1, 0.2, 0.15], [0.3, 0.5, 0.42], equal_var=False)
    scores = [np.repeat([[0.1], [0.2], [0.15]], 9, 1), np.repeat([[0.3], [0.5], [0.42]], 9, 1)]
    parts = leaderboard.variance_components(*scores)  # resamples that do not differ: all of the variance is the seeds'
    assert parts.degrees_of_freedom == pytest.approx(welch.df)
    assert 2 * parts.p_above(abs(np.mean(scores[0]) - np.mean(scores[1]))) == pytest.approx(welch.pvalue)
    assert VarianceComponents(1e-4, 0.0, np.nan, (np.nan, np.nan), (1, 1)).degrees_of_freedom == np.inf
    assert few.half_width(0.95) == pytest.approx(t.ppf(0.975, 4) * 2e-4**0.5)


def test_the_p_of_a_pair_is_that_of_the_t_test_where_seeds_dominate():
    rng = np.random.default_rng(15)
    models = [logits_of(shares, rng, images=4000) for shares in ([0.5, 0.6, 0.7], [0.6, 0.7, 0.8])]
    (pair,) = leaderboard.compare(models, np.ones((4000, 1), np.int8), "OR", margin=0.01, draws=400)
    shares = [(model >= 0).mean((1, 2)) for model in models]
    assert pair.p == pytest.approx(ttest_ind(*shares, equal_var=False).pvalue, rel=0.1)
    assert pair.p > 2 * pair.difference.p


@pytest.mark.parametrize("share", [0.38, 0.42])
def test_a_pair_is_flagged_where_seeds_carry_more_than_40_percent_of_the_variance(share):
    variance = VarianceComponents(1 - share, 0.0, share, (share / 2,) * 2, (3, 3))
    assert leaderboard.Pair(0, 1, None, 1, 1, 1, variance).hangs_on_seeds == (share > 0.4)


def test_a_verdict_needs_both_tests_and_a_pair_that_hangs_on_seeds_is_flagged():
    rng, flags, shown = np.random.default_rng(15), 0, 0
    for _ in range(20):  # equal models whose seeds differ far more than images could
        models = [logits_of(0.6 + 0.1 * rng.standard_normal(3), rng, images=2000) for _ in range(2)]
        (pair,) = leaderboard.compare(models, np.ones((2000, 1), np.int8), "OR", margin=0.01, draws=300)
        assert pair.p >= pair.difference.p
        flags += pair.hangs_on_seeds
        shown += pair.verdict in (BETTER, WORSE)
    assert flags >= 16 and shown <= 4


def test_with_one_seed_the_variance_between_seeds_is_nan():
    rng = np.random.default_rng(8)
    (pair,) = leaderboard.compare([logits_of([0.7], rng), logits_of([0.6], rng)], ONES, "OR", margin=0.01, draws=300)
    assert np.isnan(pair.variance.seeds) and np.isnan(pair.variance.seeds_needed(0.1))
    assert np.isfinite(pair.variance.smallest_gap) and np.isfinite(pair.variance.images_needed(0.1, 200))


# Ranks and letters


def shown(edges: list[tuple[int, int]], count: int) -> np.ndarray:
    better = np.zeros((count, count), dtype=bool)
    for winner, loser in edges:
        better[winner, loser] = True
    return better


def test_ranks_count_who_is_shown_better_and_worse():
    better = shown([(0, 2), (0, 3), (1, 3)], 4)
    assert leaderboard.rank_intervals(better) == [(1, 2), (1, 3), (2, 4), (3, 4)]


def test_ties_are_the_largest_sets_of_models_without_a_shown_difference():
    assert leaderboard.letters(shown([(0, 2), (0, 3), (1, 3)], 4)) == ["a", "ab", "bc", "c"]
    rng = np.random.default_rng(13)
    for _ in range(60):
        count = int(rng.integers(2, 8))
        better = np.triu(rng.random((count, count)) < rng.random(), 1)
        sets = list(map(tuple, leaderboard.ties(better).values()))
        apart = better | better.T
        free = [s for k in range(1, count + 1) for s in combinations(range(count), k) if not apart[np.ix_(s, s)].any()]
        largest = {s for s in free if not any(set(s) < set(other) for other in free)}
        assert set(sets) == largest and sets == sorted(sets)
    many = leaderboard.ties(shown(list(combinations(range(54), 2)), 54))
    assert [*many][-4:] == ["Y", "Z", "a'", "b'"] and many["b'"] == [53]


# Several data sets


def test_ranks_over_data_sets_are_those_of_friedman_and_nemenyi():
    scores = np.random.default_rng(14).normal([0, 0.5, 1, 3], 1, size=(9, 4)).round(1)
    ranks = leaderboard.ranks_across(scores)
    np.testing.assert_allclose(ranks.average, np.mean([rankdata([-x for x in row]) for row in scores], axis=0))
    assert (ranks.statistic, ranks.p) == pytest.approx(tuple(friedmanchisquare(*scores.T)))
    for models, table in zip(
        range(2, 11), (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164), strict=True
    ):
        critical = leaderboard.ranks_across(np.random.default_rng(0).random((12, models))).critical
        reach = critical / np.sqrt(models * (models + 1) / 72)
        assert reach == pytest.approx(table, abs=1e-3)  # Demsar's table 5a


@pytest.mark.parametrize("scores", [[[1.0, 2.0, 3.0]], [[1.0], [2.0]], [[1.0, np.nan], [1.0, 2.0]], [1.0, 2.0]])
def test_ranks_over_one_data_set_or_of_missing_scores_are_refused(scores):
    with pytest.raises(UserError, match="two models or more on each of two data sets"):
        leaderboard.ranks_across(scores)


def test_few_data_sets_have_ranks_alone():
    scores = np.random.default_rng(16).random((5, 3))
    four = leaderboard.ranks_across(scores[:4])
    np.testing.assert_allclose(four.average, rankdata(-scores[:4], axis=1).mean(0))
    assert np.isnan([four.statistic, four.p, four.critical]).all()
    assert np.isfinite(leaderboard.ranks_across(scores).critical)


# Tables, figure and findings


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two models at the top that are alike but for chance, a baseline and a last one; three seeds each."""
    results, marks = tmp_path_factory.mktemp("results"), targets()
    gains = {"linear": 0.8, "msrn": 1.5, "gmp": 0.2, "dsdl": 1.49}
    return {m: [make(results, m, seed, gain, marks=marks) for seed in range(3)] for m, gain in gains.items()}


def targets() -> np.ndarray:
    return np.where(np.random.default_rng(5).random((150, 5)) < 0.3, 1, -1).astype(np.int8)


@pytest.fixture(scope="module")
def contest(models):
    return tables.compare_all(models)


def test_the_leaderboard_goes_from_the_highest_mAP_and_states_ranks_and_ties(models, contest):
    board, pairs = tables.tables(contest)
    frame, scores = board.frame, performance.scores_table(models).frame.set_index("model")
    assert list(frame["model"]) == list(scores["mAP"].sort_values(ascending=False).index)
    for column in ("mAP", "mAP low", "mAP high", "CF1", "OF1"):
        np.testing.assert_allclose(frame[column], scores.loc[frame["model"], column])
    assert list(frame["rank"]) == ["1–2", "1–2", "3", "4"] and list(frame["ties"]) == ["a", "a", "b", "c"]
    assert len(pairs.frame) == 6 and set(pairs.runs) == set(pairs.frame["pair"])
    for (a, b), delta in zip(pairs.frame["pair"].str.split(" vs "), pairs.frame["Δ mAP"], strict=True):
        assert delta == pytest.approx(scores["mAP"][a] - scores["mAP"][b])
    np.testing.assert_allclose(pairs.frame["p"], leaderboard.holm([pair.p for pair in contest.pairs]))
    first = contest.pairs[0]
    row = pairs.frame.iloc[0]
    assert row["equivalent within"] == pytest.approx(100 * first.equivalent_within)
    np.testing.assert_equal(row["images for 2 points"], first.variance.images_needed(0.02, 150))
    np.testing.assert_equal(row["seeds for 1 point"], first.variance.seeds_needed(0.01))
    assert row["p"] >= scores["p"].dropna().max()  # corrected, of the same test


def test_where_labels_are_rare_the_headline_is_over_the_frequent_ones(tmp_path):
    marks = targets()
    marks[10:, 1] = -1  # few positives are left
    runs = {}
    for model, gain, rare in (("gmp", 0.3, 9), ("gap", 1, -9)):  # the rare label alone would turn the order
        runs[model] = [make(tmp_path, model, seed, gain, marks=marks) for seed in (0, 1)]
        for run in runs[model]:
            run.logits["last"][:, 1] = rare * marks[:, 1]
    board, pairs = tables.tables(tables.compare_all(runs))
    frequent = [0, 2, 3, 4]
    assert board.frame["model"].tolist() == ["gap", "gmp"]
    for row, model in enumerate(("gap", "gmp")):
        for column, labels in (("mAP, frequent labels", frequent), ("mAP, all labels", None)):
            scores = [evaluate(run.logits["last"], marks, labels=labels)["mAP"] for run in runs[model]]
            assert board.frame[column][row] == pytest.approx(100 * np.mean(scores))
        stack = np.stack([run.logits["last"] for run in runs[model]])
        interval = significance.bootstrap(stack, marks, draws=10_000, labels=frequent)
        ends = board.frame.loc[row, ["mAP, frequent labels low", "mAP, frequent labels high"]]
        assert list(ends) == pytest.approx([100 * end for end in interval])
    delta = board.frame["mAP, frequent labels"][0] - board.frame["mAP, frequent labels"][1]
    assert pairs.frame["Δ mAP"][0] == pytest.approx(delta)
    scores = performance.scores_table(runs)
    assert all("Left out: car." in table.caption for table in (board, pairs, scores))
    np.testing.assert_allclose(scores.frame["mAP, frequent labels"], board.frame["mAP, frequent labels"][::-1])
    assert scores.frame["p"][0] < 0.05 and np.isnan(scores.frame["p"][1])


def test_a_contest_of_few_images_or_one_seed_says_what_it_cannot(tmp_path, models, contest):
    assert tables.caution_sentence(contest) == ""
    few = {model: [make(tmp_path, model, 0, marks=targets()[:30])] for model in ("gmp", "gap")}
    sentence = tables.caution_sentence(tables.compare_all(few))
    assert "trained once" in sentence and "test images are few" in sentence


def test_f1_is_at_the_threshold_chosen_on_validation_images_where_all_runs_have_some(tmp_path):
    runs = [make(tmp_path, "gmp", seed, marks=targets()) for seed in (0, 1)]
    without = performance.scores_table({"gmp": runs})
    assert "CF1 at 0" not in without.frame
    for run in runs:
        run.logits["last"][:] -= 2  # far below what 0 would be right for
        logits = run.logits["last"] + np.float32(0.1)
        store.write_predictions(run.folder / "validation.npz", run.names, run.targets, last=logits)
    table = performance.scores_table({"gmp": runs})
    for name in ("CP", "CR", "CF1", "OP", "OR", "OF1"):
        values = [evaluate(r.logits["last"], r.targets, threshold=best_threshold(*r.validation))[name] for r in runs]
        assert table.frame[name][0] == pytest.approx(100 * np.mean(values))
    at_zero = 100 * np.mean([evaluate(run.logits["last"], run.targets)["CF1"] for run in runs])
    assert table.frame["CF1 at 0"][0] == pytest.approx(at_zero) and at_zero < table.frame["CF1"][0]
    assert "CF1 at 0" not in performance.scores_table({"gmp": runs}, selection="best_test").frame


def test_tables_of_pairs_leave_out_what_no_number_would_show(models, tmp_path):
    same = tables.compare_all({"dsdl": models["dsdl"], "twin": models["dsdl"]})
    pairs = tables.pairs_table(same).write(tmp_path)
    assert pairs.frame["Δ mAP"][0] == 0
    assert not re.search(r"\b(nan|inf)\b", pairs._repr_markdown_(), re.I)


def test_there_are_draws_enough_for_a_difference_among_many_pairs(models, monkeypatch):
    monkeypatch.setattr(tables.captions, "draws", lambda reference: 100)
    contest = tables.compare_all(models)
    assert contest.draws == 240 and f"{contest.draws} paired bootstrap draws" in tables.pairs_table(contest).protocol
    assert {pair.verdict for pair in contest.pairs} == {BETTER, UNKNOWN}


def test_one_model_or_hidden_labels_make_no_leaderboard(models, tmp_path):
    assert tables.tables(tables.compare_all({"msrn": models["msrn"]})) == []
    hidden = -np.ones((30, 5), dtype=np.int8)
    none = tables.compare_all({m: [make(tmp_path, m, marks=hidden)] for m in ("gmp", "msrn")})
    assert tables.tables(none) == []
    assert "labels of the test images are not public" in findings.sentences(none, {})[0]
    (alone,) = findings.sentences(tables.compare_all({"msrn": models["msrn"]}), {})
    assert "No other model is scored here" in alone
    theirs = [make(tmp_path, "theirs", marks=targets(), selections=("last",))]
    kept = tables.compare_all({**models, "theirs": theirs}, selection="best_test")
    assert "theirs" not in kept.names and len(kept.pairs) == 6


def test_the_figure_shows_each_seed_and_joins_models_that_tie(models, contest):
    figure = tables.leaderboard_figure(tables.leaderboard_table(contest), contest)
    scores, ties = figure.axes
    assert [text.get_text() for text in scores.get_yticklabels()] == [title(name) for name in contest.names]
    joined = [list(line.get_ydata()) for line in ties.lines]
    assert joined == [[0, 1], [2], [3]]
    assert "2 models may be first" in figure.get_suptitle()


def test_findings_say_what_the_tables_say(models, contest):
    sentences = findings.sentences(contest, {})
    best = contest.names[0]
    first, second = map(title, contest.names[:2])
    frame = tables.leaderboard_table(contest).frame
    assert sentences[0] == (
        f"{first} has the highest mAP on scenes: {frame['mAP'][0]:.1f} % (95 % interval {frame['mAP low'][0]:.1f} to "
        f"{frame['mAP high'][0]:.1f}). It is shown to be better than the linear baseline and GMP. No difference "
        f"from {second} is shown."
    )
    row = tables.pairs_table(contest).frame.set_index("pair").loc[f"{best} vs linear"]
    gain = f"{first} ({row['Δ mAP']:+.1f} points, 95 % interval {row['Δ low']:+.1f} to {row['Δ high']:+.1f})"
    assert sentences[1].startswith(f"Shown to be better than the linear baseline: {gain} and {second} (")
    assert sentences[1].endswith("). Shown to be worse: GMP.")
    gaps = tables.pairs_table(contest).frame["smallest gap"]
    assert "shown for 5 of 6 pairs of models" in sentences[2]
    assert f"than 2 points: {(gaps <= 2).sum()}." in sentences[2]
    assert sentences[3].startswith("No choice of protocol (AP") and len(sentences) == 4


def test_findings_change_with_the_runs(models):
    sentences = findings.sentences(tables.compare_all({"linear": models["msrn"], "gmp": models["gmp"]}), {})
    assert sentences[0].startswith("The linear baseline has the highest mAP ") and sentences[0].endswith(
        "better than GMP."
    )
    assert sentences[1] == "Shown to be better than the linear baseline: no model. Shown to be worse: GMP."


def test_a_protocol_that_turns_a_pair_is_named(tmp_path):
    gmp, gap = (make(tmp_path, model, gain=gain, marks=targets()) for model, gain in (("gmp", 0.4), ("gap", 1.5)))
    gmp.logits["best_test"][:] = gap.logits["last"] + targets()
    *_, sentence = findings.sentences(tables.compare_all({"gmp": [gmp], "gap": [gap]}), {})
    assert sentence.startswith(
        "Some choices of protocol change the mAP order of pairs shown to differ: GAP vs GMP (epoch"
    )
    assert "Some choices put another model first: GMP (epoch: the best on the test set)" in sentence


def test_findings_name_the_variant_that_matters_most(models):
    variants = {"2": models["gmp"], "3": models["linear"], "2, 3, 4": models["msrn"]}
    table = ablation.axis_table("msrn", "layers", variants, models["msrn"])
    sentence = ablation.variants_sentence({"msrn": table})
    most = "to differ from the full model (q < 0.05). The largest difference is MSRN, layers 2: "
    assert sentence.startswith(f"Of 2 variants of MSRN, 2 are shown {most}")
    alike = ablation.axis_table("msrn", "layers", {"2": models["dsdl"]}, models["msrn"])
    none = ablation.variants_sentence({"msrn": alike})
    assert none == "Of 1 variant of MSRN, none is shown to differ from the full model (q < 0.05)."
    both = ablation.variants_sentence({"dsdl": alike, "msrn": table})
    assert both.startswith(f"Of 3 variants of DSDL and MSRN, 2 are shown {most}")


@pytest.fixture
def experiments(tmp_path, monkeypatch):
    """Writes an experiment's YAML file and its leaderboard of these gains of three models."""
    monkeypatch.setattr(config, "FOLDER", tmp_path / "experiments")
    config.FOLDER.mkdir()

    def write(name, data, gains, more=""):
        text = f"title: {name}\ndataset: {{name: {data}}}\nmodels: {{gmp: , msrn: , dsdl: }}\n{more}"
        (config.FOLDER / f"{name}.yaml").write_text(text)
        runs = {
            model: [make(tmp_path / name, model, 0, gain, marks=targets(), data=data)]
            for model, gain in zip(("gmp", "msrn", "dsdl"), gains, strict=True)
        }
        for table in tables.tables(tables.compare_all(runs)):
            table.write(tmp_path / name / "tables")

    return write


def test_models_are_ranked_over_independent_data_sets_of_one_protocol(tmp_path, experiments):
    experiments("one", "scenes", (0.3, 1.0, 2.0))
    experiments("two", "voc2007", (0.4, 0.9, 2.0), "input_size: 128\n")  # an input size of its own
    experiments(
        "both", "voc2007+2012", (2.0, 0.9, 0.3), "ablation: {msrn: {layers: [[4]]}}\n"
    )  # shares images with two
    experiments("frozen", "coco2014", (2.0, 0.9, 0.3), "backbone: {frozen: true}\n")
    experiments("gone", "nuswide", (2.0, 0.9, 0.3))
    (config.FOLDER / "gone.yaml").unlink()
    (tmp_path / "one" / "tables" / "leaderboard.json").unlink()  # it is not tracked
    (table,) = across.rank_tables(tmp_path)
    assert list(table.frame) == ["model", "average rank", "one", "two"]  # too few sets for a test or ties
    assert dict(zip(table.frame["model"], table.frame["average rank"], strict=True)) == {"dsdl": 1, "msrn": 2, "gmp": 3}
    for name, data in (("three", "coco2014"), ("four", "nuswide"), ("five", "apparel")):
        experiments(name, data, (0.3, 1.0, 2.0))
    (table,) = across.rank_tables(tmp_path)
    assert list(table.frame["ties"]) == ["a", "ab", "b"]
    assert f"{2.3437 * np.sqrt(3 * 4 / 30):.2f}" in table.protocol and "Friedman" in table.protocol


def test_a_pair_whose_order_differs_between_two_experiments_is_named(tmp_path, experiments):
    for name, gains in {"one": (0.2, 1.0, 2.0), "two": (2.0, 1.0, 0.2), "three": (0.2, 1.0, 2.0)}.items():
        experiments(name, "scenes", gains)
    alike, table = across.reversal_tables(tmp_path)
    assert alike.frame.empty  # "two" turns every pair
    frame = table.frame.set_index(["experiment", "and"])
    assert set(frame.index) == {("one", "three"), ("one", "two"), ("three", "two")}
    assert frame.loc[("one", "three")].tolist() == [3, 0, "none"]
    assert frame.loc[("one", "two")].tolist() == [3, 3, "DSDL vs GMP, DSDL vs MSRN, MSRN vs GMP"]
    assert across.reversal_tables(tmp_path / "one") == []
    shutil.rmtree(tmp_path / "two")
    every = across.reversal_tables(tmp_path)[0].frame
    assert every.to_numpy().tolist() == [["DSDL", "GMP and MSRN", "one, three"], ["MSRN", "GMP", "one, three"]]


def test_margins_and_levels_of_several_pairs_are_for_all_of_them_together():
    rng = np.random.default_rng(4)
    equal = [logits_of([0.6], rng) for _ in range(3)]
    pairs = leaderboard.compare(equal, ONES, "OR", margin=0.15, draws=400)
    for pair in pairs:
        reach = norm.ppf(1 - 0.05 / 3) * pair.variance.standard_error  # of a one-sided test, Bonferroni
        assert pair.equivalent_within >= abs(pair.difference.delta) + reach - 1e-12
        assert pair.variance.level == pytest.approx(0.05 / 3)  # none is shown to differ
    assert [pair.verdict for pair in pairs] == [EQUIVALENT, UNKNOWN, UNKNOWN]  # the third has p 0.045 by itself
    shown = leaderboard.compare([*equal[:2], equal[0] - 3], ONES, "OR", margin=0.15, draws=400)
    assert [pair.variance.level for pair in shown] == pytest.approx([0.05, 0.025, 0.025])
