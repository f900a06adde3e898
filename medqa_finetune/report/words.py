"""What the report says in two languages: one sentence each, and the words that stand in charts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Text:
    """One thing said in English and in Chinese."""

    en: str
    zh: str


# Words in charts, by their English. A chart is drawn once, in English; the page shows the Chinese at a switch.
CHART_WORDS = {
    "Training pairs": "训练问答对数",
    "Training step": "训练步数",
    "Training tokens": "训练词元数",
    "Training loss": "训练损失",
    "Validation loss": "验证损失",
    "untuned base": "未微调基座",
    "retrieval": "检索基线",
    "not trained": "未训练",
    "missing": "缺失",
    "not measured": "未测量",
    "Score": "得分",
    "ROUGE-L F1 (characters)": "ROUGE-L F1（按字）",
    "ROUGE-1 F1 (characters)": "ROUGE-1 F1（按字）",
    "ROUGE-2 F1 (characters)": "ROUGE-2 F1（按字）",
    "Corpus BLEU (sacrebleu zh)": "语料级 BLEU（sacrebleu zh）",
    "Perplexity of the reference answers": "参考答案的困惑度",
    "GPU-hours": "GPU 小时",
    "Hours of training": "训练小时数",
    "Minutes of training": "训练分钟数",
    "Seconds of training": "训练秒数",
    "Peak GPU memory (GiB)": "显存峰值（GiB）",
    "Peak memory of the process (GiB)": "进程内存峰值（GiB）",
    "Tokens a second": "每秒词元数",
    "Cost of training": "训练费用",
    "Pareto front": "帕累托前沿",
    "with the first": "行",
    "fit": "拟合",
    "row − column": "行 − 列",
}
