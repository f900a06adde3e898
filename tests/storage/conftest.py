"""Fixtures of the tests of storages."""

import pytest

from medqa_finetune.storage import owner


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of the real thing, which take minutes, as moments."""
    monkeypatch.setattr(owner, "SETTLING_SECONDS", 0.0)
    monkeypatch.setattr(owner, "EXPIRY_SECONDS", 0.3)
