"""Every sentence with a figure is borne out by the tables that stand, and the check of it misses nothing."""

import re
import shutil
from pathlib import Path

import prose
import pytest

from mlclib.common.errors import UserError
from mlclib.verify import claims

ROOT = Path(__file__).parents[1]
HELD = claims.read(ROOT / claims.FILE)


def test_the_tables_bear_every_claim_out():
    assert not claims.broken(HELD, ROOT)


def test_every_figure_of_the_readme_and_the_experiments_has_a_claim():
    assert not prose.uncovered(HELD, ROOT)


@pytest.fixture
def place(tmp_path):
    """A README, an experiment and a table to make claims on."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "one.yaml").write_text("title: One\nnotes: [Trained on 12 images.]\nseeds: [7]\n")
    table = tmp_path / "results" / "one" / "tables" / "scores.csv"
    table.parent.mkdir(parents=True)
    table.write_text("model,layer,mAP\ngmp,4,69.149\nmsrn,2,73.324\nmsrn,4,70.0\n")
    (tmp_path / "README.md").write_text(
        "# VOC 2007 at 5 layers\n\nAll layers reach 73.3 mAP\nand gmp 69.1, arXiv 2106.11596.\n\n    code 99\n\n"
        "| a | 1 |\n| --- | --- |\n| b | 2 |\n\nIt has `3` and [a link](4.md), ResNet-101, F1 and 1e-4, 1,234 in all.\n"
    )
    return tmp_path


CLAIMS = """
names: [VOC 2007]
tables: {scores: results/one/tables/scores.csv}
claims:
  - text: reach 73.3 mAP and gmp 69.1
    rules:
      - {cell: [scores, [msrn, "2"], mAP], is: 73.3}
      - {cell: [scores, gmp, mAP], is: 69.1}
given:
  - {text: at 5 layers, because: counted}
  - {text: "| a | 1 |", because: a table}
  - {text: "F1 and 1e-4, 1,234 in all", because: counted}
  - {in: experiments/one.yaml, text: on 12 images, because: counted}
"""


def made(place: Path, text: str = CLAIMS) -> claims.Claims:
    (place / "claims.yaml").write_text(text)
    return claims.read(place / "claims.yaml")


def test_what_is_covered_and_true_is_passed(place):
    held = made(place)
    assert prose.uncovered(held, place) == [] == claims.broken(held, place)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - {text: at 5 layers, because: counted}\n", "", "README.md: no claim of claims.yaml covers 5 in"),
        ("1,234 in all", "1,2", "covers 1,234 in"),
        ("F1 and 1e-4, 1,234", "1,234", "covers 1e-4 in"),
        ('  - {text: "| a | 1 |", because: a table}\n', "", "covers 1 in '.*covers 2 in '"),
        ("names: [VOC 2007]", "names: []", "covers 2007 in"),
        (
            "on 12 images",
            "on 13 images",
            "experiments/one.yaml does not say .*one.yaml: no claim of claims.yaml covers 12",
        ),
        ("and gmp 69.1", "and gmp 69.2", "README.md does not say 'reach 73.3 mAP and gmp 69.2' any more"),
        ("      - {cell: [scores, gmp, mAP], is: 69.1}\n", "", "no rule of the claim .* makes use of its 69.1"),
        ("experiments/one.yaml", "experiments/two.yaml", "unknown text 'experiments/two.yaml' in claims.yaml"),
    ],
)
def test_a_figure_without_a_claim_and_a_claim_without_a_figure_are_named(place, old, new, said):
    assert old in CLAIMS
    found = prose.uncovered(made(place, CLAIMS.replace(old, new)), place)
    assert any(re.search(said, one) for one in [*found, " ".join(found)]), found


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("cell: [scores, gmp, mAP], is: 69.2", "it is 69.1"),
        ("cell: [scores, gmp, mAP], is: 69", ""),
        ("cell: [scores, gmp, mAP], at least: 69.2", "it is 69.149"),
        ("cell: [scores, gmp, mAP], at most: 69", "it is 69.149"),
        ("cell: [scores, gmp, mAP], between: [69, 70]", ""),
        ("cell: [scores, gmp, mAP], times: 0.01, is: 0.69", ""),
        ("difference: [[scores, [msrn, 2], mAP], [scores, gmp, mAP]], is: 4.2", ""),
        ("difference: [[scores, [msrn, 2], mAP], [scores, gmp, mAP]], is: 4.1", "it is 4.2"),
        ("least: [scores, [gmp, 'ms*'], mAP], is: 69.1", ""),
        ("most: [scores, [msrn], mAP], at most: 73", "it is 73.324"),
        ("count: scores, is: 3", ""),
        ("count: scores, is: 4", "it is 3"),
        ("order: [[scores, [msrn, 2], mAP], [scores, [msrn, 4], mAP], [scores, gmp, mAP]]", ""),
        ("order: [[scores, gmp, mAP], [scores, [msrn, 2], mAP]]", "in that order they are 69.149, 73.324"),
        ("cell: [scores, msnr, mAP], is: 1", r"unknown row 'msnr' in scores \(did you mean 'msrn'\?\)"),
        ("cell: [scores, msrn, mAP], is: 1", "2 rows of scores begin with 'msrn'"),
        ("cell: [scores, gmp, CF1], is: 1", "unknown column 'CF1' in scores"),
        ("least: [scores, [gap], mAP], is: 1", "unknown row 'gap' in scores"),
        ("count: score, is: 1", "unknown table 'score' in claims.yaml"),
    ],
)
def test_a_rule_says_what_the_table_holds_instead(place, rule, said):
    text = CLAIMS.replace("cell: [scores, gmp, mAP], is: 69.1", rule)
    assert text != CLAIMS or said == ""
    found = claims.broken(
        made(place, text.replace("[msrn, 2]", '[msrn, "2"]').replace("[msrn, 4]", '[msrn, "4"]')), place
    )
    assert len(found) == bool(said)
    if said:
        assert found[0].startswith("README.md says 'reach 73.3 mAP and gmp 69.1', but ")
        assert re.search(said, found[0]), found


def test_a_table_that_changed_breaks_the_claims_on_it_and_no_others(place):
    table = place / "results" / "one" / "tables" / "scores.csv"
    shutil.copytree(place / "results", place / "elsewhere")
    table.write_text(table.read_text().replace("73.324", "73.41"))
    assert len(claims.broken(made(place), place)) == 1
    assert claims.broken(made(place), place, experiment="two") == []
    assert claims.broken(made(place), place, place / "elsewhere") == []
    table.unlink()
    assert all("there is no table" in said for said in claims.broken(made(place), place))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("is: 69.1", "is not: 69.1", "claims.0.rules.1.*is not"),
        ("because: counted", "why: counted", "given.0"),
        ("cell: [scores, gmp, mAP]", "cell: [scores, gmp]", r"claims.0.rules.1.cell"),
        ("cell: [scores, gmp, mAP], is: 69.1", "is: 69.1", "a rule takes one quantity"),
        ("is: 69.1", "at: 69.1", "claims.0.rules.1"),
        ("mAP], is: 69.1", "mAP]", "states what it is"),
        ("claims:", "claims", "cannot be read"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(place, old, new, said):
    assert old in CLAIMS
    with pytest.raises(UserError, match=said):
        made(place, CLAIMS.replace(old, new))
