"""mlclib.metrics.resampling against resampling done by hand, and its behaviour where the truth is known."""

from itertools import combinations

import numpy as np
import pytest
from made_runs import drawn
from scipy.stats import norm

from mlclib.common.errors import UserError
from mlclib.metrics import resampling as significance
from mlclib.metrics.resampling import Difference, bootstrap, mean_sd, paired_bootstrap
from mlclib.metrics.scores import APS, RATES, evaluate


@pytest.fixture
def counts(monkeypatch) -> list[np.ndarray]:
    """The resamples drawn during the test, as how often each image stands in them."""
    seen, counts = [], significance._counts
    significance._drawn.cache_clear()

    def watched(*args):
        for piece in counts(*args):
            seen.append(piece)
            yield piece

    monkeypatch.setattr(significance, "_counts", watched)
    return seen


def rescored(logits, targets, counts, score, **protocol) -> np.ndarray:
    """The score of every resample, its images written out as often as they were drawn."""
    rows = [np.repeat(np.arange(len(targets)), count) for piece in counts for count in piece.T]
    return np.array([evaluate(logits[row], targets[row], **protocol)[score] for row in rows])


@pytest.mark.parametrize(
    "score, protocol",
    [("mAP", {"ap": ap, "difficult": difficult}) for ap in APS for difficult in ("ignore", "absent")]
    + [(score, {"threshold": 0.3, "top": 2}) for score in RATES],
)
def test_every_resample_scores_as_evaluate_scores_its_images(score, protocol, counts):
    # 12 images: classes without positives, images drawn often, ties between images
    logits, targets = drawn(12, 3, seed=1, tied=True)
    (values,) = significance.bootstrap_scores(logits, targets, score, draws=60, seed=5, **protocol)
    expected = rescored(logits, targets, counts, score, **protocol)
    assert len(values) == 61
    np.testing.assert_allclose(values, expected, rtol=0, atol=1e-12)


def test_resamples_draw_as_many_images_as_there_are(counts):
    logits, targets = drawn(30, 2, seed=2)
    bootstrap(logits, targets, draws=40)
    whole, *pieces = counts
    assert (whole == 1).all()
    resamples = np.concatenate(pieces, axis=1)
    assert resamples.shape == (30, 40)
    assert (resamples.sum(axis=0) == 30).all()
    assert len(np.unique(resamples, axis=1).T) == 40


def test_a_large_set_is_drawn_in_pieces_that_all_differ():
    images = 2**18
    pieces = list(significance._counts(images, 5, np.random.default_rng(0)))
    assert [piece.shape for piece in pieces] == [(images, 1), (images, 2), (images, 2), (images, 1)]
    resamples = np.concatenate(pieces, axis=1).T
    assert all((a != b).any() for a, b in combinations(resamples, 2))


def test_the_interval_of_a_score_is_the_score_less_its_bias_and_its_standard_errors_on_either_side(counts):
    logits, targets = drawn(80, 4, seed=4)
    low, high = bootstrap(logits, targets, draws=300)
    plain, *values = rescored(logits, targets, counts, "mAP")
    center = plain - (np.mean(values) - plain)
    np.testing.assert_allclose((low, high), center + np.std(values, ddof=1) * norm.ppf([0.025, 0.975]), atol=1e-12)


def test_the_interval_of_a_difference_is_the_bias_corrected_percentile_interval(counts):
    logits, targets = drawn(80, 4, seed=4)
    difference = paired_bootstrap(logits, -logits, targets, draws=300)
    resamples = counts[: len(counts) // 2]  # of one model; the other's are the same
    plain, *values = rescored(logits, targets, resamples, "mAP") - rescored(-logits, targets, resamples, "mAP")
    bias = norm.ppf((np.sum(np.array(values) < plain) + 0.5) / 301)
    expected = np.quantile(values, norm.cdf(2 * bias + norm.ppf([0.025, 0.975])))
    np.testing.assert_allclose((difference.low, difference.high), expected, atol=1e-12)


def test_the_interval_holds_the_true_score_as_often_as_it_says():
    # OR of a model that finds each label with chance 1/2: 95 of 100 intervals hold 1/2, give or take 3 deviations
    rng = np.random.default_rng(6)
    targets = np.ones((200, 1), dtype=np.int8)
    held = 0
    for seed in range(100):
        low, high = bootstrap(rng.standard_normal((200, 1)), targets, "OR", draws=200, seed=seed)
        held += low <= 0.5 <= high
    assert 88 <= held <= 100


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    logits, targets = drawn(100, 3, seed=7)
    assert bootstrap(logits, targets, draws=50) == bootstrap(logits, targets, draws=50)
    assert bootstrap(logits, targets, draws=50) != bootstrap(logits, targets, draws=50, seed=1)


def test_a_model_does_not_differ_from_itself():
    logits, targets = drawn(60, 3, seed=9)
    same = paired_bootstrap(logits, 2 * logits, targets, draws=100)
    assert same == Difference(0.0, 0.0, 0.0, 1.0)
    assert same.within_noise


def test_a_better_model_differs_beyond_noise_and_the_other_way_round_alike():
    worse, targets = drawn(300, 4, seed=10)
    better = worse + 2 * targets
    forward, back = (
        paired_bootstrap(better, worse, targets, draws=200),
        paired_bootstrap(worse, better, targets, draws=200),
    )
    assert forward.delta == pytest.approx(evaluate(better, targets)["mAP"] - evaluate(worse, targets)["mAP"], abs=1e-12)
    assert 0 < forward.low < forward.delta < forward.high
    assert 0 < forward.p < 0.05
    assert not forward.within_noise
    np.testing.assert_allclose(back, (-forward.delta, -forward.high, -forward.low, forward.p), atol=1e-12)


def test_p_falls_below_5_percent_just_when_the_95_percent_interval_leaves_0():
    logits, targets = drawn(150, 3, seed=12)
    rng = np.random.default_rng(13)
    seen = set()
    for _ in range(30):
        difference = paired_bootstrap(logits + rng.normal(0, 0.4, logits.shape), logits, targets, draws=400)
        if abs(difference.p - 0.05) > 0.01:  # the two count a draw at the very border differently
            assert difference.within_noise == (difference.p > 0.05)
            seen.add(difference.within_noise)
    assert seen == {True, False}


def test_equally_good_models_differ_beyond_noise_about_1_time_in_20():
    rng = np.random.default_rng(14)
    targets = np.ones((200, 2), dtype=np.int8)
    ps = [
        paired_bootstrap(*rng.standard_normal((2, 200, 2)), targets, "OR", draws=200, seed=seed).p
        for seed in range(100)
    ]
    assert sum(p < 0.05 for p in ps) <= 12


def test_several_seeds_score_their_mean():
    first, targets = drawn(80, 3, seed=15)
    runs = np.stack([first, first + np.random.default_rng(0).normal(0, 1, first.shape)])
    plain = significance.mean_over_seeds(significance.bootstrap_scores(runs, targets, draws=3), 0)[0]
    assert plain == pytest.approx(np.mean([evaluate(run, targets)["mAP"] for run in runs]), abs=1e-12)
    assert bootstrap(first[None], targets, draws=50) == bootstrap(first, targets, draws=50)


def test_seeds_that_disagree_widen_the_interval():
    good, targets = drawn(400, 3, seed=16)
    bad = good - 1.5 * targets
    agreeing, disagreeing = (bootstrap(np.stack(runs), targets, draws=200) for runs in ((good, good), (good, bad)))
    assert disagreeing[1] - disagreeing[0] > 2 * (agreeing[1] - agreeing[0])


def test_the_bootstrap_of_a_difference_draws_the_seeds_too():
    good, targets = drawn(400, 3, seed=16)
    apart = np.stack([good + s * targets for s in (0.0, 0.5, 1.0)])
    alike = np.stack([good + 0.5 * targets] * 3)
    one, other = (paired_bootstrap(each, good, targets, draws=300) for each in (apart, alike))
    assert one.high - one.low > 1.5 * (other.high - other.low)


def test_models_may_have_different_numbers_of_seeds():
    worse, targets = drawn(200, 3, seed=17)
    better = np.stack([worse + targets, worse + 1.2 * targets, worse + 1.4 * targets])
    difference = paired_bootstrap(better, worse, targets, draws=100)
    means = np.mean([evaluate(run, targets)["mAP"] for run in better]), evaluate(worse, targets)["mAP"]
    assert difference.delta == pytest.approx(means[0] - means[1], abs=1e-12)
    assert not difference.within_noise


def test_a_resample_without_any_positive_is_left_out_and_none_at_all_is_nan():
    logits, targets = np.array([[1.0], [0.0]]), np.array([[1], [-1]])
    assert bootstrap(logits, targets, draws=100) == (1.0, 1.0)
    nothing = -np.ones_like(targets)
    assert np.isnan(bootstrap(logits, nothing, draws=20)).all()
    undefined = paired_bootstrap(logits, logits, nothing, draws=20)
    assert np.isnan(undefined).all() and undefined.within_noise


def test_mean_and_deviation_over_seeds():
    mean, deviation = mean_sd([0.5, 0.7, 0.9])
    assert (mean, deviation) == (pytest.approx(0.7), pytest.approx(0.2))
    mean, deviation = mean_sd([[0.1, 0.2], [0.3, 0.2]])
    np.testing.assert_allclose(mean, [0.2, 0.2])
    np.testing.assert_allclose(deviation, [0.2 / np.sqrt(2), 0.0], atol=1e-15)
    mean, deviation = mean_sd([0.5])
    assert mean == 0.5 and np.isnan(deviation)
    with pytest.raises(UserError, match="at least one seed"):
        mean_sd([])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"score": "map"}, "unknown score 'map'; known: .*mAP"),
        ({"ap": "area"}, "unknown average precision 'area'"),
        ({"difficult": "x"}, "unknown treatment of difficult labels 'x'"),
        ({"score": "OF1", "threshold": "sweep"}, "threshold must be a number .*best_threshold"),
        ({"draws": 0}, "draws must be 1 or more"),
        ({"dificult": "absent"}, "unknown keyword 'dificult'.*did you mean 'difficult'"),
    ],
)
def test_choices_that_do_not_exist_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        bootstrap(np.zeros((2, 2)), np.ones((2, 2), int), **options)


@pytest.mark.parametrize("shape", [(3,), (0, 2), (0, 3, 2), (2, 4, 2), (1, 1, 3, 2)])
def test_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(UserError, match="logits"):
        bootstrap(np.zeros(shape), np.ones((3, 2), int))
    with pytest.raises(UserError, match="logits"):
        paired_bootstrap(np.zeros((3, 2)), np.zeros(shape), np.ones((3, 2), int))
    with pytest.raises(UserError, match="nothing to score"):
        bootstrap(np.zeros((0, 2)), np.ones((0, 2), int))


def test_p_is_never_below_what_the_draws_can_tell():
    worse, targets = drawn(400, 4, seed=30)
    better = worse + 3 * targets
    for draws in (100, 1000):
        p = paired_bootstrap(better, worse, targets, draws=draws).p
        assert p == significance.least_p(draws) >= 1 / (draws + 1)
    smallest = min(
        paired_bootstrap(worse + shift * targets, worse, targets, draws=200).p for shift in np.linspace(0.02, 0.6, 25)
    )
    assert smallest == significance.least_p(200)


def test_small_sets_have_draws_enough_for_q_below_a_hundredth_and_large_ones_end():
    assert significance.draws_for(400, 22) == significance.draws_for(4952, 20) == 10_000
    assert 48 * significance.least_p(10_000) < 0.01
    assert 1000 < significance.draws_for(40_137, 80) < 10_000


def test_scores_of_some_labels_and_the_ap_of_one_are_drawn_as_those_of_their_columns_alone():
    logits, targets = drawn(60, 4, seed=32)
    some, options = [0, 2], {"draws": 60, "seed": 3}
    for score in ("mAP", "CF1"):
        alone = significance.bootstrap_scores(logits[:, some], targets[:, some], score, **options)
        assert np.array_equal(
            significance.bootstrap_scores(logits, targets, score, labels=some, **options), alone, equal_nan=True
        )
    one = bootstrap(logits[:, 1:2], targets[:, 1:2], draws=80)
    assert bootstrap(logits, targets, "AP", draws=80, label=1) == pytest.approx(one, abs=1e-12)


def test_the_interval_of_a_mean_resamples_whole_images_and_seeds():
    rng = np.random.default_rng(3)
    images, seeds = np.repeat(np.arange(40), 6), np.tile(np.repeat(np.arange(3), 2), 40)
    values = rng.standard_normal(40)[images] + rng.standard_normal(240) * 0.1
    mean, low, high = significance.bootstrap_mean(values, images, seeds)
    assert mean == pytest.approx(values.mean())
    by_hand = [values.reshape(40, 6)[rng.integers(40, size=40)].mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(np.quantile(by_hand, [0.025, 0.975]), abs=0.05)
    apart = values + 2.0 * seeds  # seeds that disagree widen it
    _, wide_low, wide_high = significance.bootstrap_mean(apart, images, seeds)
    assert wide_high - wide_low > 1.5 * (high - low)
    assert np.isnan(significance.bootstrap_mean(np.array([]), np.array([]), np.array([]))).all()


def test_a_difference_that_no_draw_reaches_zero_for_has_a_small_p_whatever_the_bias():
    generator = np.random.default_rng(3)
    targets = np.full((200, 30), -1, np.int8)
    for label in range(30):  # rare labels: the resampled mAP lies far above the plain one
        targets[generator.choice(200, 3, replace=False), label] = 1
    good = 0.7 * targets + generator.standard_normal(targets.shape)
    difference = significance.paired_bootstrap(generator.standard_normal(targets.shape), good, targets, draws=300)
    assert difference.high < 0 and difference.p <= 2 / 301
