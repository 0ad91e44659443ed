"""Process-global settings, set here alone and restored: precision, threads, determinism, processes."""

import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import PartialState

from mlclib.config import Training

WAIT = datetime.timedelta(days=2)  # of one process for the others
PRECISION = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def processes() -> PartialState:
    """The processes that train one run together (torchrun, accelerate launch): by gloo where there is no GPU.

    The timeout of their collective operations is WAIT, not torch's ten minutes: one process may wait while another
    opens every image, or until another training of the run ends. A process that dies is noticed at once.
    """
    return PartialState(cpu=not torch.cuda.is_available(), timeout=WAIT)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context that computes in `precision` on the device; off for float32."""
    half = precision != "float32"
    return torch.autocast(device.type, PRECISION[precision] if half else None, enabled=half)


@contextmanager
def torch_settings(config: Training) -> Iterator[None]:
    """The settings of this process that a run's bits hang on: threads, and deterministic kernels; restored after it.

    Sums over more threads round otherwise, so `threads` is part of a run's identity.
    """
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    if config.threads:
        torch.set_num_threads(config.threads)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn" if config.deterministic else "default")
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
