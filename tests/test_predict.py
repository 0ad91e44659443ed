"""A run folder alone labels images, and says which it could not read."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mlclib import __main__ as line
from mlclib.common.errors import UserError
from mlclib.datasets.images import open_rgb
from mlclib.inference import predict
from mlclib.training.inputs import batches


def folder_of(study, model):
    return study.runs[f"{model} seed 0"].folder


@pytest.mark.parametrize("model", ["gmp", "msrn", "dsdl"])
def test_a_run_folder_gives_the_runs_own_logits_and_of_its_images_their_probabilities(tiny_study, model):
    run = tiny_study.train(model)[0]
    loaded = predict.load_model(run.folder)
    inputs = tiny_study.inputs(tiny_study.experiment.run_config(model), "test")
    keys = list(batches(np.arange(len(inputs)), tiny_study.experiment.training.batch_size))  # as the run was scored
    with torch.no_grad():
        logits = torch.cat([loaded.classify(inputs.__getitems__(batch)[0]).logits for batch in keys])
    np.testing.assert_allclose(logits.numpy(), run.logits["last"], atol=1e-6)
    probabilities = predict.predict(run.folder, tiny_study.dataset.splits["test"].paths).probabilities
    np.testing.assert_allclose(probabilities, logits.sigmoid(), atol=2e-3)  # the run saw maps that were kept in float16


def test_what_of_a_folder_is_no_picture_is_passed_over_and_what_cannot_be_read_is_named(tiny_study, tmp_path, capsys):
    (tmp_path / "deep.jpg").mkdir()
    for number, path in enumerate(tiny_study.dataset.splits["test"].paths[:2]):
        open_rgb(path).save(tmp_path / "deep.jpg" / f"{number}.PNG", format="png")
    for name in ("broken.jpg", "notes.txt", "a.pdf", "b.mp4", "c.mpg", "._0.jpg", ".DS_Store", "photo.HEIC"):
        (tmp_path / name).write_bytes(b"no image")
    predictions = predict.predict(folder_of(tiny_study, "gmp"), [tmp_path, tmp_path / "gone.png"])
    assert list(predictions.probabilities.index) == [str(tmp_path / "deep.jpg" / f"{n}.PNG") for n in (0, 1)]
    assert list(predictions.probabilities.columns) == list(tiny_study.dataset.labels)
    assert predictions.passed_over == {"hidden": 2, ".txt": 1, ".pdf": 1, ".mp4": 1, ".mpg": 1}
    assert "no such file" in predictions.unreadable[str(tmp_path / "gone.png")]
    assert "cannot read" in predictions.unreadable[str(tmp_path / "broken.jpg")] and len(predictions.unreadable) == 3
    assert any("HEIC" in reason for reason in predictions.unreadable.values())
    assert predict.show(folder_of(tiny_study, "gmp"), [tmp_path]) == 1
    assert "passed over in folders: 2 hidden, 1 .pdf" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_ends_it_quietly(tiny_study):
    command = [sys.executable, "-m", "mlclib", "predict", str(folder_of(tiny_study, "gmp"))]
    images = map(str, tiny_study.dataset.splits["test"].paths[:1])
    with subprocess.Popen([*command, *images], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_map_s_file_is_named_after_its_label_whatever_its_characters():
    names, written = [], set()
    for label in ("N/A", "N%2FA", "dog", "Dog", "../dog", "dog"):
        names.append(predict._file_name("a.png", label, written))
    assert names[0] == "a.png-N%2FA.png" and names[-1] == "a.png-3-dog.png"
    assert len({name.casefold() for name in names}) == len(names) and not any("/" in name for name in names)


def test_every_form_prints_the_same_probabilities_and_the_exit_code_tells_of_unreadable_images(tiny_study, capsys):
    folder, path = folder_of(tiny_study, "dsdl"), tiny_study.dataset.splits["test"].paths[0]
    wanted = predict.predict(folder, [path]).probabilities.iloc[0]
    assert line.main(["predict", str(folder), str(path), "--json"]) == 0
    [entry] = json.loads(capsys.readouterr().out)
    assert entry["image"] == str(path) and entry["labels"] == pytest.approx(wanted.to_dict(), abs=1e-6)
    assert list(entry["labels"].values()) == sorted(entry["labels"].values(), reverse=True)
    assert line.main(["predict", str(folder), str(path), "--csv"]) == 0
    header, row = capsys.readouterr().out.strip().splitlines()
    assert header.split(",") == ["image", *wanted.index]
    assert [float(x) for x in row.split(",")[1:]] == pytest.approx(list(wanted), abs=1e-6)
    assert predict.show(folder, [path, "gone.jpg"]) == 1
    printed = capsys.readouterr()
    assert f"{wanted.idxmax()} {wanted.max():.2f}" in printed.out
    assert "cannot read the image gone.jpg" in printed.err


def test_maps_are_written_for_each_label_present_and_names_do_not_clash(tiny_study, tmp_path):
    path = tiny_study.dataset.splits["test"].paths[0]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        open_rgb(path).save(tmp_path / folder / "dog.png")
    predictions = predict.predict(folder_of(tiny_study, "msrn"), [tmp_path / "a", tmp_path / "b"], tmp_path / "maps")
    row = predictions.probabilities.iloc[0]
    present = [label for label in row.index if row[label] >= 0.5] or [row.idxmax()]
    written = {file.name for file in (tmp_path / "maps").iterdir()}
    assert written == {f"dog.png{again}-{label}.png" for again in ("", "-2") for label in present}
    with Image.open(tmp_path / "maps" / f"dog.png-{present[0]}.png") as image:
        assert image.width > image.height > 100


def test_a_folder_without_images_or_without_a_run_is_named(tiny_study, tmp_path):
    empty = predict.predict(folder_of(tiny_study, "gmp"), [tmp_path])
    assert empty.probabilities.empty and "holds no images" in empty.unreadable[str(tmp_path)]
    with pytest.raises(UserError, match="holds no finished run"):
        predict.predict(tmp_path, [])
