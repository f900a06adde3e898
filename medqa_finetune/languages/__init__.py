"""What users read, in English and Chinese; holds words alone, and decides nothing but the language.

`choice` decides the language, `translate` finds Chinese words for English ones, `help_page` translates a `--help`. The
words themselves are in `en/` and `zh/`. Those of the report have keys in both languages (`report.py`). All others stand
in English where they are said, which is what logs, records and JSON keep, and `zh/` has their Chinese, found by the
English text: a `Fault` is made without knowing of languages, and is translated when it is shown.
"""
