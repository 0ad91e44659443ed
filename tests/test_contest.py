"""What a lent GPU needs: learning curves over training images, and run folders that travel without their weights."""

import numpy as np
import pytest
import torch

from benchmarks import contest_gpu
from mlclib import config
from mlclib.common.errors import UserError
from mlclib.datasets import stratify
from mlclib.runs import store
from mlclib.training.inputs import Maps


def test_the_first_images_keep_each_label_s_share_and_are_among_more():
    rng = np.random.default_rng(0)
    present = rng.random((2400, 6)) < (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    whole = [stratify.first(present, count) for count in (100, 200, 800, 2400)]
    for fewer, more in zip(whole, whole[1:], strict=False):
        assert fewer.tolist() == more[: len(fewer)].tolist()
    assert sorted(whole[-1]) == list(range(2400))
    assert present[whole[0]].sum(0) == pytest.approx(present.sum(0) * 100 / 2400, abs=2)
    with pytest.raises(UserError, match=r"training\.images is 2,401 and there are 2,400"):
        stratify.first(present, 2401)


def test_few_images_are_taken_again_until_an_epoch_has_as_many_steps_as_with_all():
    maps = np.arange(12, dtype=np.float16).reshape(12, 1, 1, 1)
    targets = np.eye(12, dtype=np.int8)
    few = Maps({4: maps}, targets, np.resize([7, 2, 5], 12))
    assert len(few) == 12 and few.targets.argmax(1).tolist() == [7, 2, 5] * 4
    values, seen = few.__getitems__([(0, row) for row in (0, 4, 11)])
    assert values[4].flatten().tolist() == [7, 2, 5] and torch.equal(seen, torch.from_numpy(targets[[7, 2, 5]]))


def test_a_run_on_all_images_is_named_as_before_there_was_a_choice():
    run = config.load("coco18-curves").run("linear")
    assert "images" not in run.identity()["training"]
    variants = config.load("coco18-curves").variants("linear", "training.images")
    assert [one.identity()["training"]["images"] for one in variants.values()] == [500, 1000, 2000, 4000, 6000, 12000]


@pytest.mark.parametrize("files", [contest_gpu.OF_RUN, contest_gpu.OF_TRIAL])
def test_a_packed_run_folder_proves_itself_whole(tmp_path, files):
    folder, logits = tmp_path / "run", np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    folder.mkdir()
    targets = np.ones((5, 3), dtype=np.int8)
    for name in ("predictions", "validation"):
        store.write_predictions(folder / f"{name}.npz", list("abcde"), targets, last=logits[0], best_val=logits[1])
    (folder / "history.csv").write_text("epoch\n1\n")
    (folder / "weights.safetensors").write_bytes(bytes(100))
    store.write_run(folder, {"seed": 0}, {"mAP": 0.5})
    there = tmp_path / "there"
    there.mkdir()
    for name, content in contest_gpu.packed(folder, files, ["last"]):
        (there / name).write_bytes(content)
    assert store.finished(there) and not (there / "weights.safetensors").exists()
    run = store.read(there, "validation")
    assert list(run.logits) == ["last"] and np.array_equal(run.logits["last"], logits[0])
    assert (there / "predictions.npz").exists() == (files == contest_gpu.OF_RUN)
