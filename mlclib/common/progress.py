"""Progress of training: a bar in a live notebook or terminal, else one line per epoch."""

import math
import sys
import time

from tqdm.auto import tqdm


def live() -> bool:
    """Whether somebody watches: a terminal, or a notebook that may ask for input (papermill forbids it)."""
    if "ipykernel" not in sys.modules:
        return sys.stderr.isatty()
    from IPython import get_ipython

    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


class Progress:
    """Shows the steps and epochs of one run called `name`."""

    def __init__(self, name: str, epochs: int):
        self.name, self.epochs, self.bar = name, epochs, None

    def start(self, done: int, steps: int) -> None:
        """Begin (or go on) at optimizer step `done` of `steps`."""
        self.done, self.steps, self.first, self.started = done, steps, done, time.perf_counter()
        if live():
            self.bar = tqdm(total=steps, initial=done, desc=self.name)

    def step(self) -> None:
        """One optimizer step is over."""
        self.done += 1
        if self.bar is not None:
            self.bar.update()

    def epoch(self, row: dict[str, float]) -> None:
        """One epoch is over; `row` is its line of the history."""
        score = "hidden" if math.isnan(row["mAP"]) else f"{100 * row['mAP']:.2f}"
        text = f"loss {row['loss']:.4f}  mAP {score}  lr {row['learning_rate']:.2e}"
        if self.bar is not None:
            self.bar.set_postfix_str(text)
            if self.done == self.steps:
                self.bar.close()
            return
        left = (time.perf_counter() - self.started) / max(self.done - self.first, 1) * (self.steps - self.done)
        speed = f"{row['images_per_second']:.0f} images/s  {left:.0f} s left"
        print(f"{self.name}  epoch {row['epoch']}/{self.epochs}  {text}  {speed}", flush=True)
