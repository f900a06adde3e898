"""What is logged, as the terminal shows it; log files keep the English."""

from medqa_finetune.languages.zh.stages import STAGES

TEXTS = {
    # Data
    "Fetching {repository} from {hub} into {folder}": "正在从 {hub} 下载 {repository} 到 {folder}",
    "Preparing {folder}": "正在预处理 {folder}",
    "Another process is preparing this data; waiting for it.": "另一个进程正在预处理这些数据；等待它完成。",
    "{fault!} It is prepared again.": "{fault}将重新预处理。",
    "{left} of {rows} rows left out, each with its line and reason in {path}": (
        "{rows} 行中剔除了 {left} 行，各自的行号和原因见 {path}"
    ),
    "Cells of {table} were separated by {delimiter}; corpus.delimiter= sets it.": (
        "{table} 的单元格以 {delimiter} 分隔；可用 corpus.delimiter= 指定。"
    ),
    "{path} is read as {encoding}, by its byte-order mark (corpus.encoding={other})": (
        "按字节顺序标记，{path} 以 {encoding} 读取（corpus.encoding={other}）"
    ),
    "{path} is read as {encoding}, by its byte-order mark": "按字节顺序标记，{path} 以 {encoding} 读取",
    "{path} is one JSON object, and its rows are read from corpus.rows={rows}": (
        "{path} 是一个 JSON 对象，各行从 corpus.rows={rows} 读取"
    ),
    "{path} is JSON Lines, not a JSON array; read line by line.": "{path} 是 JSON Lines 而不是 JSON 数组；逐行读取。",
    "{path} is a JSON array, not JSON Lines; read as an array.": "{path} 是 JSON 数组而不是 JSON Lines；按数组读取。",
    "{folder}: files in sub-folders are not read ({names}); corpus.path={pattern} reads all": (
        "{folder}：不读取子文件夹中的文件（{names}）；corpus.path={pattern} 则全部读取"
    ),
    "{folder}: left out, since it is beside the data: {names}": "{folder}：已略过数据旁边的文件：{names}",
    "{corpus} keeps its published parts ({parts})": "{corpus} 保留公布时的划分（{parts}）",
    "The {part} part has {count} questions, fewer than data.{name}_size={size}: all are taken": (
        "{part} 部分有 {count} 题，少于 data.{name}_size={size}：全部采用"
    ),
    "{count} {what} ({share} %) are longer than train.max_length={length} and are cut.": (
        "{count} {what}（{share} %）超过 train.max_length={length}，已截断。"
    ),
    "{count} examples of {length} tokens do not fit": "{count} 个 {length} 词元的样本放不下",
    # Training
    "{trained} of {all} weights are trained ({share} %)": "训练 {all} 个权重中的 {trained} 个（{share} %）",
    "{fused} of {all} adapters are fused (train.fused_adapters)": (
        "{all} 个适配器中有 {fused} 个融合计算（train.fused_adapters）"
    ),
    "{some} of {all} blocks compute in fp32, in training and answering ({more} GiB more, and slower there): {names}": (
        "{all} 个块中有 {some} 个在训练和回答时以 fp32 计算（多占 {more} GiB，也更慢）：{names}"
    ),
    "auto: evaluate.batch_tokens={count}": "auto：evaluate.batch_tokens={count}",
    "auto: {settings}, chosen for {name}": "auto：{settings}，按 {name} 选定",
    "auto: {settings}, as in {name}, which it is compared with": "auto：{settings}，与所比较的 {name} 相同",
    "resuming from {place}": "从 {place} 继续",
    "{path} is not used: {reason}": "不使用 {path}：{reason}",
    "the learning rate still rises in {count} of {steps} steps (train.warmup_ratio)": (
        "{steps} 步中有 {count} 步学习率仍在上升（train.warmup_ratio）"
    ),
    "fp16 overflows, or nearly so, first at {name}; fp32_blocks=auto computes there in fp32": (
        "fp16 在 {name} 处首先（或几乎）溢出；fp32_blocks=auto 会在那里以 fp32 计算"
    ),
    "fp16: the loss of a few examples is not finite": "fp16：少数样本的损失不是有限数",
    "tracker {name} stopped ({reason}); training continues, and metrics.jsonl has its figures": (
        "跟踪器 {name} 已停止（{reason}）；训练继续，数据记录在 metrics.jsonl 中"
    ),
    # Answers
    "{count} questions predicted from {examples} training examples in {seconds} s": (
        "用 {examples} 个训练样本预测 {count} 题，用时 {seconds} 秒"
    ),
    "{some} of {all} answers are those of evaluation {name}": "{all} 个回答中有 {some} 个来自评测 {name}",
    "{some} of {all} batches were answered before": "{all} 批中有 {some} 批之前已回答",
    "{some} of {all} batches were measured before": "{all} 批中有 {some} 批之前已测量",
    "a batch took longer than evaluate.timeout_seconds={seconds}; see timed_out": (
        "有一批用时超过 evaluate.timeout_seconds={seconds}；见 timed_out"
    ),
    "measuring the perplexity of evaluate.text={name}, {count} blocks": (
        "正在测量 evaluate.text={name} 的困惑度，共 {count} 个文本块"
    ),
    "the perplexity of evaluate.text={name} is {value}": "evaluate.text={name} 的困惑度为 {value}",
    "the scores of {name} are those of evaluation {other}": "{name} 的分数来自评测 {other}",
    "{run}, evaluation {name}: done before, nothing to do": "{run}，评测 {name}：之前已完成，无需再做",
    "{path}: moved aside to {other}": "{path}：已移到 {other}",
    "{path}: another process works on it; it is not scored again": "{path}：另一个进程正在处理；不重新评分",
    (
        "method={method} with {model} may need {needed} GiB ({parts}) where {count} pairs of "
        "train.max_length={length} come together; {machine} has {memory}. Less is needed with {remedies}."
    ): (
        "method={method} 用于 {model} 时，若 {count} 对 train.max_length={length} 的样本凑到一批，可能需要 {needed} "
        "GiB（{parts}）；{machine} 有 {memory}。可以减少内存的做法：{remedies}。"
    ),
    # Progress without a terminal
    **STAGES,
    "{stage!}  {at}/{of}": "{stage}  {at}/{of}",
    "{stage!}  {at}/{of}  {left} left": "{stage}  {at}/{of}  剩余 {left}",
    "{stage!}  {at}/{of}  since {time}": "{stage}  {at}/{of}  已用 {time}",
    "{stage!}  {at}/{of}  loss {loss}": "{stage}  {at}/{of}  损失 {loss}",
    "{stage!}  {at}/{of}  loss {loss}  {left} left": "{stage}  {at}/{of}  损失 {loss}  剩余 {left}",
    "{stage!}  {at}/{of}  loss {loss}  since {time}": "{stage}  {at}/{of}  损失 {loss}  已用 {time}",
    "{stage!}  since {time}": "{stage}  已用 {time}",
    "{stage!} {detail}  since {time}": "{stage} {detail}  已用 {time}",
}
