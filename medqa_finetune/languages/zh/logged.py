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
    "{table}: cells are separated by {name} (corpus.delimiter={delimiter})": (
        "{table}：单元格以 {name} 分隔（corpus.delimiter={delimiter}）"
    ),
    "{corpus}: the column {name} is not read; corpus.{key}={column} reads it": (
        "{corpus}：不读取 {name} 列；corpus.{key}={column} 则读取"
    ),
    "{corpus}: corpus.parts=ignore divides files named after parts anew: {files}": (
        "{corpus}：corpus.parts=ignore 不按文件名的划分，而是重新划分：{files}"
    ),
    "{corpus}: no file is named validation or test; all are put together and divided here: {files}": (
        "{corpus}：没有名为 validation 或 test 的文件；全部合并后在此划分：{files}"
    ),
    "{corpus}: no file is named train, so all are put together and divided anew, held-out ones too: {files}.": (
        "{corpus}：没有名为 train 的文件，因此全部合并后重新划分，包括留出的文件：{files}。"
    ),
    "Name the training files train.": "请把训练文件命名为 train。",
    "Name the training files train, or give corpus.parts=published, which trains on those without a part.": (
        "请把训练文件命名为 train，或给出 corpus.parts=published，用未标明划分的文件训练。"
    ),
    "{names} and {more} more": "{names} 等，另有 {more} 个",
    "{corpus}: {count} examples begin like many others, and go by what follows (corpus.identified_by=first_question "
    "takes all that begin alike for one question)": (
        "{corpus}：{count} 个样本的开头与许多样本相同，按其后的内容区分（corpus.identified_by=first_question "
        "则把开头相同的都当作同一个问题）"
    ),
    "{corpus}: {count} examples begin like many others, and go by what follows; {alone} have nothing else, and are "
    "never held out (corpus.identified_by=first_question takes all that begin alike for one question)": (
        "{corpus}：{count} 个样本的开头与许多样本相同，按其后的内容区分；{alone} 个没有别的内容，从不留出"
        "（corpus.identified_by=first_question 则把开头相同的都当作同一个问题）"
    ),
    "{corpus}: constant words around many questions are not compared ({count} beginnings and endings)": (
        "{corpus}：许多问题前后相同的固定文字不参与比较（{count} 种开头和结尾）"
    ),
    "Parts of {corpus} overlap, and what repeats a held-out part is left out: {counts}": (
        "{corpus} 的各划分有重叠，与留出部分重复的已剔除：{counts}"
    ),
    "data.scale={scale} takes of this text {blocks} for training, and where it has no parts of its own {rows} for the "
    "test, {validation} for validation; data.scale=1 takes the sizes as they are": (
        "data.scale={scale} 从该文本取 {blocks} 训练；文本没有自带划分时，取 {rows} 测试、{validation} 验证；"
        "data.scale=1 则按原来的大小"
    ),
    "data.scale={scale} takes of this text where it has no parts of its own {rows} for the test, {validation} for "
    "validation; data.scale=1 takes the sizes as they are": (
        "该文本没有自带划分时，data.scale={scale} 取 {rows} 测试、{validation} 验证；data.scale=1 则按原来的大小"
    ),
    "{folder} is damaged ({fault}); it is tokenized again.": "{folder} 已损坏（{fault}）；重新分词。",
    "{corpus} keeps its published parts ({parts})": "{corpus} 保留公布时的划分（{parts}）",
    "The {part} part has {count} questions, fewer than data.{name}_size={size}: all are taken": (
        "{part} 部分有 {count} 题，少于 data.{name}_size={size}：全部采用"
    ),
    "{count} of {all} examples ({share} %) are longer than train.max_length={length} and are cut.": (
        "{all} 个样本中有 {count} 个（{share} %）超过 train.max_length={length}，已截断。"
    ),
    "{count} earlier answers of {all} examples are not trained on: the template renders them otherwise when a turn "
    "follows.": "{all} 个样本中有 {count} 个较早的回答不参与训练：后面还有对话时，模板会以另一种方式呈现它们。",
    "{count} marks of {all} examples are control tokens of this model; spaces inside make them plain text.": (
        "{all} 个样本中有 {count} 处标记是该模型的控制词元；已在其中插入空格，变为普通文本。"
    ),
    "the thoughts in answers of {all} examples are left out ({count} answers); model.thinking=keep trains them.": (
        "{all} 个样本的回答中的思考已略去（{count} 个回答）；model.thinking=keep 则用于训练。"
    ),
    "{count} examples of {length} tokens do not fit": "{count} 个 {length} 词元的样本放不下",
    # Models
    "{trained} of {all} weights are trained ({share} %), adapters on {layers}": (
        "训练 {all} 个权重中的 {trained} 个（{share} %），适配器加在 {layers}"
    ),
    "layer by layer, not as config.json says: {layers}": "逐层如下，与 config.json 不同：{layers}",
    "a mixture of experts: each token passes {active} of {all} weights, those of {some} of {experts} experts": (
        "混合专家模型：每个词元经过 {all} 个权重中的 {active} 个，即 {experts} 个专家中的 {some} 个"
    ),
    "bitsandbytes quantizes linear layers alone: {count} weights of experts stay in {type}": (
        "bitsandbytes 只量化线性层：专家的 {count} 个权重仍为 {type}"
    ),
    "{count} weights of experts are no linear layers and get no adapter; method.target_parameters=experts with "
    "method.dropout=0 adapts them": (
        "专家的 {count} 个权重不是线性层，不加适配器；method.target_parameters=experts 加 method.dropout=0 则加上"
    ),
    "torch {version} lacks the variable-length attention that is called here: each example of a pack is attended by "
    "calls of its own, which is slower; torch 2.13 has it": (
        "torch {version} 没有这里所用的变长注意力：拼接中的每个样本单独计算注意力，速度较慢；torch 2.13 已有"
    ),
    "computes with {chosen} threads: {usable} of {usual} cores are this run's (threads=)": (
        "使用 {chosen} 个线程：{usual} 个核心中有 {usable} 个归本次运行（threads=）"
    ),
    "computes with {chosen} threads, and may use {usable} cores: threads={fewer} is faster": (
        "使用 {chosen} 个线程，但只能用 {usable} 个核心：threads={fewer} 更快"
    ),
    "other programs keep about {others} of {cores} cores busy: threads={free} may be much faster than {chosen}": (
        "其他程序占用了 {cores} 个核心中的约 {others} 个：threads={free} 可能比 {chosen} 快得多"
    ),
    "the score {score} of the metric {metric} has the name of another score": (
        "指标 {metric} 的得分 {score} 与另一个得分同名"
    ),
    # Training
    "validation: {times} x {samples} of {all} examples, {share} % of what training processes": (
        "验证：{times} 次，每次 {all} 个样本中的 {samples} 个，为训练处理量的 {share} %"
    ),
    "auto: {settings}, since {usual}, as in {name}, does not fit here; time and memory of the two do not compare": (
        "auto：{settings}，因为 {name} 所用的 {usual} 在这里放不下；两者的时间和内存不可比"
    ),
    "{path} lacks {count} points before step {step}; training starts anew": (
        "{path} 缺少第 {step} 步之前的 {count} 个点；从头开始训练"
    ),
    "this training began with adapters fused, and goes on so": "本次训练开始时适配器是融合计算的，继续如此",
    "this training began with adapters computed by peft, not fused, and goes on so": (
        "本次训练开始时适配器由 peft 计算、未融合，继续如此"
    ),
    "train.scheduler=constant has no warm-up: train.warmup_ratio={ratio} changes nothing": (
        "train.scheduler=constant 没有预热：train.warmup_ratio={ratio} 不起作用"
    ),
    "fp16: the largest activation is {value}, {share} % of its range, at {name}": (
        "fp16：最大激活值为 {value}，占其范围的 {share} %，在 {name} 处"
    ),
    "fp16: the gradients of a few examples are finite at no scale: steps will be skipped": (
        "fp16：少数样本的梯度在任何缩放下都不是有限数：会跳过一些步"
    ),
    "this model changes the logits of its head: those of a whole batch are computed at once": (
        "该模型会改动输出层的 logits：整批的 logits 一次算出"
    ),
    # Folders of runs
    "{run}: its weights were made again and are not the same; {path} is moved aside": (
        "{run}：权重已重新生成，与之前不同；{path} 已移开"
    ),
    "{path} could not be written: {error}": "无法写入 {path}：{error}",
    "{path}: {damage}; it is made again from the checkpoints": "{path}：{damage}；从检查点重新生成",
    "{path} is done, but {damage}; remove that folder and give the command again: the questions are answered again, "
    "and nothing is trained": "{path} 已完成，但{damage}；删除该文件夹后再运行同一命令：会重新答题，不会重新训练",
    "{path} is done, but {damage}; train it again with overwrite=true, which keeps the old one aside": (
        "{path} 已完成，但{damage}；请用 overwrite=true 重新训练，旧的会移开保留"
    ),
    "{trained} of {all} weights are trained ({share} %)": "训练 {all} 个权重中的 {trained} 个（{share} %）",
    "{count} processes train together: {devices}": "{count} 个进程一起训练：{devices}",
    "resumes with {count} processes what {before} have trained so far": (
        "此前由 {before} 个进程训练，现由 {count} 个进程继续"
    ),
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
    "tracker {name} stopped ({reason}); the run continues, and its folder has all figures": (
        "跟踪器 {name} 已停止（{reason}）；运行继续，所有数据都在其文件夹中"
    ),
    # Answers
    "{count} questions predicted from {examples} training examples in {seconds} s": (
        "用 {examples} 个训练样本预测 {count} 题，用时 {seconds} 秒"
    ),
    "{count} of {all} test questions ({share} %) are asked cut, to fit train.max_length={length}": (
        "{all} 道测试题中有 {count} 道（{share} %）为放进 train.max_length={length} 而截短"
    ),
    "{count} of {all} test questions ({share} %) count only a part of the reference in perplexity, to fit "
    "train.max_length={length}": (
        "{all} 道测试题中有 {count} 道（{share} %）为放进 train.max_length={length}，困惑度只计参考答案的一部分"
    ),
    "{setting}=true: a step cannot be captured, and answering goes on without ({error})": (
        "{setting}=true：无法捕获一步计算，改为不捕获继续回答（{error}）"
    ),
    "{name}: {some} of {all} references are empty and score 0": "{name}：{all} 个参考答案中有 {some} 个为空，计 0 分",
    "{name}: {scored} is taken, not {raw}, as its own program scores it": (
        "{name}：采用 {scored} 而不是 {raw}，与其自身程序的评分一致"
    ),
    "{name}: reference from {key}, by id": "{name}：参考答案取自 {key}，按 id 对应",
    "{name}: reference from {key}, row by row": "{name}：参考答案取自 {key}，逐行对应",
    "{name} is read as {encoding}, by its byte-order mark": "按字节顺序标记，{name} 以 {encoding} 读取",
    "{name}: cells are separated by {delimiter}; save it with commas if that is wrong": (
        "{name}：单元格以 {delimiter} 分隔；如果不对，请改存为逗号分隔"
    ),
    "{name}: thoughts are left out of {some} of {all} predictions and of {others} of {references} references; what "
    "follows is scored": (
        "{name}：{all} 个预测中有 {some} 个、{references} 个参考答案中有 {others} 个略去了思考；只对其后的内容评分"
    ),
    "{name}: {some} of {all} predictions open a thought and never close it; they count as empty": (
        "{name}：{all} 个预测中有 {some} 个思考未结束，按空答案计"
    ),
    "{name}: {some} of {all} predictions hold no {mark}, which others end a thought with; they are scored as they "
    "are": ("{name}：{all} 个预测中有 {some} 个没有其他预测用来结束思考的 {mark}，按原样评分"),
    "{name}: {some} of {all} references open a thought and never close it; they are scored as they are": (
        "{name}：{all} 个参考答案中有 {some} 个思考未结束，按原样评分"
    ),
    "It is not scored again.": "不重新评分。",
    "evaluation {name} is {status}; it is not scored again": "评测 {name} 的状态为 {status}；不重新评分",
    "evaluation {name}: {damage}; nothing is taken from it": "评测 {name}：{damage}；不取用其中的内容",
    "{fault}; nothing is taken from it": "{fault}；不取用其中的内容",
    "evaluation {name} was started with other package versions or in another precision; it is moved aside and starts "
    "anew, for its scores would be a mixture": (
        "评测 {name} 开始时的软件包版本或精度不同；已移开并从头开始，否则得分会混在一起"
    ),
    "predictions in {folder} were ended by other tokens, and are made again": (
        "{folder} 中的预测以别的词元结束，将重新生成"
    ),
    "{folder}: {what!}; {size}": "{folder}：{what}；{size}",
    "{folder}: {what!}; {size}; measuring it": "{folder}：{what}；{size}；正在测量",
    "the untuned model": "未微调的模型",
    "the untuned model, quantized": "量化的未微调模型",
    "the trained adapter, on the base as it was trained": "训练好的适配器，加载在训练时的基座上",
    "the tuned model (merged), quantized": "合并后量化的微调模型",
    "the tuned model, in weights of its own": "合并为独立权重的微调模型",
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
    "{path} is held by {holder}; waiting up to {seconds} seconds for a sign of life": (
        "{path} 由 {holder} 持有；最多等待 {seconds} 秒，看它是否还在运行"
    ),
    "{path} is taken over from {holder}, which has not renewed its lease for {seconds} seconds": (
        "接管 {path}：{holder} 已有 {seconds} 秒没有续租"
    ),
    "GPUs are not kept from other launches on this machine: {error}": "无法让本机的其他启动避开这些 GPU：{error}",
    "{path}: another process works on it; it is not scored again": "{path}：另一个进程正在处理；不重新评分",
    (
        "method={method} with {model} may need {needed} GiB ({parts}) where {count} pairs of "
        "train.max_length={length} come together; {machine} has {memory}. Less is needed with {remedies}."
    ): (
        "method={method} 用于 {model} 时，若 {count} 对 train.max_length={length} 的样本凑到一批，可能需要 {needed} "
        "GiB（{parts}）；{machine} 有 {memory}。可以减少内存的做法：{remedies}。"
    ),
    "Each of the {count} processes needs as much.": "{count} 个进程各需要这么多。",
    "{first} or train.sharding=full": "{first}或 train.sharding=full",
    "{first} or a shorter train.max_length": "{first}或更短的 train.max_length",
    "{first} or method=qlora": "{first}或 method=qlora",
    "{first} or a smaller train.micro_batch (the effective batch stays)": (
        "{first}或更小的 train.micro_batch（等效批大小不变）"
    ),
    "a smaller train.micro_batch (the effective batch stays)": "更小的 train.micro_batch（等效批大小不变）",
    "a shorter train.max_length": "更短的 train.max_length",
    # Storage
    "{run}: fetched {files} files ({size} MB) from {remote}": "{run}：已从 {remote} 取回 {files} 个文件（{size} MB）",
    "{run}: stored at {remote}": "{run}：已存到 {remote}",
    "{run}: not stored now ({error})": "{run}：这次没有存成（{error}）",
    "{remote}: {count} files are not as the last storing left them, as after a machine that was lost ({names})": (
        "{remote}：有 {count} 个文件与上次存放时不同，例如存放途中机器中断（{names}）"
    ),
    "{run}: the storage has a newer state; what was never stored is moved to {aside}": (
        "{run}：存储处的状态更新；本机从未存放过的内容已移到 {aside}"
    ),
    "{remote}: process {pid} on {host} worked on it last; waiting up to {seconds} s for a sign of life": (
        "{remote}：上次由 {host} 上的进程 {pid} 处理；最多等待 {seconds} 秒，看它是否还在运行"
    ),
    "{remote}: taken over from process {pid} on {host}, which is gone": (
        "{remote}：{host} 上的进程 {pid} 已不在，由本进程接手"
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
