"""Predictions, scores, exported variants."""

TEXTS = {
    # Predictions and scores
    "{name} is not installed, which this needs": "未安装所需的 {name}",
    "With evaluate.text=text, give evaluate.text_path=FILE.": (
        "使用 evaluate.text=text 时，请给出 evaluate.text_path=文件。"
    ),
    "no such corpus of running text": "没有这个连续文本语料",
    "For a text of your own, give evaluate.text=text evaluate.text_path=FILE.": (
        "要用自己的文本，请给出 evaluate.text=text evaluate.text_path=文件。"
    ),
    "the test part is a single token": "测试部分只有一个词元",
    "Give more text.": "请给出更多文本。",
    "answers for runs alone": "只为运行生成回答",
    "{kind} cannot decode in fixed shapes ({reason})": "{kind} 不能以固定形状解码（{reason}）",
    "lm-evaluation-harness is not installed": "未安装 lm-evaluation-harness",
    "no such task in lm-evaluation-harness nor in evaluate.zero_shot_folder={folder}": (
        "lm-evaluation-harness 和 evaluate.zero_shot_folder={folder} 中都没有这个任务"
    ),
    "no such task in lm-evaluation-harness": "lm-evaluation-harness 中没有这个任务",
    "Tasks with a similar name: {names}.": "名称相近的任务：{names}。",
    "It has none with a similar name.": "没有名称相近的任务。",
    "{place} has a score {name}; names must not be empty or contain {reserved}": (
        "{place} 有一个分数 {name}；名称不能为空，也不能含有 {reserved}"
    ),
    "{place} has no METRIC that is a Metric": "{place} 没有类型为 Metric 的 METRIC",
    "{place} cannot be loaded: {reason}": "{place} 无法加载：{reason}",
    "no such metric": "没有这个指标",
    "must be at most {most} nats a token on average, or the perplexity is too large for a number": (
        "平均每个词元至多 {most} 奈特，否则困惑度大到无法表示"
    ),
    "has no reference for {missing} of {count} predictions, {first} the first": (
        "{count} 条预测中有 {missing} 条没有参考答案，第一条是 {first}"
    ),
    "has {rows} rows for {count} predictions, and no ids that both files have": (
        "有 {rows} 行，而预测有 {count} 条，且两个文件没有共同的 id"
    ),
    "Give a file with the ids of the predictions, or with as many rows in the same order.": (
        "请给出带有预测 id 的文件，或行数相同、顺序一致的文件。"
    ),
    "could be any of {found}": "可能是 {found} 中的任何一个",
    "is under no known key ({known}); the row has {named}": "不在任何已知的键下（{known}）；该行有 {named}",
    "Give a file of predictions as JSON Lines, a JSON array or CSV, in UTF-8.": (
        "请给出 UTF-8 的预测文件：JSON Lines、JSON 数组或 CSV。"
    ),
    "is missing, and the first row has it; this row has {named} (error: {error})": (
        "缺失，而第一行有；该行有 {named}（错误：{error}）"
    ),
    "is missing, and the first row has it; this row has {named}": "缺失，而第一行有；该行有 {named}",
    "Ask again what has failed.": "请重新提问失败的那些。",
    "there are no answers in it": "其中没有回答",
    "Write one JSON object per line.": "请每行写一个 JSON 对象。",
    "must be unique": "必须唯一",
    "exactly one of {keys} must be given; the row has {named}": "{keys} 必须且只能给出一个；该行有 {named}",
    "must be text without half a surrogate pair": "必须是文本，不能含有半个代理对",
    "must be a number together with reference_tokens, or neither": "必须与 reference_tokens 同为数字，或两者都不给",
    "not JSON ({reason}, character {column})": "不是 JSON（{reason}，第 {column} 个字符）",
    "not UTF-8 ({reason})": "不是 UTF-8（{reason}）",
    "Save the file as UTF-8.": "请把文件另存为 UTF-8。",
    "must be true or false, or null": "必须是 true、false 或 null",
    "must be an integer ≥ 0, or null": "必须是 ≥ 0 的整数，或 null",
    "must be a number ≥ 0, or null": "必须是 ≥ 0 的数，或 null",
    "must be unique; row {row} has it too": "必须唯一；第 {row} 行也有它",
    "must be unique; line {line} has it too": "必须唯一；第 {line} 行也有它",
    "must be text (it may be empty)": "必须是文本（可以为空）",
    "must be a list of at least one text": "必须是至少含一个文本的列表",
    "must be text (several go into a list under `references`)": "必须是文本（多个请放进 `references` 列表）",
    "on a reference answer or a text it is no finite number, because of the model's weights or its precision": (
        "在某个参考答案或文本上它不是有限数，原因在于模型的权重或精度"
    ),
    "Give precision=bf16 or fp32, or train again with a lower train.learning_rate.": (
        "请给出 precision=bf16 或 fp32，或用更低的 train.learning_rate 重新训练。"
    ),
    "{file} since the evaluation was done": "评测完成之后{file}",
    "Score such a file with predictions=FILE.": "请用 predictions=文件 为这样的文件评分。",
    "the answers no longer exist": "回答已不存在",
    (
        "Put the file back, or remove the evaluation's folder and give the command again: the questions are "
        "answered again, and nothing is trained."
    ): ("请把文件放回，或删除该评测的文件夹后再运行命令：会重新回答问题，不会训练。"),
    "{count} predictions, and the evaluation has {questions} test questions": (
        "有 {count} 条预测，而评测有 {questions} 道测试题"
    ),
    "The command that started it answers the missing ones.": "再次运行启动它的那条命令会补上缺少的回答。",
    "its status is {status}, and it has no evaluation yet": "状态为 {status}，还没有评测",
    "{path} has no evaluation of this name": "{path} 没有这个名称的评测",
    "is gone: the folder was changed just now": "已不存在：文件夹刚刚被改动",
    "must name at least one metric": "至少要给出一个指标",
    "{missing} of {count} predictions have it (not {first}), and a score over a part is of another test set": (
        "{count} 条预测中只有 {missing} 条有它（{first} 没有），而部分预测的分数等于换了测试集"
    ),
    "Give it for all predictions, or for none.": "请为所有预测都给出它，或都不给。",
    "there are no answers to score": "没有可评分的回答",
    "running text has one score alone": "连续文本只有一个分数",
    "two metrics have a score of this name": "有两个指标的分数叫这个名称",
    "there are no blocks in it": "其中没有文本块",
    "must be {least} in the line of a block": "在文本块的行中必须是 {least}",
    "{folder} does not say how large its layers are": "{folder} 没有说明各层的大小",
    "evaluate.backend=transformers answers with it.": "evaluate.backend=transformers 可以用它回答。",
    "cannot serve {model} in {dtype}: {reason}": "无法以 {dtype} 运行 {model}：{reason}",
    "computes all of a model in half precision, and {blocks} of this one overflow there": (
        "以半精度计算整个模型，而该模型的 {blocks} 在半精度下溢出"
    ),
    "vLLM {problem} before it had answered": "vLLM 在回答之前{problem}",
    "If this persists, give evaluate.backend=transformers.": "如果一直如此，请给出 evaluate.backend=transformers。",
    "vLLM said nothing for {seconds} seconds": "vLLM 已 {seconds} 秒没有输出",
    "{folder} has layers of different sizes, which it cannot load": "{folder} 的各层大小不同，无法加载",
    "vLLM failed: {reason}": "vLLM 失败：{reason}",
    "must be ≤ {most}, the largest rank of an adapter that vLLM serves": "必须 ≤ {most}，即 vLLM 支持的适配器最大秩",
    "Give evaluate.backend=transformers, or a smaller rank.": "请给出 evaluate.backend=transformers，或更小的秩。",
    "there is no training question whose answer could be taken": "没有可取其回答的训练题",
    "{count} answers for {questions} questions": "{questions} 题有 {count} 个回答",
    "{count} blocks of {all}": "{all} 个文本块中的 {count} 个",
    # Exported variants
    "is gone, because the folder was changed meanwhile": "已不存在，因为文件夹在此期间被改动",
    "What is finished is whole; the same command continues.": "已完成的部分完好；再次运行同一命令即可继续。",
    "Its own messages are above.": "它自己的消息见上方。",
    "{file} since the run was done": "运行完成之后{file}",
    "{names} take {needed}, and {free} are free": "{names} 需要 {needed}，而可用空间为 {free}",
    "Make room, ask for fewer variants, or give export.to=DIR on another disk.": (
        "请腾出空间、减少变体，或用 export.to=目录 放到另一块磁盘。"
    ),
    "its predictions are retrieved, so there is no model to export": "它的预测来自检索，没有可导出的模型",
    "running text has no questions to measure variants on": "连续文本没有可用来测量变体的问题",
    "Give export.measure=false to export alone.": "如果只导出，请给出 export.measure=false。",
    "{place} is not a folder": "{place} 不是文件夹",
    "{place}is not a folder": "{place}不是文件夹",
    "is not a folder": "不是文件夹",
    "not a folder": "不是文件夹",
    "Give a new name or a folder.": "请给出新的名称或文件夹。",
    "Give the folder of a finished run.": "请给出已完成运行的文件夹。",
    "exists and is no exported variant": "已存在，且不是导出的变体",
    "Move it away, or give export.to=DIR.": "请把它移走，或给出 export.to=目录。",
    "{place} is not writable": "{place} 不可写",
    "{place}is not writable": "{place}不可写",
    "is not writable": "不可写",
    "Give a folder that is.": "请给出可写的文件夹。",
    "was trained on another base model than the one in {folder} (sha256 {wanted}…, not {found}…)": (
        "训练所用的基座模型不是 {folder} 中的那个（sha256 {wanted}…，而不是 {found}…）"
    ),
    "Give export.base=DIR with the model that it was trained on.": "请用 export.base=目录 指向训练时的基座模型。",
    "holds another export ({differences})": "存放着另一次导出（{differences}）",
    "overwrite=true moves it aside and makes it again; export.to=DIR keeps both.": (
        "overwrite=true 会把它移开并重新制作；export.to=目录 则两者都保留。"
    ),
    "its status is {status}, and only a run that is done can be exported": "状态为 {status}，只有已完成的运行才能导出",
    "there are no such variants": "没有这些变体",
    "there is no such variant": "没有这个变体",
    "not possible with method={method}: {why}": "method={method} 时不可能：{why}",
    "holds no questions to measure on": "没有可用来测量的问题",
}
