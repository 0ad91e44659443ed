"""One training loop for every model: deterministic, resumable to the bit, on any number of devices.

Every random number is drawn from (seed, epoch, step or image), so a state needs no random
generator's insides: a run stopped anywhere and started again ends with the same weights.
"""

import math
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from mlclib.common.errors import UserError
from mlclib.common.files import written_whole
from mlclib.common.progress import Progress
from mlclib.config import Training
from mlclib.metrics import scores as metrics
from mlclib.models.base import Classifier
from mlclib.training import checkpoints
from mlclib.training.checkpoints import State, load_trained_state, trained_state
from mlclib.training.inputs import Maps, as_is, batches, seed_of
from mlclib.training.optimisation import optimizer_of, rate_factor, warmed_up
from mlclib.training.settings import autocast, processes


class Interrupted(UserError):
    """The run was asked to stop (SIGTERM); its state is saved and the same command goes on from there."""


class Trainer:
    """Trains `model` on `train`, scores `val` after every epoch and `test` at the end, and keeps its state in `folder`.

    Without `val`, and where the configuration asks for it (eval_test_each_epoch), `test` is scored after every epoch.
    """

    def __init__(
        self,
        model: Classifier,
        train: torch.utils.data.Dataset,
        test: torch.utils.data.Dataset,
        config: Training,
        seed: int,
        folder: Path,
        progress: Progress | None = None,
        val: torch.utils.data.Dataset | None = None,
    ):
        self.config, self.seed, self.folder, self.progress = config, seed, Path(folder), progress
        self.accelerator = Accelerator(cpu=processes().device.type == "cpu")
        self.device = self.accelerator.device
        self.train_data, self.test_data, self.val_data = (
            data.on(self.device) if isinstance(data, Maps) and not config.workers else data
            for data in (train, test, val)
        )
        if self.device.type == "cpu" and "float16" in (config.precision, config.evaluation_precision):
            raise UserError(
                "float16 is not computed on a CPU: set training.precision (or evaluation_precision) to float32"
            )
        self.world, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        if self.world > 1 and self.device.type == "cuda":
            from timm.layers import convert_sync_batchnorm

            model = convert_sync_batchnorm(model)
        self.model, self.learnt = model, [p for p in model.parameters() if p.requires_grad]
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "float16")
        optimizer = optimizer_of(model.parameter_groups(config.learning_rate, config.backbone_factor), config)
        self.wrapped, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.ema = AveragedModel(model, multi_avg_fn=warmed_up(config.ema), use_buffers=True) if config.ema else None
        self.steps = math.ceil(len(train) / config.batch_size)
        self.state = State()
        parts, rest = self.world * config.accumulate, len(train) % config.batch_size or config.batch_size
        if rest < parts:
            raise UserError(
                f"training.batch_size is {config.batch_size} and {len(train)} training images leave a last batch of "
                f"{rest}, too few for {self.world} processes times training.accumulate {config.accumulate}: choose "
                "another batch_size"
            )
        if self.accelerator.is_main_process:
            self._warn_of_parts(parts)

    def run(self) -> State:
        """Train to the last epoch, from the newest whole checkpoint if there is one; the state at its end.

        Raises UserError when the loss is no longer finite, memory or disk do not suffice, or the sizes do not fit;
        Interrupted after SIGTERM and KeyboardInterrupt after Ctrl-C, both with the state saved.
        """
        self.saved_at = time.monotonic()
        try:
            self._resume()
            if self.progress:
                self.progress.start(self.state.epoch * self.steps + self.state.step, self.config.epochs * self.steps)
            with _stop_asked() as asked:
                while self.state.epoch < self.config.epochs:
                    self._epoch(asked)
            self._score_test()
        except torch.OutOfMemoryError:
            raise UserError(
                f"the device's memory does not hold a batch of {self.config.batch_size} images: lower "
                "training.batch_size, raise training.accumulate, or set training.precision: bfloat16"
            ) from None
        except RuntimeError as error:
            if self.world > 1 and re.search("closed by peer|reset by peer|timed out|NCCL", str(error), re.IGNORECASE):
                raise UserError("another process of this training ended; its own sentence says why") from None
            raise
        return self.state

    def evaluate(self, data: torch.utils.data.Dataset, model: torch.nn.Module | None = None) -> torch.Tensor:
        """Logits float32 [N, C] of `data` in its order, each image scored exactly once over all processes."""
        model = model or self.model
        model.eval()
        rows = np.arange(len(data))[self.rank :: self.world]
        parts = [torch.empty(0, data.targets.shape[1], device=self.device)]  # there may be more processes than images
        with torch.no_grad(), autocast(self.config.evaluation_precision, self.device):
            for inputs, _ in self._loader(data, list(batches(rows, self.config.batch_size))):
                parts.append(model(self._to_device(inputs)).logits.float())
        own = torch.cat(parts)
        if self.world == 1:
            return own.cpu()
        padded = self.accelerator.pad_across_processes(own, dim=0)
        gathered = self.accelerator.gather(padded).view(self.world, -1, own.shape[1])
        return gathered.transpose(0, 1).reshape(-1, own.shape[1])[: len(data)].cpu()

    def _epoch(self, asked: list[int]) -> None:
        """The rest of the current epoch, and its scores."""
        state, config = self.state, self.config
        order = np.random.default_rng([self.seed, state.epoch]).permutation(len(self.train_data))
        whole = list(batches(order, config.batch_size, state.epoch))[state.step :]
        # An accumulated part takes every n-th image of a batch, each process every world-th of those: so synchronised
        # batch norm is over the same images however many processes there are.
        parts = [
            [batch[n :: config.accumulate][self.rank :: self.world] for n in range(config.accumulate)]
            for batch in whole
        ]
        loader = iter(self._loader(self.train_data, [keys for batch in parts for keys in batch]))
        started, seen_before = time.perf_counter(), state.images
        self.wrapped.train()
        for batch in whole:
            targets = torch.from_numpy(self.train_data.targets[[row for _, row in batch]])
            parts = [next(loader) for _ in range(config.accumulate)]
            state.loss_sum += self.step(parts, targets) * len(batch)
            state.images += len(batch)
            state.step += 1
            if self.progress:
                self.progress.step()
            stop, due = self._agreed(asked)
            if stop or due:
                self._save()
            if stop:
                name = self.progress.name if self.progress else "the training"
                raise (KeyboardInterrupt if signal.SIGINT in asked else Interrupted)(
                    f"{name} stopped at epoch {state.epoch + 1}, step {state.step}; the same command goes on from there"
                )
        self._close_epoch(state.images - seen_before, time.perf_counter() - started)

    def step(self, parts: list[tuple[Any, torch.Tensor]], batch: torch.Tensor) -> float:
        """One optimizer step over this process's parts of a batch with these targets [B, C]; the whole batch's loss."""
        state = self.state
        torch.manual_seed(seed_of(self.seed, state.epoch, state.step, self.rank))
        factor = rate_factor(self.config, state.epoch * self.steps + state.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        total = torch.zeros((), device=self.device)
        for number, (inputs, targets) in enumerate(parts):
            last = number == len(parts) - 1
            with self.accelerator.no_sync(self.wrapped) if not last else nullcontext():
                with autocast(self.config.precision, self.device):
                    output = self.wrapped(self._to_device(inputs))
                    loss = self.model.loss(output, self._to_device(targets))
                # gradients are averaged over the processes
                share = self.world * self.model.share(targets, batch)
                self.scaler.scale(loss * share).backward()
                total += loss.detach().float() * share
        value = float(self.accelerator.reduce(total, "mean")) if self.world > 1 else float(total)
        if not math.isfinite(value):
            saved = checkpoints.listed(self.folder)
            raise UserError(
                f"the loss became {value} at epoch {state.epoch + 1}, step {state.step + 1}, learning rate "
                f"{self.optimizer.param_groups[-1]['lr']:.3g}: lower training.learning_rate or set training.clip_norm; "
                f"the last good checkpoint is {saved[-1] if saved else 'none'}"
            )
        if self.config.clip_norm is not None:
            self.scaler.unscale_(self.optimizer.optimizer)
            torch.nn.utils.clip_grad_norm_(self.learnt, self.config.clip_norm)
        self.scaler.step(self.optimizer.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if self.ema:
            self.ema.update_parameters(self.model)
        return value

    def _close_epoch(self, images: int, seconds: float) -> None:
        state, epoch = self.state, self.state.epoch + 1
        row = {
            "epoch": epoch,
            "loss": state.loss_sum / state.images,
            "learning_rate": self.optimizer.param_groups[-1]["lr"],
            "images_per_second": images / max(seconds, 1e-9),
            "seconds": seconds,
        }
        if self.val_data is not None:
            row |= self._scored(self.val_data, state.val)
            if not row["mAP"] <= state.best_val_mAP:
                state.best_val_epoch, state.best_val_mAP, state.val["best_val"] = epoch, row["mAP"], state.val["last"]
                state.best_val_weights = {key: value.cpu().clone() for key, value in trained_state(self.model).items()}
        if self.val_data is None or self.config.eval_test_each_epoch:
            scored = self._scored(self.test_data, state.logits)
            if not scored["mAP"] <= state.best_test_mAP:
                state.best_test_epoch, state.best_test_mAP = epoch, scored["mAP"]
                state.logits["best_test"] = state.logits["last"]
            row |= scored if self.val_data is None else {f"test_{key}": value for key, value in scored.items()}
        state.history.append(row)
        state.epoch, state.step, state.loss_sum, state.images = epoch, 0, 0.0, 0
        if self.accelerator.is_main_process:
            with written_whole(self.folder / "history.csv") as part:
                pd.DataFrame(state.history).to_csv(part, index=False)
            if self.progress:
                self.progress.epoch(row)

    def _scored(self, data: torch.utils.data.Dataset, logits: dict[str, torch.Tensor]) -> dict[str, float]:
        """The mAPs of `data` by the weights as they are and by the averaged ones; `logits` takes up their logits."""
        scores = {}
        for of, column, model in (("last", "mAP", self.model), ("ema", "mAP_ema", self.ema)):
            if model is not None:
                logits[of] = self.evaluate(data, model)
                scores[column] = float(metrics.evaluate(logits[of].numpy(), data.targets)["mAP"])
        return scores

    def _score_test(self) -> None:
        """What is left to score on the test images when the last epoch is done."""
        state = self.state
        if "last" not in state.logits:
            self._scored(self.test_data, state.logits)
        if state.best_val_weights is not None:
            last = {key: value.clone() for key, value in trained_state(self.model).items()}
            load_trained_state(self.model, state.best_val_weights)
            state.logits["best_val"] = self.evaluate(self.test_data)
            load_trained_state(self.model, last)

    def _agreed(self, asked: list[int]) -> tuple[bool, bool]:
        """Whether any process was asked to stop, and whether a checkpoint is due, the same answers in all of them."""
        due = time.monotonic() - self.saved_at >= 60 * self.config.checkpoint_minutes
        if self.world == 1:
            return bool(asked), due
        own = torch.tensor([len(asked), due and self.accelerator.is_main_process], device=self.device)
        stop, due = self.accelerator.reduce(own).tolist()
        return bool(stop), bool(due)

    def _loader(self, data: torch.utils.data.Dataset, keys: list[list[tuple[int, int]]]) -> DataLoader:
        return DataLoader(data, batch_sampler=keys, collate_fn=as_is, num_workers=self.config.workers)

    def _to_device(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._to_device(item) for key, item in value.items()}
        layout = {"memory_format": torch.channels_last} if value.ndim == 4 else {}
        return value.to(self.device, non_blocking=True, **layout)

    def _warn_of_parts(self, parts: int) -> None:
        """Warn if the loss or batch norm over parts of a batch differs from that over the whole batch."""
        name = type(self.model).__name__
        if self.model.sums_over_batch and parts > 1:
            print(
                f"{name}'s loss holds sums or norms over a batch: over {self.world} processes and "
                f"{self.config.accumulate} accumulated parts they run over each part alone, which is not the same loss"
            )
        self.model.train()  # after which a frozen norm still does not train
        norms = any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and m.training for m in self.model.modules())
        if norms and self.world > 1 and self.device.type == "cpu":
            print(
                f"{name} has batch norm, which each of {self.world} processes on a CPU takes over its own part of a "
                "batch: train by one process, on GPUs, or with training.frozen_norms to get the same result"
            )

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            parts = {
                "model": trained_state(self.model),
                "optimizer": self.optimizer.state_dict(),
                "scaler": self.scaler.state_dict(),
                "ema": self.ema.state_dict() if self.ema else None,
            }
            checkpoints.write(self.folder, self.state, parts)
        self.accelerator.wait_for_everyone()
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        """Take up the newest whole checkpoint, if there is one."""
        if self.accelerator.is_main_process:
            for part in self.folder.glob(".checkpoint-*.part"):  # what a process killed while writing left
                part.unlink()
        if (plain := checkpoints.newest(self.folder)) is None:
            return
        load_trained_state(self.model, plain["model"])
        self.optimizer.load_state_dict(plain["optimizer"])
        self.scaler.load_state_dict(plain["scaler"])
        if self.ema:
            self.ema.load_state_dict(plain["ema"])
        self.state = State(**plain["state"])


@contextmanager
def _stop_asked() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT so that the step under way ends first; a second one stops at once."""
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
