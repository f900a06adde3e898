"""Fixtures of the training tests."""

from collections.abc import Iterator
from functools import cache

import jinja2
import pytest

from tests.training.trial import one_thread


@pytest.fixture(autouse=True, scope="package")
def single_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(autouse=True, scope="package")
def clean_environment() -> Iterator[None]:
    """Remove the folder of event files that training puts into the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TENSORBOARD_LOGGING_DIR", "")
        yield


@pytest.fixture(autouse=True, scope="package")
def templates_compiled_once() -> Iterator[None]:
    """Keep compiled templates: peft compiles that of its model card for every checkpoint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jinja2.Environment, "compile", cache(jinja2.Environment.compile))
        yield
