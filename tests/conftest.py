"""Fixtures shared by all tests."""

import os
import signal
from pathlib import Path

import pytest

from tests.models import write_micro_model

# As `preflight.py` does, and more so: a machine that does something else as well makes the tests many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# With `-n` the tests share out the cores, a process to each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# In the background of a script, or behind nohup, these are ignored, and so they would be in every process started here.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

REPOSITORY = Path(__file__).parents[1]
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data that developers and CI have; users do not, and skip what needs it."""
    if not SHARED.is_dir():
        pytest.skip("needs the developers' shared folder, which is not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def micro_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Qwen2 model of 100,000 parameters and a ChatML tokenizer: fast enough for unit tests."""
    return write_micro_model(tmp_path_factory.mktemp("model") / "micro")
