"""Stages of a run, which progress lines and the table of a launch name."""

STAGES = {
    "waiting": "等待",
    "preparing": "预处理",
    "loading": "加载",
    "tokenizing": "分词",
    "training": "训练",
    "validating": "验证",
    "saving": "保存",
    "answering": "回答",
    "measuring": "测量",
    "benchmarks": "基准测试",
    "scoring": "评分",
    "done": "完成",
}
