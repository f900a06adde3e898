"""What is silenced comes from where it is expected."""

import subprocess
import sys
from importlib import import_module

import pytest

from medqa_finetune.compat import quiet


def test_the_module_that_warns_of_missing_kernels_has_this_logger() -> None:
    assert import_module(quiet.KERNEL_LOGGER).logger.name == quiet.KERNEL_LOGGER


@pytest.mark.slow
def test_importing_a_model_module_says_nothing_of_kernels() -> None:
    program = "import medqa_finetune.methods.shared.adapters, bitsandbytes"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "kernels" not in done.stderr
