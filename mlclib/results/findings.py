"""What the runs say (05_tables), in three to five sentences that are made of the tables, so that they change with them.

A sentence that has nothing to rest on (no baseline, no ablation, a single model) is left out.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mlclib.common.files import write_text
from mlclib.results import ablation, captions, leaderboard, protocols
from mlclib.results.leaderboard import PairwiseComparison
from mlclib.results.table import Table


def sentences(compared: PairwiseComparison, ablations: Mapping[str, Table], curves: str = "") -> list[str]:
    """The findings of an experiment. ablations: model -> the table of all its variants, the first of `all_tables`;
    curves: the sentence on learning curves, empty where there are none.
    """
    if not compared.models:
        return [leaderboard.leader_sentence(compared)]
    every = [
        leaderboard.leader_sentence(compared),
        leaderboard.caution_sentence(compared),
        leaderboard.baseline_sentence(compared),
        ablation.variants_sentence(ablations),
        curves,
        leaderboard.power_sentence(compared),
        protocols.reversed_pairs_sentence(compared),
    ]
    return [sentence for sentence in every if sentence]


def write(folder: str | Path, every: Iterable[str], selection: str = "last") -> str:
    """Write findings.md into `folder`, whole or not at all; its text, in Markdown."""
    listed = "\n".join(f"- {sentence}" for sentence in every)
    sources = (
        "Each sentence is computed from the tables of the leaderboard, its pairs, the ablations and the protocols."
    )
    text = f"**What the runs say.**\n\n{listed}\n\n{sources}\n"
    write_text(Path(folder) / f"{captions.file_stem('findings', selection)}.md", text)
    return text
