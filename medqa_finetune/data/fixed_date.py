"""Chat templates that show today's date, with a fixed one: prompts must not change at midnight."""

from datetime import date

# Templates that show today's date get this one, unless `model.date` gives another: ids must not change at midnight.
DEFAULT_DATE = "2026-01-01"
# The function by which templates show the present time, and the codes of its format.
NOW = "strftime_now"
STRFTIME_CODES = "aAbBdeFGgHIjmMpSuUVwWyY"


def with_date(template: str, day: str | None) -> str:
    """Return a template that shows a fixed date where it asks for the present time; others as they are.

    transformers passes templates plain data alone, so its function is replaced by a macro.

    Args:
        template: A chat template.
        day: As `YYYY-MM-DD`; None for `DEFAULT_DATE`.
    """
    if NOW not in template:
        return template
    shown_day = date.fromisoformat(day or DEFAULT_DATE)
    codes = {f"%{code}": shown_day.strftime(f"%{code}") for code in STRFTIME_CODES}
    # A code without the padding zero (glibc's `%-d`) must be replaced before the padded one.
    shown = {"%-d": str(shown_day.day), "%-m": str(shown_day.month)} | codes
    replaced = "".join(f".replace({code!r}, {text!r})" for code, text in shown.items())
    return f"{{% macro {NOW}(format) %}}{{{{ format{replaced} }}}}{{% endmacro +%}}{template}"
