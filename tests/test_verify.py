"""What `verify` promises: a workbook that is whole passes, and whatever is changed by hand in it is found."""

import dataclasses
import json
import re
import shutil

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
from mlclib.verify import record, results, retrain, tables


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
def study(whole, tmp_path):
    """A copy of it that a test may spoil."""
    shutil.copytree(whole.results, tmp_path / "results", ignore=shutil.ignore_patterns("features"))
    return Study(whole.experiment, whole.root, tmp_path / "results")


def checked(study: Study, **options) -> results.Report:
    return results.verify(Study(study.experiment, study.root, study.results), 1, **options)


def forged(run: store.FinishedRun, gain: float) -> None:
    """Other predictions in a run folder whose manifest holds all the same."""
    logits = {key: value + np.float32(gain) * run.targets for key, value in run.logits.items()}
    store.write_predictions(run.folder / "predictions.npz", run.names, run.targets, **logits)
    manifest = run.folder / "manifest.json"
    sums = json.loads(manifest.read_text(encoding="utf-8"))
    sums["predictions.npz"] = sha256(run.folder / "predictions.npz")
    manifest.write_text(json.dumps(sums), encoding="utf-8")


def test_a_whole_workbook_is_verified_and_nothing_is_left_out(study):
    report = checked(study)
    assert report.ok and not report.unsure, report
    text = str(report)
    assert "runs: 6 of 6 are whole" in text and text.endswith("tiny: verified")
    held = {
        path.relative_to(study.folder).as_posix()
        for kind in ("tables", "figures")
        for path in study.folder.glob(f"{kind}/*")
    }
    assert held <= plan.shown(study)
    computed = {f"{table.name}.csv" for table in tables.recomputed(study, 2)}
    left = {path.name for path in study.folder.glob("tables/*.csv")} - computed
    assert left and all(name.startswith(("localisation-", "labels-")) for name in left)
    assert all(name.removesuffix(".csv") in text for name in computed | left)


def test_every_table_names_the_runs_of_each_row_with_commit_lock_data_device_and_seed(study):
    runs = {"/".join(study.run_folder(run, seed).parts[-3:]): seed for run, seed in study.every_run().values()}
    for path in study.folder.glob("tables/*.csv"):
        held = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        frame = pd.read_csv(path, dtype=str)
        everywhere = set(held["made of"]) & {"", *frame.columns}
        assert everywhere or set(frame.iloc[:, 0]) == set(held["made of"]), path.name
        assert {run for found in held["made of"].values() for run in found} == held["runs"].keys()
        for name, made in held["runs"].items():
            about = store.read(study.results / "runs" / name).about
            assert made["seed"] == runs[name] and made["data"] == study.checksum
            assert made["commit"] == about["commit"].partition("+")[0] and made["device"]
            assert made["lock"] == sha256("requirements.lock") == about["lock"]
            assert made["manifest"] == sha256(study.results / "runs" / name / "manifest.json")
    page = (study.folder / "tables" / "scores.html").read_text(encoding="utf-8")
    assert "The 4 runs that it is made of" in page and all(name in page for name in held["runs"])


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("tables/scores.csv", r"\d\d\.\d+", "99.9", r"scores.csv is contradicted: line 2 is '.*99.9"),
        ("tables/protocols.csv", r"-?\d\.\d+", "9.9", "protocols.csv is contradicted"),
        ("tables/ablation_msrn_layers.csv", r"\n4,", "\n5,", "ablation_msrn_layers.csv is contradicted"),
        ("tables/localisation-msrn.csv", r"\d\d\.\d+", "99.9", "localisation-msrn.csv is not what 04_att"),
        ("tables/scores.md", r"\d\d\.\d", "99.9", "scores.md is not what 05_tables wrote"),
        ("README.md", "seed", "sead", "README.md is not what page wrote"),
    ],
)  # fmt: skip
def test_a_file_changed_by_hand_is_found(study, file, old, new, said):
    path = study.folder / file
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(old, new, text, count=1), encoding="utf-8")
    assert path.read_text(encoding="utf-8") != text
    report = checked(study)
    assert len(report.problems) == 1 and re.search(said, report.problems[0]), report.problems
    assert not (study.folder / record.FILE).exists()


def test_a_missing_table_figure_record_and_a_table_of_unknown_origin_are_named(study):
    (study.folder / "tables" / "per_class.csv").unlink()
    (study.folder / "figures" / "protocols.png").unlink()
    (study.folder / "stages" / "01_data.json").unlink()
    (study.folder / "tables" / "by_hand.csv").write_text("model,mAP\nmine,99\n")
    report = checked(study)
    assert [said.split("/")[-1].split(";")[0] for said in report.problems[:1]] == ["per_class.csv is missing"]
    assert any("the record of 01_data is missing" in said for said in report.problems)
    assert any("protocols.png is missing; 06_protocols wrote it" in said for said in report.problems)
    assert report.unsure == [f"nothing says what made {study.folder / 'tables' / 'by_hand.csv'}"]


def test_a_damaged_and_a_missing_run_are_named_and_end_the_command_with_1(study, capsys):
    damaged, missing = (run.folder for run in study.finished("gmp"))
    with open(damaged / "predictions.npz", "r+b") as file:
        file.write(b"x")
    shutil.rmtree(missing)
    path = study.results.parent / "tiny.yaml"
    raw = {**dataclasses.asdict(study.experiment), "dataset": {**study.experiment.dataset, "root": str(study.root)}}
    path.write_text(yaml.safe_dump(json.loads(json.dumps({k: v for k, v in raw.items() if k != "name"}))))
    assert line.main(["verify", str(path), "--results", str(study.results), "--cores", "1"]) == 1
    said = capsys.readouterr().out
    assert f"wrong: run gmp seed 0: predictions.npz of {damaged} is damaged or missing; train it again" in said
    assert f"wrong: run gmp seed 1 is missing: {missing} holds no finished run" in said
    assert "4 of 6 are whole" in said


def test_other_predictions_under_a_manifest_that_holds_contradict_the_tables_and_their_retraining(study):
    run = study.finished("gmp")[1]
    forged(run, 3.0)
    every = list(study.every_run())
    seed = next(seed for seed in range(100) if retrain.drawn(every, 0.2, seed) == ["gmp seed 1"])
    report = checked(study, share=0.2, seed=seed)
    assert any("scores.csv is contradicted" in said for said in report.problems)
    assert any(
        "05_tables was made of other runs or data: run gmp seed 1, manifest.json changed" in s for s in report.problems
    )
    assert any(re.match("gmp seed 1: trained anew on the same machine.* other bits", said) for said in report.problems)


def test_a_share_of_the_runs_trained_anew_gives_the_same_bits_and_leaves_the_originals_alone(study):
    before = {path: path.stat().st_mtime_ns for path in (study.results / "runs").rglob("*") if path.is_file()}
    report = checked(study, share=0.3, seed=1)
    assert report.ok, report
    (told,) = [fact for fact in report.facts if fact.startswith("trained anew")]
    names = retrain.drawn(list(study.every_run()), 0.3, 1)
    assert len(names) == 2 and all(name in told for name in names) and "of 26 scores 26 same bits" in told
    after = {path: path.stat().st_mtime_ns for path in (study.results / "runs").rglob("*") if path.is_file()}
    assert after == before
    assert len({tuple(retrain.drawn(list(study.every_run()), 0.3, seed)) for seed in range(20)}) > 5
    with pytest.raises(UserError, match="above 0 and up to 1, not 30"):
        retrain.drawn(names, 30, 0)


def test_the_equivalence_test_errs_at_its_margin_as_often_as_it_says_and_the_other_test_at_none():
    rng = np.random.default_rng(0)
    found = {}
    for shift in (0.0, retrain.MARGIN):
        seeds, new = rng.normal(size=(2000, 5)), rng.normal(size=2000) + shift
        found[shift] = [retrain.verdict(50, 50 + b, 50 + a) for a, b in zip(seeds, new, strict=True)]
    shares = {shift: {v: said.count(v) / len(said) for v in retrain.VERDICTS} for shift, said in found.items()}
    at_margin = shares[retrain.MARGIN][retrain.NOISE] + shares[retrain.MARGIN][retrain.CLOSE]
    assert stats.binomtest(round(2000 * at_margin), 2000, retrain.LEVEL).pvalue > 0.001
    none = shares[0.0]
    assert stats.binomtest(round(2000 * none[retrain.CONTRADICTED]), 2000, retrain.LEVEL).pvalue > 0.001
    assert none[retrain.NOISE] > 0.6


def test_what_cannot_be_told_is_said():
    assert retrain.verdict(50.0, 50.0, [50.0]) == retrain.SAME
    assert retrain.verdict(50.0, 50.001, [50.0]) == retrain.CLOSE
    assert retrain.verdict(50.0, 51.0, [50.0]) == retrain.UNKNOWN  # one seed has no spread
    assert retrain.verdict(50.0, 51.0, [50.0, 50.0, 50.0]) == retrain.UNKNOWN
    assert retrain.verdict(50.0, 50.1, [49.0, 50.0, 51.0]) == retrain.NOISE
    assert retrain.verdict(50.0, 53.5, [49.0, 50.0, 51.0]) == retrain.UNKNOWN
    assert retrain.verdict(50.0, 90.0, [49.0, 50.0, 51.0]) == retrain.CONTRADICTED


def test_the_record_is_a_ro_crate_whose_files_are_there_with_their_checksums(study):
    assert checked(study).ok
    path = study.folder / record.FILE
    held = json.loads(path.read_text(encoding="utf-8"))
    assert held["@context"] == ["https://w3id.org/ro/crate/1.1/context", record.TERMS]
    entities = {entity["@id"]: entity for entity in held["@graph"]}
    assert len(entities) == len(held["@graph"])
    assert entities[record.FILE]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert entities[record.FILE]["about"] == {"@id": "./"}
    root = entities["./"]
    assert root["@type"] == "Dataset" and root["name"] == "A tiny study for tests"
    assert root["license"] and root["description"] and re.match(r"\d{4}-\d\d-\d\dT", root["datePublished"])
    parts = {part["@id"] for part in root["hasPart"]}
    assert parts == {*plan.shown(study), "README.md"}
    for part in parts:
        assert entities[part]["@type"] == "File"
        assert entities[part]["sha256"] == sha256(study.folder / part), part
        assert entities[part]["contentSize"] == str((study.folder / part).stat().st_size)
    for entity in held["@graph"]:
        for value in entity.values():
            for one in value if isinstance(value, list) else [value]:
                assert not isinstance(one, dict) or "://" in one["@id"] or one["@id"] in entities, one
    trainings = [entity for entity in held["@graph"] if entity["@type"] == "CreateAction"]
    assert len(trainings) == len(study.every_run())
    for training in trainings:
        left = entities[training["result"]["@id"]]
        assert left["sha256"] == sha256(study.results / "runs" / left["@id"][1:] / "manifest.json")
        assert entities[training["object"]["@id"]]["sha256"] == study.checksum
        assert [entities[one["@id"]]["@type"] for one in training["instrument"]] == [
            "SoftwareSourceCode",
            "SoftwareApplication",
        ]
    based = {one["@id"][1:] for one in entities["tables/scores.csv"]["isBasedOn"]}
    assert based == {"/".join(run.folder.parts[-3:]) for model in ("gmp", "msrn") for run in study.finished(model)}
    assert len(ROCrate(study.folder).data_entities) == len(parts)  # as the reference reader takes it
    before = path.read_bytes()
    assert checked(study).ok and path.read_bytes() == before
