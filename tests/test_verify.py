"""What `verify` promises: a workbook that is whole passes, and whatever is changed by hand in it is named."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rehearsal
import yaml
from conftest import TINY
from rocrate.rocrate import ROCrate
from scipy import stats

from mlclib import __main__ as line
from mlclib.common.errors import UserError
from mlclib.common.files import sha256
from mlclib.runs import plan, store
from mlclib.runs.study import Study
from mlclib.verify import record, results, retrain


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small workbook, finished: two models, two seeds, an ablation, the attention of one model."""
    folder = tmp_path_factory.mktemp("verify")
    raw = yaml.safe_load(TINY.replace("ROOT", str(folder / "scenes")))
    raw["models"].pop("dsdl")
    raw |= {"seeds": [0, 1], "attention": {"models": ["msrn"], "images": [0], "n_localisation": 3, "n_faithfulness": 1}}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        return rehearsal.rehearse(folder / "tiny.yaml", folder / "results", patch)


@pytest.fixture
def study(whole, tmp_path, monkeypatch):
    """A copy of it that a test may spoil; its notebooks run in this process."""
    shutil.copytree(whole.results, tmp_path / "results", ignore=shutil.ignore_patterns("features"))
    shutil.copy(whole.results.parent / "tiny.yaml", tmp_path)
    rehearsal.in_process(monkeypatch)
    return Study(whole.experiment, whole.root, tmp_path / "results")


def checked(study: Study, **options) -> results.Report:
    return results.verify(study, str(study.results.parent / "tiny.yaml"), **options)


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_whole_workbook_is_verified_its_runs_untouched_and_its_record_a_ro_crate(study):
    before = files(study.results / "runs")
    report = checked(study)
    assert not report.problems and not report.unsure, report
    assert "runs: 6 of 6 are whole" in str(report) and str(report).endswith("tiny: verified")
    assert files(study.results / "runs") == before
    computed = {f"{name}.csv" for name in re.search(r"same bytes \((.*)\)", str(report))[1].split(", ")}
    left = {path.name for path in study.folder.glob("tables/*.csv")} - computed
    assert computed and left and all(name.startswith(("localisation-", "labels-")) for name in left)

    path = study.folder / record.FILE
    entities = {entity["@id"]: entity for entity in json.loads(path.read_text(encoding="utf-8"))["@graph"]}
    parts = {part["@id"] for part in entities["./"]["hasPart"]}
    assert parts == {*plan.shown(study), "README.md"} and len(ROCrate(study.folder).data_entities) == len(parts)
    assert all(entities[part]["sha256"] == sha256(study.folder / part) for part in parts)
    trainings = [entity for entity in entities.values() if entity["@type"] == "CreateAction"]
    manifests = {entities[training["result"]["@id"]]["sha256"] for training in trainings}
    assert manifests == {sha256(path) for path in (study.results / "runs").rglob("manifest.json")}
    assert all(entities[training["object"]["@id"]]["sha256"] == study.checksum for training in trainings)
    based = {one["@id"][1:] for one in entities["tables/scores.csv"]["isBasedOn"]}
    assert based == {"/".join(run.folder.parts[-3:]) for model in ("gmp", "msrn") for run in study.finished(model)}
    written = path.read_bytes()
    assert record.write(study).read_bytes() == written


def test_every_table_names_the_runs_of_each_row_with_commit_lock_data_device_and_seed(study):
    runs = {"/".join(run.folder.parts[-3:]): run.seed for run in study.runs.values()}
    for path in study.folder.glob("tables/*.csv"):
        beside = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        frame = pd.read_csv(path, dtype=str)
        everywhere = set(beside["made of"]) & {"", *frame.columns}
        assert everywhere or set(frame.iloc[:, 0]) == set(beside["made of"]), path.name
        for name, recorded in beside["runs"].items():
            about = store.read(study.results / "runs" / name).about
            assert recorded["seed"] == runs[name] and recorded["data"] == study.checksum and recorded["device"]
            assert recorded["commit"] == about["commit"].partition("+")[0]
            assert recorded["lock"] == sha256("requirements.lock") == about["lock"]


def test_files_changed_by_hand_or_missing_and_a_table_of_unknown_origin_are_named(study):
    changes = {
        "tables/scores.csv": (r"\d\d\.\d+", "99.9"),
        "tables/protocols.csv": (r"-?\d\.\d+", "9.9"),
        "tables/ablation_msrn_layers.csv": (r"\n4,", "\n5,"),
        "tables/localisation-msrn.csv": (r"\d\d\.\d+", "99.9"),
        "tables/scores.md": (r"\d\d\.\d", "99.9"),
        "README.md": ("seed", "sead"),
    }
    for name, (old, new) in changes.items():
        path = study.folder / name
        path.write_text(re.sub(old, new, path.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    (study.folder / "tables" / "per_class.csv").unlink()
    (study.folder / "figures" / "protocols.png").unlink()
    (study.folder / "stages" / "01_data.json").unlink()
    (study.folder / "tables" / "by_hand.csv").write_text("model,mAP\nmine,99\n")
    report = checked(study)
    for pattern in (
        r"scores.csv is contradicted: line 2 is '.*99.9",
        r"protocols.csv is contradicted",
        r"ablation_msrn_layers.csv is contradicted",
        r"per_class.csv is contradicted: it is missing",
        r"localisation-msrn.csv is missing or not what 04_att",
        r"scores.md is missing or not what 05_tables wrote",
        r"README.md is missing or not what page wrote",
        r"protocols.png is missing or not what 06_protocols wrote",
        r"the record of 01_data is missing",
    ):
        assert any(re.search(pattern, problem) for problem in report.problems), pattern
    assert len(report.problems) == 9 and not (study.folder / record.FILE).exists()
    assert report.unsure == [f"nothing says what made {study.folder / 'tables' / 'by_hand.csv'}"]


def test_a_damaged_and_a_missing_run_are_named_and_end_the_command_with_1(study, capsys):
    damaged, missing = (run.folder for run in study.finished("gmp"))
    with open(damaged / "predictions.npz", "r+b") as file:
        file.write(b"x")
    shutil.rmtree(missing)
    path = study.results.parent / "tiny.yaml"
    assert line.main(["verify", str(path), "--results", str(study.results)]) == 1
    printed = capsys.readouterr().out
    assert f"wrong: run gmp seed 0: predictions.npz of {damaged} is damaged or missing; train it again" in printed
    assert f"wrong: run gmp seed 1: manifest.json of {missing} is damaged or missing" in printed
    assert "4 of 6 are whole" in printed and "tiny: NOT verified" in printed


def test_other_predictions_under_a_manifest_that_fits_contradict_the_tables_and_their_retraining(study):
    run = study.finished("gmp")[1]
    logits = {key: value + np.float32(3) * run.targets for key, value in run.logits.items()}
    store.write_predictions(run.folder / "predictions.npz", run.names, run.targets, **logits)
    sums = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))
    sums["predictions.npz"] = sha256(run.folder / "predictions.npz")
    (run.folder / "manifest.json").write_text(json.dumps(sums), encoding="utf-8")
    every = list(study.runs)
    seed = next(seed for seed in range(100) if retrain.drawn(every, 0.2, seed) == ["gmp seed 1"])
    report = checked(Study(study.experiment, study.root, study.results), share=0.2, seed=seed)
    for words in (
        "scores.csv is contradicted",
        "05_tables was made of other runs or data: run gmp seed 1, manifest.json changed",
        "gmp seed 1: trained anew on the same machine it gave other bits",
    ):
        assert any(words in problem for problem in report.problems), words


def test_runs_trained_again_give_the_same_bits_and_leave_the_originals_alone(study):
    before, names = files(study.results / "runs"), list(study.runs)
    drawn = retrain.drawn(names, 0.3, 1)
    sentences = retrain.retrained(study, drawn)
    assert len(drawn) == 2 and {verdict for verdict, each in sentences.items() if each} == {retrain.SAME}
    assert len(sentences[retrain.SAME]) == 26 and files(study.results / "runs") == before
    assert len({tuple(retrain.drawn(names, 0.3, seed)) for seed in range(20)}) > 5
    with pytest.raises(UserError, match="above 0 and up to 1, not 30"):
        retrain.drawn(names, 30, 0)


def test_the_equivalence_test_errs_at_its_margin_as_often_as_it_says_and_the_other_test_at_none():
    rng = np.random.default_rng(0)
    shares = {}
    for shift in (0.0, retrain.MARGIN):
        seeds, new = rng.normal(size=(2000, 5)), rng.normal(size=2000) + shift
        verdicts = [retrain.verdict(50, 50 + b, 50 + a) for a, b in zip(seeds, new, strict=True)]
        shares[shift] = {verdict: verdicts.count(verdict) / len(verdicts) for verdict in retrain.VERDICTS}
    at_margin = shares[retrain.MARGIN][retrain.NOISE] + shares[retrain.MARGIN][retrain.CLOSE]
    assert stats.binomtest(round(2000 * at_margin), 2000, retrain.LEVEL).pvalue > 0.001
    assert stats.binomtest(round(2000 * shares[0.0][retrain.CONTRADICTED]), 2000, retrain.LEVEL).pvalue > 0.001
    assert shares[0.0][retrain.NOISE] > 0.6


@pytest.mark.parametrize(
    ("after", "seeds", "verdict"),
    [
        (50.0, [50.0], retrain.SAME),
        (50.001, [50.0], retrain.CLOSE),
        (51.0, [50.0], retrain.UNKNOWN),  # one seed has no spread
        (51.0, [50.0, 50.0, 50.0], retrain.UNKNOWN),
        (50.1, [49.0, 50.0, 51.0], retrain.NOISE),
        (53.5, [49.0, 50.0, 51.0], retrain.UNKNOWN),
        (90.0, [49.0, 50.0, 51.0], retrain.CONTRADICTED),
    ],
)
def test_a_score_that_comes_out_otherwise_has_the_verdict_that_its_seeds_allow(after, seeds, verdict):
    assert retrain.verdict(50.0, after, seeds) == verdict
