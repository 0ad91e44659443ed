import json
import os
import pickle
import pickletools

import numpy as np
import pytest
import torch

from mlclib import models
from mlclib.common.errors import UserError
from mlclib.datasets import labels
from mlclib.models import authors

NAMES = ("car", "bus", "truck", "cat", "dog", "horse", "apple", "orange", "banana", "chair", "sofa", "bed")


class Command:
    """A pickle that runs `touch` when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Attribute:
    """A pickle that reaches through an admitted name for one that is not."""

    def __reduce__(self):
        return getattr, (np.ndarray, "tofile")


def dumped(path, value, protocol=pickle.DEFAULT_PROTOCOL):
    with open(path, "wb") as file:
        pickle.dump(value, file, protocol=protocol)
    return path


def orders(shared):
    return json.loads((shared / "authors_files" / "label_orders.json").read_text())


# Pickles


@pytest.mark.parametrize("protocol", range(3, pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_plain_containers_are_read(tmp_path, protocol):
    value = {"a": np.arange(6).reshape(2, 3), "b": [1.5, ("x", None, True)], "c": {np.float64(2): 3}}
    read = authors.read_pickle(dumped(tmp_path / "a.pkl", value, protocol))
    assert np.array_equal(read.pop("a"), value.pop("a")) and read == value


def test_a_pickle_that_would_run_a_command_is_refused_by_name_and_does_not_run_it(tmp_path):
    path = dumped(tmp_path / "a.pkl", {"adj": Command(tmp_path / "ran")})
    with pytest.raises(UserError, match=r"a\.pkl is refused: it names (posix|nt)\.system"):
        authors.read_pickle(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("value", "name"), [(Attribute(), "builtins.getattr"), (np.load, "numpy.load"), (np.random.default_rng(0), "numpy")]
)
def test_any_other_global_is_refused_by_name(tmp_path, value, name):
    with pytest.raises(UserError, match=f"it names {name}"):
        authors.read_pickle(dumped(tmp_path / "a.pkl", value))


def test_an_object_array_cannot_smuggle_a_command(tmp_path):
    path = dumped(tmp_path / "a.pkl", np.array([Command(tmp_path / "ran")], dtype=object))
    with pytest.raises(UserError, match=r"system"):
        authors.read_pickle(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps(np.arange(100))[:-50]])
def test_a_damaged_pickle_is_refused(tmp_path, content):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(UserError, match="is refused"):
        authors.read_pickle(tmp_path / "a.pkl")


def test_a_missing_file_is_named(tmp_path):
    for read in (authors.read_pickle, authors.read_checkpoint):
        with pytest.raises(UserError, match=r"cannot read .*none\.pkl"):
            read(tmp_path / "none.pkl")


# Label vectors and graphs


@pytest.mark.parametrize("name", ["voc", "coco", "nuswide", "apparel"])
def test_the_authors_files_are_read_as_they_stand(shared, name):
    folder, names = shared / "authors_files", orders(shared)[name]
    vectors = authors.read_label_vectors(folder / f"{name}_glove_word2vec.pkl", names)
    counts, totals = authors.read_cooccurrence(folder / f"{name}_adj.pkl", names)
    assert vectors.shape == (len(names), 300) and vectors.dtype == np.float32
    assert counts.shape == (len(names), len(names)) and totals.shape == (len(names),)
    held = (folder / f"{name}_adj.pkl").read_bytes()
    assert {op.name for op, _, _ in pickletools.genops(held)} & {"GLOBAL", "STACK_GLOBAL"}  # arrays, not numbers alone


@pytest.mark.parametrize("name", ["voc", "coco", "nuswide", "apparel"])
def test_another_order_of_the_labels_is_an_error(shared, name):
    path, names = shared / "authors_files" / f"{name}_glove_word2vec.pkl", orders(shared)[name]
    for other in (names[::-1], names[1:] + names[:1]):
        with pytest.raises(UserError, match="order of labels"):
            authors.read_label_vectors(path, other)


def test_voc_s_graph_is_that_of_trainval_and_another_order_is_refused(shared):
    import pandas as pd

    names, path = orders(shared)["voc"], shared / "authors_files" / "voc_adj.pkl"
    table = pd.read_csv(shared / "voc2007_labels.csv")
    targets = {split: rows[names].to_numpy() * 2 - 1 for split, rows in table.groupby("split")}
    counts, totals = labels.cooccurrence(targets["trainval"])
    graph, sums = authors.read_cooccurrence(path, names, counts)
    assert np.array_equal(graph, counts) and np.array_equal(sums, totals)
    few = labels.cooccurrence(targets["test"][:300])[0]
    authors.read_cooccurrence(path, names, few)
    with pytest.raises(UserError, match="order of labels"):
        authors.read_cooccurrence(path, names, few[::-1, ::-1])


def test_two_exchanged_labels_are_named(tmp_path):
    vectors = labels.vectors(NAMES)
    assert np.array_equal(authors.read_label_vectors(dumped(tmp_path / "a.pkl", list(vectors)), NAMES), vectors)
    exchanged = vectors.copy()
    exchanged[[1, 8]] = vectors[[8, 1]]
    with pytest.raises(UserError, match="'bus' and 'banana'|'banana' and 'bus'"):
        authors.read_label_vectors(dumped(tmp_path / "a.pkl", exchanged), NAMES)


def test_labels_without_a_known_word_are_taken_by_their_number(tmp_path):
    vectors = np.random.default_rng(0).standard_normal((3, 300))
    names = ("qzx one", "qzx two", "qzx three")
    assert authors.read_label_vectors(dumped(tmp_path / "a.pkl", vectors), names).shape == (3, 300)


def test_another_number_of_labels_is_an_error(tmp_path):
    path = dumped(tmp_path / "a.pkl", {"adj": np.zeros((4, 4)), "nums": np.ones(4)})
    with pytest.raises(UserError, match="12 labels"):
        authors.read_cooccurrence(path, NAMES)
    with pytest.raises(UserError, match="12 labels"):
        authors.read_label_vectors(dumped(tmp_path / "b.pkl", np.ones((4, 300))), NAMES)


@pytest.mark.parametrize("value", [[1, 2], {"adj": np.zeros((12, 12))}, {"adj": [["a"]], "nums": np.ones(12)}])
def test_a_file_that_holds_no_graph_is_refused(tmp_path, value):
    with pytest.raises(UserError, match="give a"):
        authors.read_cooccurrence(dumped(tmp_path / "a.pkl", value), NAMES)


# Checkpoints


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("score", [93.4, torch.tensor(93.4), np.float64(93.4), np.float32(93.4)], ids=repr)
def test_a_checkpoint_as_published_is_read(tmp_path, prefix, score, legacy):
    state = {"fc1.weight": torch.randn(2, 3), "fc1.bias": torch.randn(2)}
    held = {"state_dict": {prefix + key: value for key, value in state.items()}, "epoch": 7, "best_score": score}
    torch.save(held, tmp_path / "a.pth.tar", _use_new_zipfile_serialization=not legacy)
    read = authors.read_checkpoint(tmp_path / "a.pth.tar")
    assert read.keys() == state.keys() and all(torch.equal(read[key], state[key]) for key in state)


def test_a_bare_state_dict_is_read(tmp_path):
    torch.save({"fc.bias": torch.ones(2)}, tmp_path / "a.pth")
    assert list(authors.read_checkpoint(tmp_path / "a.pth")) == ["fc.bias"]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_would_run_a_command_is_refused_by_name(tmp_path, legacy):
    held = {"state_dict": {}, "epoch": Command(tmp_path / "ran")}
    torch.save(held, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError, match=r"a\.pth is refused: it names (posix|nt)\.system"):
        authors.read_checkpoint(tmp_path / "a.pth")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        authors.read_checkpoint(tmp_path / "a.pth")
    for held in ([1, 2], {"state_dict": [1]}, {"state_dict": {"fc.bias": "text"}}):
        torch.save(held, tmp_path / "a.pth")
        with pytest.raises(UserError, match="no state dict"):
            authors.read_checkpoint(tmp_path / "a.pth")


def test_a_checkpoint_fills_the_model_it_was_saved_from(tmp_path):
    def build(seed):
        torch.manual_seed(seed)
        return models.build("dsdl", labels=12, label_vectors=labels.vectors(NAMES), backbone="resnet18").eval()

    model, other = build(0), build(1)
    own = model.state_dict()
    state = {f"module.{theirs}": own[ours] for theirs, ours in model.authors_names().items()}
    torch.save({"state_dict": state, "epoch": 1, "best_score": torch.tensor(0.5)}, tmp_path / "a.pth.tar")
    models.load_authors(other, authors.read_checkpoint(tmp_path / "a.pth.tar"))
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images).logits, other(images).logits)
