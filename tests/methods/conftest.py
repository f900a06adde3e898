"""Fixtures of the tests of this folder."""

from tests.model.conftest import qwen_3b

__all__ = ["qwen_3b"]
