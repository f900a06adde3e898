"""What a test asks of an error: its faults, never its words."""

import pytest

from medqa_finetune.errors import Fault, MedQAError


def only_fault(caught: "pytest.ExceptionInfo[MedQAError]") -> Fault:
    """Return the one fault of an error that a test caught."""
    (fault,) = caught.value.faults
    return fault
