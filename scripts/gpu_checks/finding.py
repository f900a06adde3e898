"""What a check found."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Finding:
    """One measured value.

    Attributes:
        part: Name of the part.
        what: What was measured, and on what.
        value: The value; a text where it is no number.
        unit: Its unit; empty for a ratio, a number of things or a text.
        limit: What it must not exceed, or what it is compared with, as text; empty where it is only told.
        ok: Whether it is as it should be; None where there is no limit.
    """

    part: str
    what: str
    value: float | int | str
    unit: str = ""
    limit: str = ""
    ok: bool | None = None
