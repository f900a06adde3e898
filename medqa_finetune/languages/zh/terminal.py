"""What commands say in the terminal while they run, and what they log there."""

from medqa_finetune.languages.zh.stages import STAGES

TEXTS = {
    (
        "data.train_size={size} is {found} here, by data.scale={scale} of the profile; data.scale=1 takes sizes as "
        "they are typed"
    ): "data.train_size={size} 在这里是 {found}，因为 profile 设了 data.scale={scale}；data.scale=1 则按输入的大小",
    "error: {faults}": "错误：{faults}",
    "interrupted": "已中断",
    "{reason}; the same command resumes from here": "{reason}；再次运行同一命令即可从此处继续",
    "stopped by {signal}": "被 {signal} 停止",
    "stopped at the time limit": "到达时限，已停止",
    "warning: untested versions: {each}. Install the tested ones: {command} ({silence} silences this.)": (
        "警告：未经测试的版本：{each}。安装测试过的版本：{command}（{silence} 可关闭此提示。）"
    ),
    "{package} {installed} (tested: {lowest} to {highest})": "{package} {installed}（测试过：{lowest} 至 {highest}）",
    "{package} {installed} (tested: up to {highest})": "{package} {installed}（测试过：至 {highest}）",
    # Columns and units of a launch
    "cell": "格",
    "state": "状态",
    "step": "步",
    "loss": "损失",
    "tokens/s": "词元/秒",
    "VRAM": "显存",
    "left": "剩余",
    "so far": "已用",
    "GPU": "GPU",
    "{figure}": "{figure}",
    "loss {figure}": "损失 {figure}",
    "{figure} tokens/s": "{figure} 词元/秒",
    "{figure} left": "剩余 {figure}",
    "{figure} so far": "已用 {figure}",
    "GPU {figure}": "GPU {figure}",
    # States of a cell
    "pending": "等待中",
    "waiting for another process": "等待另一个进程",
    "running elsewhere: {process}": "在别处运行：{process}",
    "running": "运行中",
    **STAGES,
    "failed": "失败",
    "{state}: {reason}": "{state}：{reason}",
    "  in {time}": "  用时 {time}",
    ", try {number}": "，第 {number} 次尝试",
    "done before, untouched": "之前已完成，未改动",
    "done before, untouched, {count} of its files missing": "之前已完成，未改动，缺少 {count} 个文件",
    "done by another process": "由另一个进程完成",
    "done  {scores}": "完成  {scores}",
    "waiting for GPUs that other launches on this machine use: {gpus}": "等待本机其他启动正在使用的 GPU：{gpus}",
    "trying again ({number} of {most})": "重试（第 {number} 次，最多 {most} 次）",
    "stopping 1 cell, which writes a checkpoint first; again to stop at once": (
        "正在停止 1 格，它会先写检查点；再按一次立即停止"
    ),
    "stopping {count} cells, each of which writes a checkpoint first; again to stop at once": (
        "正在停止 {count} 格，各格会先写检查点；再按一次立即停止"
    ),
    # A cluster's queue
    "queued": "排队中",
    "queued ({reason})": "排队中（{reason}）",
    "the queue does not answer ({words}); waiting for it": "队列没有回应（{words}）；正在等待",
    "note: the queue does not answer ({words}); what is queued is not known": (
        "注意：队列没有回应（{words}）；不知道哪些在排队"
    ),
    "submitted {count} cells as SLURM job {id}; logs: {folder}": "已提交 {count} 格，SLURM 作业 {id}；日志：{folder}",
    "{count} cells are queued or running already": "{count} 格已在排队或运行",
    "{count} cells are done": "{count} 格已完成",
    "{count} cells stay in the queue": "{count} 格留在队列中",
    "cancel: {command}": "取消：{command}",
    "watch again: the same command, with hydra.launcher.wait=true": "再次查看：同一命令，加 hydra.launcher.wait=true",
    "cancelled {jobs}, left by a launch that was killed while it submitted": (
        "已取消 {jobs}：提交途中被终止的启动留下的作业"
    ),
    "no Ray cluster is running here; starting one on this machine, until this command ends": (
        "这里没有运行中的 Ray 集群；在本机启动一个，直到该命令结束"
    ),
    "submitted {count} cells as jobs of Ray; logs: {folder}": "已把 {count} 格提交为 Ray 作业；日志：{folder}",
    "its time limit is near": "时间上限将到",
    "the cell is put back, and resumes from its checkpoint": "该格重新排队，并从检查点继续",
    "stopping {count} cells, each of which writes a checkpoint first; again to leave them to that": (
        "正在停止 {count} 格，每格先写检查点；再按一次则不再等待"
    ),
    "{run}: moved aside to {path}": "{run}：已移到 {path}",
    # plan
    "time": "时间",
    "validation": "验证",
    "evaluation": "评测",
    "memory": "内存",
    "disk": "磁盘",
    "sum": "合计",
    "price": "费用",
    "{count} cells evaluate what an earlier one trains; the training is counted there.": (
        "有 {count} 格只评测前面某格训练的结果，训练时间计在那一格。"
    ),
    "{count} cell evaluates what an earlier one trains; the training is counted there.": (
        "有 {count} 格只评测前面某格训练的结果，训练时间计在那一格。"
    ),
    (
        "Do not fit into the {room} of the {machine}: {names}. Less is needed with {settings} or a shorter "
        "train.max_length."
    ): "{machine} 的 {room} 放不下：{names}。可用 {settings} 或更短的 train.max_length 减少占用。",
    (
        "Training and validation are divided over {count} GPUs, {each} of a step's {batch} examples on each; memory "
        "is that of each. Evaluations take one of them."
    ): (
        "训练和验证由 {count} 块 GPU 分担，一步的 {batch} 个样本中每块处理 {each} 个；"
        "内存为每块的用量。评测只用其中一块。"
    ),
    "In a step each GPU sends {amount} to the others; the time of that is not estimated, and not included.": (
        "每一步中每块 GPU 向其他 GPU 发送 {amount}；这部分时间未估计，也未计入。"
    ),
    "{hours} GPU-hours in all.": "合计 {hours} GPU 小时。",
    "All fit into the {room} of the {machine}.": "{machine} 的 {room} 都放得下。",
    "matrix products": "矩阵乘法",
    "memory traffic": "内存读写",
    "launching kernels": "算子启动",
    " or ": "或",
    " to ": " 至 ",
    "Training is limited by {parts}; {span} of the data sheet's rate.": (
        "训练速度受限于{parts}，达到数据手册算力的 {span}。"
    ),
    "{machine}; memory is the peak of GPU memory; disk is the most a cell may take.": (
        "{machine}；“内存”为显存峰值，“磁盘”为一格最多占用的空间。"
    ),
    "{machine}; memory is the peak of resident memory; disk is the most a cell may take.": (
        "{machine}；“内存”为常驻内存峰值，“磁盘”为一格最多占用的空间。"
    ),
    "Not trained, answers are looked up: {names}; measured here on a few questions.": (
        "不训练、靠检索作答：{names}；已在本机用少量题目实测。"
    ),
    "Computed from that card's data sheet (docs/gpu.md), not measured: correct within about a factor of two.": (
        "按该显卡的数据手册计算（docs/gpu.md），未经实测：误差约在两倍以内。"
    ),
    "Measured here: a few steps and answers of {count} kind(s) of cells.": (
        "已在本机实测：{count} 类格各跑了几步训练和几次回答。"
    ),
    "Computed at {share} of that speed, correct within about a factor of two; plan.probe=true measures.": (
        "按上述速度的 {share} 计算，误差约在两倍以内；plan.probe=true 则实测。"
    ),
    "all that train": "所有训练的格",
    "{names} and {more} more": "{names} 等，另有 {more} 格",
    "Random weights replace those of {models}, which are not here.": "{models} 的权重不在本机，以随机权重代替。",
    "as in {cell}, with which they are compared": "与所比较的 {cell} 相同",
    "the smallest there is, which does not fit by the estimate": "已是最小，但估计仍放不下",
    "the fastest that fits for {cell}, which needs most memory, by the estimate": (
        "估计中放得下的最快设置，以最占内存的 {cell} 为准"
    ),
    "the fastest that fits by the estimate": "估计中放得下的最快设置",
    "auto: {values} for {cells}: {basis}.": "auto：{cells}取 {values}：{basis}。",
    "training examples": "训练样本",
    "test questions or their references": "测试题或其参考答案",
    "{low} to {high}": "{low} 至 {high}",
    "all cells": "所有格",
    "Longer than train.max_length, and cut: {share} of the {what} ({cells}).": (
        "{what}中有 {share} 超过 train.max_length 而被截断（{cells}）。"
    ),
    "{times} x {samples} examples": "{times} 次，每次 {samples} 条",
    "{times} x {samples} examples ({cells})": "{times} 次，每次 {samples} 条（{cells}）",
    "; ": "；",
    "{names}: {said}": "{names}：{said}",
    "CPU, {count} threads": "CPU，{count} 个线程",
    "Validation: {parts}.": "验证：{parts}。",
    "Evaluation is computed as evaluate.backend=transformers does it.": (
        "评测时间按 evaluate.backend=transformers 计算。"
    ),
    "The time of the tasks of evaluate.zero_shot is not in it.": "不含 evaluate.zero_shot 各任务的时间。",
    "The time of evaluate.text is not in it.": "不含 evaluate.text 的时间。",
    # evaluate
    "score": "得分",
    "value": "值",
    "signature": "签名",
    "benchmark": "基准测试",
    "empty": "空答案",
    "cut at the length limit": "达到长度上限",
    "cut off by time": "超时截断",
    "repeated 4-grams": "重复的四元组",
    "thoughts not closed": "思考未结束",
    "asked cut": "题目被截短",
    "references cut in the perplexity": "困惑度中参考答案被截短",
    ", ": "，",
    # download, convert
    "{path} is complete.": "{path} 已完整。",
    "{path} is complete; nothing to fetch.": "{path} 已完整，无需下载。",
    "{path} is complete: {tensors} tensors, {numbers} weights.": "{path} 已完整：{tensors} 个张量，{numbers} 个权重。",
    "corpus={name} needs no download: its source is {source}.": "corpus={name} 无需下载：它的来源是 {source}。",
    "Next: {command}": "下一步：{command}",
    # The table of an export
    "variant": "形式",
    "disk MiB": "磁盘 MiB",
    "memory MiB": "内存 MiB",
    "less the untuned model": "减去未微调的模型",
    "less the adapter on its base: what merging and quantizing cost": "减去基座加适配器：合并和量化的代价",
    "Not measured (export.measure=false).": "未测量（export.measure=false）。",
    "{count} questions each, on {device} in {precision}.": "各 {count} 题，设备为 {device}，精度为 {precision}。",
    "disk: all that must be there to load it, an adapter's base too.": "磁盘：加载所需的全部文件，含适配器的基座。",
    "memory: the most that tensors held on the GPU.": "内存：张量在 GPU 上占用的峰值。",
    "memory: the most that the process held, {size} MiB of it Python and its libraries.": (
        "内存：进程占用的峰值，其中 {size} MiB 是 Python 及各个库。"
    ),
    "{count} pairs": "{count} 对",
    "no pairs": "无训练样本",
    "{count} questions": "{count} 题",
    # summarize, export
    "wrote {path}": "已写入 {path}",
    "note: {note}": "留意：{note}",
    "no pictures: no run that trained something is done": "没有图：尚无完成的训练",
    "run": "运行",
    "status": "状态",
    "train s": "训练秒数",
    "{count} of {all} runs done{others}.": "{all} 次运行中完成 {count} 次{others}。",
    "{count} more runs are in results_summary.csv": "另有 {count} 次运行，见 results_summary.csv",
    ", {count} {status}": "，{count} 次{status}",
    "trained": "已训练",
    "evaluated": "已评测",
    "unreadable": "无法读取",
    "Scores in different tables do not compare: evaluation, test set or signature differs.": (
        "不同表中的得分不可比较：评测、测试集或签名不同。"
    ),
    (
        "In the CSV files the column `evaluation` names the evaluation; other differences have their own columns."
    ): "CSV 文件中，`evaluation` 列为评测名称，其余不同之处各有一列。",
    "All that train: {settings}": "所有训练共有：{settings}",
    "{label} seed {seed}": "{label} 种子 {seed}",
    "Benchmarks (mean over seeds; sd: standard deviation over seeds)": (
        "基准测试（各种子的均值；sd 为各种子间的标准差）"
    ),
    (
        "no font with Chinese characters is installed, so pictures have English words, and \\uXXXX for Chinese names: "
        "install {font} ({install}), then summarize again"
    ): ("没有安装中文字体，所以图片用英文，中文名称显示为 \\uXXXX：请安装 {font}（{install}），再运行 summarize"),
    # chat
    (
        "/help             this list\n"
        "/reset            start a new conversation\n"
        "/system TEXT      set the instructions and start a new conversation; without TEXT, none\n"
        "/save FILE        write the conversation as JSON\n"
        "/temperature 0.7  sample tokens; 0 takes the most likely ones\n"
        "/top-p 0.9        sample from the most likely tokens that add up to this share\n"
        "/max-tokens 200   most tokens of an answer\n"
        "/exit             leave (or Ctrl-D)\n"
        "Ctrl-C stops an answer; its text stays in the conversation. Type // for a question that begins with /."
    ): (
        "/help             显示本列表\n"
        "/reset            开始新对话\n"
        "/system TEXT      设定指令并开始新对话；不给 TEXT 则不用指令\n"
        "/save FILE        把对话存为 JSON\n"
        "/temperature 0.7  采样词元；0 表示取概率最大的\n"
        "/top-p 0.9        从累计概率达到该值的最可能词元中采样\n"
        "/max-tokens 200   回答的最大词元数\n"
        "/exit             退出（或按 Ctrl-D）\n"
        "Ctrl-C 停止回答，已有内容留在对话中。以 / 开头的问题请输入 //。"
    ),
    "/help lists the commands.": "输入 /help 查看命令。",
    "The line is not in the terminal's encoding; set PYTHONIOENCODING to its encoding.": (
        "这一行不是终端的编码；请把 PYTHONIOENCODING 设为终端的编码。"
    ),
    "[stopped]": "[已停止]",
    "(no answer)": "（没有回答）",
    "unknown command {name}; /help lists the commands.": "没有 {name} 这个命令；输入 /help 查看命令。",
    "New conversation.": "新对话。",
    "New conversation, with instructions.": "新对话，带指令。",
    "New conversation, without instructions.": "新对话，不带指令。",
    "Saved {count} turns in {name}.": "已把 {count} 轮对话存入 {name}。",
    "{setting} is {value}.": "{setting} 已设为 {value}。",
    "Ctrl-C stops the server.": "按 Ctrl-C 停止服务。",
    "left out: {fault}": "已略过：{fault}",
    # Sweeps
    "{count} cells of the sweep are one, run once": "本次扫描中这 {count} 格是同一格，只运行一次",
    "{count} cells of the sweep are one, run once; no {keys} changes it": (
        "本次扫描中这 {count} 格是同一格，只运行一次；{keys} 的取值对它没有影响"
    ),
    "study {number} of {count}": "第 {number} 项搜索（共 {count} 项）",
    "{count} trials with settings drawn at random; a study proposes others": (
        "{count} 次试验，设置为随机抽取；正式搜索会提出别的设置"
    ),
    "{count} trials ({studies} studies of {each}) with settings drawn at random; a study proposes others": (
        "{count} 次试验（{studies} 项搜索，每项 {each} 次），设置为随机抽取；正式搜索会提出别的设置"
    ),
    "every trial answers the test questions, which choose nothing: {setting} asks fewer": (
        "每次试验都会回答测试题，但选择设置时不看这些得分：{setting} 可以少问一些"
    ),
    "all {count} settings of this space have been tried": "该空间的 {count} 种设置都已试过",
    "{trial}  begins": "{trial}  开始",
    "validation loss {value}": "验证损失 {value}",
    "failed: {reason}": "失败：{reason}",
    "trial {number} of {most}": "第 {number} 次试验（共 {most} 次）",
    "{count} trials": "{count} 次试验",
    "{count} trials ({failed} failed)": "{count} 次试验（其中 {failed} 次失败）",
    "best of {trials} by validation loss ({loss}): {settings}; all of them: {path}": (
        "{trials}中验证损失最低的（{loss}）：{settings}；全部试验见 {path}"
    ),
    "best of {trials} by validation loss ({loss}) for {study}: {settings}; all of them: {path}": (
        "{study} 的 {trials}中验证损失最低的（{loss}）：{settings}；全部试验见 {path}"
    ),
    "its command: {command}": "对应的命令：{command}",
    # The list of commands
    "command": "命令",
    "or": "或",
}
