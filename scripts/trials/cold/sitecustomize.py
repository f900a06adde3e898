"""Injects faults into cells started as fresh processes: Python imports this at start if its folder is on PYTHONPATH."""

import os
import sys
from pathlib import Path

if os.environ.get("MEDQA_FAULTS") and "medqa_finetune.train" in sys.orig_argv:
    sys.path.insert(1, str(Path(__file__).parents[3]))
    from scripts.trials.actions import strike_here

    strike_here(sys.orig_argv)
