"""Fixtures shared by all tests."""

import gc
import json
import os
import signal
import sys
import warnings
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from scripts.small_models import write_micro_model
from tests import warm

# As in `preflight.py`: with active waiting, other load on the machine makes the tests many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Processes that tests start, hundreds of them, would each compile the package and its tests where nothing is kept.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# With `-n`, each worker process gets one core.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A change is tested with the same inputs each time; the nightly job draws others.
# A busy machine may take long for one.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("others", derandomize=False, deadline=None)
settings.load_profile(os.environ.get("MEDQA_TEST_INPUTS", "same"))

# These signals are ignored in background jobs of scripts and under nohup, and every child process would inherit that.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)


class WarningsFile:
    """Writes every distinct warning of a test run as a JSON line to a file, for `scripts/check_versions.py`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: dict[tuple[str, str, str, int], str] = {}

    def pytest_warning_recorded(self, warning_message: warnings.WarningMessage, nodeid: str) -> None:
        place = (warning_message.filename, warning_message.lineno)
        self.seen.setdefault((warning_message.category.__name__, str(warning_message.message), *place), nodeid)

    def pytest_sessionfinish(self) -> None:
        keys = ("category", "message", "filename", "lineno", "test")
        rows = [dict(zip(keys, (*key, nodeid), strict=True)) for key, nodeid in self.seen.items()]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the processes of `-n logical`: half as many again as cores, since tests of launching wait for children."""
    cores = os.cpu_count() or 1
    return cores + (cores + 1) // 2


@cache
def _forks() -> str:
    return warm.start_server(OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Give every worker process of `-n` the same server of forks, which imports while they collect."""
    node.workerinput["forks"] = _forks()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--warnings-to", type=Path, help="write every distinct warning into a file, as a line of JSON")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        warm.use_server(config.workerinput["forks"])
    path = config.getoption("--warnings-to")
    # With `-n`, the main process receives the workers' warnings.
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(WarningsFile(path))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while everything is imported, of which there is none."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """Leave all that is imported out of garbage collections: every training asks for one, which takes half a second."""
    gc.collect()
    gc.freeze()


# The tests check behaviour with any package versions.
os.environ.setdefault("MEDQA_UNTESTED_VERSIONS", "allow")
# Whatever the locale is here.
os.environ["MEDQA_LANG"] = "en"
REPOSITORY = Path(__file__).parents[1]
SET_BY_COMMANDS = ("MPLBACKEND", "PYTORCH_ALLOC_CONF")
SHARED = REPOSITORY.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data; developers and CI have it, and tests that need it are skipped for users."""
    if not SHARED.is_dir():
        pytest.skip("needs the developers' shared folder, which is not part of the repository")
    return SHARED


@pytest.fixture(autouse=True)
def own_variables_stay_in_a_test() -> Iterator[None]:
    """Take back what commands that a test runs in this process set for theirs; forks would not be equivalent."""
    before = {name: os.environ.get(name) for name in SET_BY_COMMANDS}
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture
def forked_children() -> Iterator[None]:
    """Fork the processes that this package starts from one that has loaded torch."""
    with warm.children():
        yield


@pytest.fixture(scope="session")
def micro_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Qwen2 model of 100,000 parameters and a ChatML tokenizer: fast enough for unit tests."""
    return write_micro_model(tmp_path_factory.mktemp("model") / "micro")


@pytest.fixture
def blank_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts without marks, for tests that look at tables and words: to draw them takes most of the time."""
    from matplotlib.figure import Figure

    from medqa_finetune.report.figures import overview
    from medqa_finetune.report.figures import write as write_of_charts

    monkeypatch.setattr(write_of_charts, "figure_of", lambda chart, _lettering: Figure(figsize=(1, 1)))
    for name in ("data_scale_figure", "method_figure"):
        monkeypatch.setattr(overview, name, lambda given, _lettering=None: Figure(figsize=(1, 1)))
