"""The machine that the work is done on."""

import platform
import re
from pathlib import Path


def processor() -> str:
    """The name of the processor."""
    try:
        return re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))[1]
    except (OSError, TypeError):
        return platform.processor() or platform.machine()
