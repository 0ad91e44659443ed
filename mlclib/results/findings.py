"""What the runs say (05_tables): up to seven findings, each computed from the tables.

A sentence that has nothing to rest on (no baseline, no ablation, a single model) is left out.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from IPython.display import Markdown

from mlclib.common.files import write_text
from mlclib.results import ablation, leaderboard, protocols
from mlclib.results.leaderboard import PairwiseComparison
from mlclib.results.table import Table, escape_markdown


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


def write(folder: Path, name: str, heading: str, every: Iterable[str]) -> Markdown:
    """Write sentences into <name>.md in `folder`, whole or not at all; its text."""
    listed = "\n".join(f"- {escape_markdown(sentence)}" for sentence in every)
    text = f"**{heading}**\n\n{listed}\n"
    write_text(folder / f"{name}.md", text)
    return Markdown(text)
