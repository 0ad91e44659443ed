"""How long the explorer takes to show what was chosen: `python -m benchmarks.explorer`.

On the demo's finished runs: every widget's new value computes the maps and scores anew and draws the picture.
"""

import time

from benchmarks import report
from mlclib.inference.explorer import Explorer
from mlclib.results import notebook

CHANGES = 10


def slowest(explorer: Explorer, widget: str, values: list[object]) -> float:
    """Seconds of the slowest of some changes of one widget, each of which must change the picture."""
    times = []
    for value in values:
        before, start = explorer.picture.value, time.perf_counter()
        getattr(explorer, widget).value = value
        times.append(time.perf_counter() - start)
        if explorer.picture.value == before:
            raise AssertionError(f"{widget} {value} did not change the picture")
    return max(times)


def main() -> None:
    study, rows = notebook.study("demo"), []
    for model in study.experiment.models:
        explorer = Explorer(study, model)
        others = [label for label in explorer.labels if label != explorer.label.value]
        choices = {"image": list(range(10, 10 + CHANGES)), "label": others[:CHANGES], "map": list(explorer.map.options)}
        choices["map"] = [name for name in choices["map"] if name != explorer.map.value]
        for widget, values in choices.items():
            if values:
                seconds, detail = slowest(explorer, widget, values), f"the slowest of {len(values)} changes, scenes"
                rows.append({"name": f"explorer, {model}, {widget}", "value": seconds, "unit": "s", "detail": detail})
    print(report.write(rows))


if __name__ == "__main__":
    main()
