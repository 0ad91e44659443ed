"""Make data/coco18_ids.csv: which of coco18's images are for training, validation and test.

python data/make_coco18_ids.py CLONE
"""

import sys
from pathlib import Path

from mlclib.common.files import write_text
from mlclib.datasets import coco18

if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    parts = coco18.divide(coco18.read_targets(Path(sys.argv[1]) / "data" / "train.csv"))
    rows = [f"{number},{part}\n" for number, part in enumerate(parts)]
    write_text(coco18.IDS, "image,part\n" + "".join(rows))
