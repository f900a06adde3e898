"""Writes the tables for a paper as LaTeX (`table.tex`), to be included with `\\input`; needs the package booktabs."""

from collections.abc import Sequence

from medqa_finetune.report.messages import label
from medqa_finetune.report.messages.language import Text
from medqa_finetune.report.outputs.paper import DAGGER, NOTHING, Figure, PaperTable

# Between two hyphens, which would be a dash.
APART = "\N{WORD JOINER}"
# What means something in LaTeX (brackets and stars only at the beginning of a row), and the few other characters of
# these tables that pdfLaTeX lacks.
ESCAPES = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''", "`": r"\textasciigrave{}",
    APART: "{}", "–": "--", "±": r"$\pm$", "†": r"$^{\dagger}$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
    "−": "$-$", "[": "{[}", "]": "{]}", "*": "{*}",
})  # fmt: skip
PREAMBLE = r"""% Include with \input{table}; the preamble needs \usepackage{booktabs,graphicx}."""
BEYOND_ASCII = r"""% Names in it are not Latin: compile with XeLaTeX or LuaLaTeX, for Chinese with \usepackage{ctex}."""


def tables_as_latex(tables: Sequence[PaperTable]) -> str:
    """Format the tables as LaTeX, each as a float with a caption, and notes and signatures below it."""
    body = "\n".join(_table(table, number) for number, table in enumerate(tables, start=1))
    head = PREAMBLE if body.isascii() else f"{PREAMBLE}\n{BEYOND_ASCII}"
    return f"{head}\n{body}"


def _table(table: PaperTable, number: int) -> str:
    header = [label("paper.method").spoken, table.items, *table.columns]
    caption = label("paper.caption", title=table.title, notes=Text(" ".join(table.notes), "".join(table.notes))).spoken
    lines = [
        r"\begin{table}[tbp]",
        r"  \centering",
        rf"  \caption{{{escaped(caption)}}}",
        rf"  \label{{tab:medqa-{number}}}\medskip",
        # Narrow columns; what is wider than the text all the same is scaled down to it.
        r"  \footnotesize\setlength{\tabcolsep}{3pt}",
        r"  \resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{"
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"    \toprule",
        f"    {' & '.join(map(escaped, header))} \\\\",
        r"    \midrule",
    ]
    before = table.rows[0].size if table.rows else ""
    for row in table.rows:
        # Baselines, which come first, are set apart.
        if before == NOTHING != row.size:
            lines.append(r"    \midrule")
        before = row.size
        lines.append(f"    {' & '.join([escaped(row.method), escaped(row.size), *map(_figure, row.figures)])} \\\\")
    lines += [r"    \bottomrule", r"  \end{tabular}}"]
    if table.signatures:
        signed = "; ".join(f"{escaped(score)}: \\texttt{{{_breakable(own)}}}" for score, own in table.signatures)
        heading = label("paper.signatures").spoken
        lines += ["", rf"  \smallskip\parbox{{\linewidth}}{{\raggedright\footnotesize {heading} {signed}.}}"]
    return "\n".join([*lines, r"\end{table}", ""])


def _figure(figure: Figure) -> str:
    value = _number(figure.text)
    value = rf"\textbf{{{value}}}" if figure.best else value
    value += escaped(DAGGER) if figure.level else ""
    return rf"{value} {{\scriptsize {_number(figure.more)}}}" if figure.more else value


def escaped(text: str) -> str:
    """Return a text as LaTeX shows it literally, on one line."""
    return " ".join(text.split()).replace("--", f"-{APART}-").translate(ESCAPES)


def _number(text: str) -> str:
    return escaped(text.replace("-", "−"))


def _breakable(signature: str) -> str:
    # A signature has no blank at which a line could break.
    return escaped(signature).replace(r"\textbar{}", r"\textbar{}\allowbreak{}")
