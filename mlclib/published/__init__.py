"""The figures that papers and repositories state, with their sources."""

from pathlib import Path

import pandas as pd

from mlclib.common.errors import check_name

TABLES = ("voc2007", "voc2012", "coco2014", "corel5k", "summary")


def load(name: str) -> pd.DataFrame:
    """The published rows of the table `name`, figures in percent, a figure nobody states NaN.

    "voc2007" and "voc2012" hold the AP of each class and mAP; "coco2014" mAP and CP, CR, CF1, OP, OR, OF1, over all
    labels and over the top three (suffix "-3"); "corel5k" P, R, F1 and N+ of five words per image; "summary" one mAP
    per row, with data set, backbone, input size and pretraining. The column `source` says where each row stands,
    `protocol` what is known of how it was scored (NaN: nothing). Raises UserError for another name.
    """
    check_name("published table", name, TABLES)
    return pd.read_csv(Path(__file__).parent / f"{name}.csv")
