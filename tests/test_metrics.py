"""mlclib.metrics.scores against scikit-learn, the authors' meters, plain loops and cases worked by hand."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_runs import drawn
from parity import recipe
from sklearn import metrics as sk

from mlclib.common.errors import UserError
from mlclib.metrics import labels_with
from mlclib.metrics.scores import APS, RATES, THRESHOLDS, best_threshold, evaluate, examples, ranking

GOLDEN = Path(__file__).parent / "parity" / "metrics_500x20.npz"


@pytest.fixture(autouse=True)
def no_warnings():
    """A figure that is undefined is NaN, and numpy has nothing to say about it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def column(*values) -> np.ndarray:
    return np.array(values)[:, None]


# Plain loops, one decision at a time.


def ap_by_loop(scores, truth, ap: str) -> float:
    kept = [(float(s), t) for s, t in zip(scores, truth, strict=True) if t != 0]
    total = sum(t == 1 for _, t in kept)
    if not total:
        return float("nan")
    points = []  # recall in positives, precision, new positives at this logit
    for level in sorted({s for s, _ in kept}, reverse=True):
        above = [t for s, t in kept if s >= level]
        tp = sum(t == 1 for t in above)
        points.append((tp, tp / len(above), sum(t == 1 for s, t in kept if s == level)))
    if ap == "ranks":
        return sum(new * precision for _, precision, new in points) / total
    if ap == "envelope":
        return sum(new * max(p for r, p, _ in points if r >= tp) for tp, _, new in points) / total
    return sum(max(p for r, p, _ in points if 10 * r >= k * total) for k in range(11)) / 11


def rates_by_loop(logits, targets, threshold: float, top: int | None) -> dict:
    images, classes = targets.shape
    tp, predicted, present = ([0] * classes for _ in range(3))
    for i in range(images):
        ranked = sorted(range(classes), key=lambda c: (-logits[i, c], c))
        for c in range(classes):
            if targets[i, c] == 0:
                continue
            positive = logits[i, c] >= threshold and (top is None or c in ranked[:top])
            predicted[c] += positive
            present[c] += targets[i, c] == 1
            tp[c] += positive and targets[i, c] == 1
    with_positive = [c for c in range(classes) if present[c]]
    cp = sum(tp[c] / predicted[c] if predicted[c] else 0 for c in with_positive) / len(with_positive)
    cr = sum(tp[c] / present[c] for c in with_positive) / len(with_positive)
    op = sum(tp) / sum(predicted) if sum(predicted) else 0
    overall = sum(tp) / sum(present)
    f1 = [2 * p * r / (p + r) if p + r else 0 for p, r in ((cp, cr), (op, overall))]
    return dict(zip(RATES, (cp, cr, f1[0], op, overall, f1[1]), strict=True))


# The authors' meters.


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        scores, targets = recipe.scores_and_targets(int(file["images"]), int(file["classes"]), str(file["salt"]))
        return scores, targets, {name: file[name] for name in file.files}


@pytest.mark.parametrize("difficult, kind", [("ignore", "ignore"), ("absent", "keep")])
def test_ap_is_that_of_the_authors_meters(golden, difficult, kind):
    logits, targets, expected = golden
    ours = evaluate(logits, targets, difficult=difficult)["AP"]
    for authors in ("msrn", "dsdl"):
        np.testing.assert_allclose(ours, expected[f"{authors}_ap_{kind}"], rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "name, threshold, top", [("dsdl_overall", 0.0, None), ("dsdl_top3", 0.0, 3), ("msrn_overall", "sweep", None)]
)
def test_rates_are_those_of_the_authors_meters(golden, name, threshold, top):
    logits, targets, expected = golden
    ours = evaluate(logits, targets, difficult="absent", threshold=threshold, top=top)
    figures = [ours[key] for key in ("OP", "OR", "OF1", "CP", "CR", "CF1")]
    np.testing.assert_allclose(figures, expected[name][:6], rtol=0, atol=1e-12)


def test_ranking_measures_are_those_of_msrns_meter(golden):
    logits, targets, expected = golden
    ours = ranking(logits, targets, difficult="absent")
    np.testing.assert_allclose(list(ours.values())[:3], expected["msrn_overall"][6:], rtol=0, atol=1e-12)


def test_msrns_sweep_over_top3_sees_logits_cut_to_two_values(golden):
    logits, targets, expected = golden
    third = np.sort(logits, axis=1)[:, -3, None]
    cut = np.where((logits >= third) & (logits >= 0), 1.0, -1.0)
    swept = evaluate(cut, targets, difficult="absent", threshold="sweep")
    figures = [swept[key] for key in ("OP", "OR", "OF1", "CP", "CR", "CF1")]
    figures += list(ranking(cut, targets, difficult="absent").values())[:3]
    np.testing.assert_allclose(figures, expected["msrn_top3"], rtol=0, atol=1e-12)


# scikit-learn and the loops.


@pytest.mark.parametrize("tied", [False, True])
def test_ap_by_ranks_is_scikit_learns_with_difficult_labels_dropped(tied):
    logits, targets = drawn(300, 7, seed=1, tied=tied)
    expected = [
        sk.average_precision_score(target[target != 0] == 1, logit[target != 0])
        for logit, target in zip(logits.T, targets.T, strict=True)
    ]
    scores = evaluate(logits, targets)
    np.testing.assert_allclose(scores["AP"], expected, rtol=0, atol=1e-12)
    assert scores["mAP"] == pytest.approx(np.mean(expected), abs=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_ranking_measures_are_scikit_learns(tied):
    logits, targets = drawn(300, 7, seed=2, tied=tied)
    targets[:3], targets[3:6] = 1, -1  # images with every label, and with none
    ours, truth = ranking(logits, targets, difficult="absent"), targets == 1
    assert ours["coverage_error"] == pytest.approx(sk.coverage_error(truth, logits), abs=1e-12)
    assert ours["label_ranking_AP"] == pytest.approx(sk.label_ranking_average_precision_score(truth, logits), abs=1e-12)
    assert ours["ranking_loss"] == pytest.approx(sk.label_ranking_loss(truth, logits), abs=1e-12)
    assert ours["macro_AUC"] == pytest.approx(sk.roc_auc_score(truth, logits, average="macro"), abs=1e-12)
    assert ours["micro_AUC"] == pytest.approx(sk.roc_auc_score(truth, logits, average="micro"), abs=1e-12)


def test_difficult_labels_take_no_rank():
    logits, targets = drawn(60, 6, seed=3, tied=True)
    ours = ranking(logits, targets)
    kept_cells = [(logit, target, target != 0) for logit, target in zip(logits, targets, strict=True)]
    rows = [(logit[None, kept], target[None, kept] == 1) for logit, target, kept in kept_cells]
    rows = [row for row in rows if row[1].size > 1]
    assert len(rows) == len(logits)
    assert ours["coverage_error"] == pytest.approx(np.mean([sk.coverage_error(t, s) for s, t in rows]))
    assert ours["ranking_loss"] == pytest.approx(np.mean([sk.label_ranking_loss(t, s) for s, t in rows]))
    assert ours["label_ranking_AP"] == pytest.approx(
        np.mean([sk.label_ranking_average_precision_score(t, s) for s, t in rows])
    )
    kept = targets != 0
    assert ours["micro_AUC"] == pytest.approx(sk.roc_auc_score(targets[kept] == 1, logits[kept]))


@pytest.mark.parametrize("difficult", ["ignore", "absent"])
@pytest.mark.parametrize("top", [None, 1, 3, 9])
@pytest.mark.parametrize("threshold", [0.0, -0.4, 1.0, -np.inf, 50.0])
def test_rates_are_those_of_a_plain_loop(threshold, top, difficult):
    logits, targets = drawn(60, 6, seed=5, tied=True)
    recoded = np.where(targets == 0, -1, targets) if difficult == "absent" else targets
    ours = evaluate(logits, targets, threshold=threshold, top=top, difficult=difficult)
    expected = rates_by_loop(logits, recoded, threshold, top)
    assert {name: ours[name] for name in RATES} == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("top", [None, 3])
def test_the_sweep_is_the_best_of_its_thresholds_one_by_one(top):
    logits, targets = drawn(200, 6, seed=6)
    logits[:, 0] = np.float32(0.3)  # float32 0.3 lies above 0.3
    sums = []
    for threshold in THRESHOLDS:
        one = evaluate(logits, targets, threshold=threshold, top=top)
        sums.append(one["CF1"] + one["OF1"])
    best = THRESHOLDS[int(np.argmax(sums))]
    swept = evaluate(logits, targets, threshold="sweep", top=top)
    assert swept["threshold"] == best
    assert swept["CF1"] + swept["OF1"] == max(sums)


def test_of_equal_thresholds_the_lowest_is_taken():
    assert best_threshold(column(3.0, -3.0), column(1, -1)) == -2.9


def test_a_threshold_chosen_on_validation_images_may_lie_far_from_0():
    logits, targets = drawn(200, 6, seed=6)
    near = best_threshold(logits, targets)
    for shift in (-30.0, -5.0, 3.0, 40.0):
        far = best_threshold(logits.astype(float) + shift, targets)
        one, other = (evaluate(logits, targets, threshold=threshold) for threshold in (near, far - shift))
        assert other["CF1"] + other["OF1"] == pytest.approx(one["CF1"] + one["OF1"], abs=0.02)
    swept = evaluate(logits + 2, targets, threshold="sweep")
    assert swept["threshold"] == THRESHOLDS[-1]  # the published sweep ends there


def test_image_scores_are_scikit_learns():
    logits, targets = drawn(120, 6, seed=7)
    targets[0], logits[0] = -1, -9.0  # nothing present, nothing predicted
    predicted, truth = logits >= 0.2, targets == 1
    ours = examples(logits, targets, difficult="absent", threshold=0.2)
    assert ours["example_F1"] == pytest.approx(sk.f1_score(truth, predicted, average="samples", zero_division=1.0))
    assert ours["exact_match"] == pytest.approx(sk.accuracy_score(truth, predicted))
    assert ours["hamming_loss"] == pytest.approx(sk.hamming_loss(truth, predicted))


def test_image_scores_leave_difficult_labels_out():
    scores = examples(np.array([[1.0, 1.0], [1.0, -1.0]]), np.array([[1, 0], [-1, 0]]))
    assert scores == {"example_F1": 0.5, "exact_match": 0.5, "hamming_loss": 0.5}


# By hand.


def test_the_three_definitions_differ_as_worked_by_hand():
    # ranks of the positives 1, 3, 4 of 5: precisions 1, 2/3, 3/4
    logits, targets = column(5.0, 4.0, 3.0, 2.0, 1.0), column(1, -1, 1, 1, -1)
    ap = {name: evaluate(logits, targets, ap=name)["mAP"] for name in APS}
    assert ap["ranks"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert ap["envelope"] == pytest.approx((1 + 3 / 4 + 3 / 4) / 3)
    assert ap["11-point"] == pytest.approx((4 * 1 + 7 * 3 / 4) / 11)  # recalls 0 to 0.3 precede the second positive


def test_recall_of_exactly_three_tenths_counts_in_the_11_point_ap():
    targets = np.full((20, 1), -1)
    targets[:3], targets[-7:] = 1, 1
    logits = -np.arange(20.0)[:, None]
    assert evaluate(logits, targets, ap="11-point")["mAP"] == pytest.approx((4 * 1 + 7 * 10 / 20) / 11)


def test_a_class_without_positives_has_no_ap_and_is_named():
    logits, targets = np.array([[2.0, 2.0, 1.0], [-1.0, 1.0, 1.0]]), np.array([[1, -1, 0], [-1, -1, 0]])
    scores = evaluate(logits, targets)
    assert scores["undefined"] == [1, 2]
    np.testing.assert_array_equal(scores["AP"], [1.0, np.nan, np.nan])
    assert (scores["mAP"], scores["CP"], scores["CR"], scores["CF1"]) == (1.0, 1.0, 1.0, 1.0)
    assert (scores["OP"], scores["OR"]) == (1 / 3, 1.0)  # its false alarms do count over all decisions
    auc = ranking(logits, targets)
    np.testing.assert_array_equal(auc["AUC"], [1.0, np.nan, np.nan])
    assert auc["macro_AUC"] == 1.0


@pytest.mark.parametrize("ap", APS)
def test_one_image_and_one_class_work(ap):
    assert evaluate(np.array([[-2.0]]), np.array([[1]]), ap=ap, top=3)["AP"].tolist() == [1.0]
    nothing = evaluate(np.array([[2.0]]), np.array([[-1]]), ap=ap)
    assert nothing["undefined"] == [0]
    assert all(np.isnan(nothing[name]) for name in ("mAP", "CP", "CR", "CF1", "OR", "OF1"))
    assert nothing["OP"] == 0.0
    assert np.isnan(examples(np.array([[2.0]]), np.array([[0]]))["hamming_loss"])
    alone = ranking(np.array([[2.0]]), np.array([[1]]))
    assert (alone["coverage_error"], alone["label_ranking_AP"], alone["ranking_loss"]) == (1.0, 1.0, 0.0)
    assert np.isnan(alone["micro_AUC"])
    with pytest.raises(UserError, match="no threshold is best"):
        best_threshold(np.array([[2.0]]), np.array([[-1]]))


def test_the_arrays_given_stay_as_they_were():
    logits, targets = drawn(20, 4, seed=9)
    before = logits.copy(), targets.copy()
    evaluate(logits, targets, difficult="absent", threshold="sweep", top=2)
    ranking(logits, targets, difficult="absent")
    np.testing.assert_array_equal((logits, targets), before)


def test_the_labels_that_count_score_as_their_columns_alone():
    logits, targets = drawn(60, 5, seed=12)
    some, columns = evaluate(logits, targets, labels=[1, 3]), evaluate(logits[:, [1, 3]], targets[:, [1, 3]])
    assert {name: some[name] for name in ("mAP", *RATES)} == {name: columns[name] for name in ("mAP", *RATES)}
    assert len(some["AP"]) == 5
    ranked = evaluate(logits, targets, labels=[0], top=1)  # the other labels still compete for the places
    assert ranked["OR"] <= evaluate(logits[:, :1], targets[:, :1], top=1)["OR"]


def test_frequent_labels_are_those_with_so_many_positives():
    targets = np.full((40, 3), -1)
    targets[:20, 0], targets[:19, 1], targets[:, 2] = 1, 1, 0
    assert labels_with(targets) == [0] and labels_with(targets, 19) == [0, 1] and labels_with(targets, 0) == [0, 1, 2]


# What must hold for any predictions.

levels = st.integers(-6, 6)


@st.composite
def predictions(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 4)))
    logits = draw(arrays.arrays(np.int64, shape, elements=levels))
    return logits.astype(np.float64), draw(arrays.arrays(np.int8, shape, elements=st.integers(-1, 1)))


@settings(deadline=None)
@given(predictions(), st.sampled_from(APS), st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(data, ap, random):
    logits, targets = data
    order = random.sample(range(len(logits)), len(logits))
    for function, options in ((evaluate, {"ap": ap, "top": 2}), (ranking, {}), (examples, {})):
        before = function(logits, targets, **options)
        after = function(logits[order], targets[order], **options)
        for key, value in before.items():
            np.testing.assert_allclose(after[key], value, rtol=1e-12, err_msg=key)


@settings(deadline=None)
@given(predictions(), st.sampled_from(APS))
def test_ap_sees_the_order_of_logits_alone(data, ap):
    logits, targets = data
    before = evaluate(logits, targets, ap=ap)["AP"]
    for mapped in (np.exp(logits), logits**3 - 7, logits.astype(np.float32) * 1000, logits.astype(np.float16)):
        np.testing.assert_array_equal(evaluate(mapped, targets, ap=ap)["AP"], before)


@settings(deadline=None)
@given(predictions(), st.sampled_from(APS), st.data())
def test_a_positive_moved_up_never_lowers_ap(data, ap, more):
    """Without ties: images that tie count together at the last rank of their tie, so to leave one may cost."""
    logits, targets = data
    logits = logits.argsort(0, kind="stable").argsort(0).astype(float)
    row, label = (more.draw(st.integers(0, size - 1)) for size in logits.shape)
    targets[row, label] = 1
    before = evaluate(logits, targets, ap=ap)["AP"][label]
    logits[row, label] += more.draw(st.integers(0, 10)) + 0.5
    assert evaluate(logits, targets, ap=ap)["AP"][label] >= before - 1e-12


@settings(deadline=None)
@given(predictions())
def test_scores_are_fractions_and_the_definitions_of_ap_are_ordered(data):
    logits, targets = data
    ranks, envelope = (evaluate(logits, targets, ap=ap) for ap in ("ranks", "envelope"))
    for name in ("mAP", *RATES):
        assert np.isnan(ranks[name]) or 0 <= ranks[name] <= 1
    defined = ~np.isnan(ranks["AP"])
    assert (envelope["AP"][defined] >= ranks["AP"][defined] - 1e-12).all()


@settings(deadline=None)
@given(predictions(), st.sampled_from(APS))
def test_any_predictions_score_as_the_plain_loop_scores_them(data, ap):
    logits, targets = data
    expected = [ap_by_loop(logits[:, c], targets[:, c], ap) for c in range(logits.shape[1])]
    np.testing.assert_allclose(evaluate(logits, targets, ap=ap)["AP"], expected, rtol=0, atol=1e-12)


# What is refused.


def test_logits_that_are_not_finite_are_refused_with_their_rows_and_columns():
    logits, targets = drawn(9, 4, seed=10)
    logits[5, 1], logits[5, 3], logits[7, 3] = np.nan, np.inf, -np.inf
    expected = r"3 NaN or infinite values, in 2 rows \(first: 5\) and 2 columns \(first: 1\)"
    for function in (evaluate, ranking, examples, best_threshold):
        with pytest.raises(UserError, match=expected):
            function(logits, targets)


@pytest.mark.parametrize(
    "logits, targets, message",
    [
        (np.zeros((3, 2)), np.ones((2, 3), int), r"logits \(3, 2\) and targets \(2, 3\) must be two arrays of one"),
        (np.zeros(3), np.ones(3, int), "images x labels"),
        (np.zeros((0, 2)), np.ones((0, 2), int), r"\(0, 2\) hold nothing to score"),
        (np.zeros((2, 2)), np.ones((2, 2)), "targets must be integers .* not float64"),
        (np.zeros((2, 2)), np.ones((2, 2), bool), "targets must be integers .* not bool"),
        (np.zeros((1, 2)), np.array([[2, -1]]), "targets range from -1 to 2"),
        (np.zeros((1, 2)), np.array([[255, 1]], np.uint8), "targets range from 1 to 255"),
        (np.array([["a"]]), np.array([[1]]), "logits must be real numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_one_sentence(logits, targets, message):
    with pytest.raises(UserError, match=message) as refusal:
        evaluate(logits, targets)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ap": "rank"}, "unknown average precision 'rank' .did you mean 'ranks'.*11-point"),
        ({"difficult": "present"}, "unknown treatment of difficult labels 'present'.*absent, ignore"),
        ({"threshold": "swep"}, "unknown threshold 'swep'.*sweep"),
        ({"threshold": float("nan")}, "threshold must be a number or 'sweep'"),
        ({"top": 0}, "top must be a whole number from 1 on"),
        ({"top": 2.5}, "top must be a whole number"),
    ],
)
def test_choices_that_do_not_exist_are_refused(options, message):
    with pytest.raises(UserError, match=message):
        evaluate(np.zeros((2, 2)), np.ones((2, 2), int), **options)
