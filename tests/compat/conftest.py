"""What tests of this folder share."""

from typing import Any

import pytest

from tests.compat.small import small_qwen2


@pytest.fixture
def model() -> Any:
    return small_qwen2()
