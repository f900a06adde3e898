"""Machines, folders of runs, conversations, the doctor, scripts."""

TEXTS = {
    # Machine, disk, memory
    "{runs} may need {needed}, mostly for checkpoints; {free} are free": (
        "{runs}可能需要 {needed}，主要用于检查点；可用空间为 {free}"
    ),
    "{count} runs": "{count} 个运行",
    "{count} run": "{count} 个运行",
    "{count} run(s)": "{count} 个运行",
    "Make room, or give outputs=DIR on another disk.": "请腾出空间，或用 outputs=目录 放到另一块磁盘。",
    "this machine cannot be checked: the process that tries it {problem} ({said})": (
        "无法检查本机：负责尝试的进程{problem}（{said}）"
    ),
    "this machine cannot be checked: {problem}": "无法检查本机：{problem}",
    "ended with exit code {code}": "以退出码 {code} 结束",
    "was killed by {signal} (out of memory?)": "被 {signal} 终止（内存不足？）",
    "was killed by {signal}": "被 {signal} 终止",
    "gave no reply within {seconds} seconds": "在 {seconds} 秒内没有响应",
    "it printed nothing": "没有输出",
    "A GPU may hang; nvidia-smi shows it.": "可能有 GPU 卡住；可用 nvidia-smi 查看。",
    "is {precision} here, but the run was started in {other} on {device}; resuming would mix results": (
        "在这里是 {precision}，而该运行是在 {device} 上以 {other} 开始的；继续会混淆结果"
    ),
    "Resume it where it was started, or give overwrite=true, which moves it aside and starts anew.": (
        "请在原来的机器上继续，或给出 overwrite=true（移开它并重新开始）。"
    ),
    "the disk is full ({text})": "磁盘已满（{text}）",
    "the disk is full": "磁盘已满",
    "What was finished is intact: free some space, and the same command resumes it.": (
        "已完成的部分完好：腾出空间后再次运行同一命令即可继续。"
    ),
    "out of memory ({text})": "内存不足（{text}）",
    (
        "Try a smaller train.micro_batch (same effective batch), method=qlora, or a shorter train.max_length; in "
        "the evaluation, a smaller evaluate.batch_tokens."
    ): (
        "请试更小的 train.micro_batch（有效批大小不变）、method=qlora 或更短的 train.max_length；评测时请试更小的 "
        "evaluate.batch_tokens。"
    ),
    # Several processes that train together
    "is not set, though RANK and WORLD_SIZE are": "没有设置，而 RANK 和 WORLD_SIZE 已设置",
    "torchrun sets it.": "torchrun 会设置它。",
    "the processes of one training must be on one machine, which has {count} of them": (
        "一次训练的所有进程必须在同一台机器上，而这台机器上有 {count} 个"
    ),
    "Give torchrun --nnodes=1 and --nproc_per_node=N, or one cell to each machine.": (
        "请给 torchrun 加上 --nnodes=1 和 --nproc_per_node=N，或让每台机器各运行一格。"
    ),
    "torchrun starts the training of a single cell (medqa_finetune.train without -m), and nothing else": (
        "torchrun 只用来启动单个格子的训练（medqa_finetune.train，不带 -m）"
    ),
    "Start it without torchrun.": "请不用 torchrun 启动。",
    "hydra.launcher.gpus_per_cell=N starts N processes for each cell of a matrix.": (
        "hydra.launcher.gpus_per_cell=N 会为矩阵的每一格启动 N 个进程。"
    ),
    "{method} trains nothing that processes could share": "{method} 不训练任何东西，没有可由多个进程分担的工作",
    "divides the weights over several processes, and one alone trains this cell": (
        "用于把权重分到多个进程，而此单元只由一个进程训练"
    ),
    "Leave it out, start torchrun --nproc_per_node=N, or give {key}=N on a machine with N GPUs.": (
        "请去掉它，或用 torchrun --nproc_per_node=N 启动，或在有 N 块 GPU 的机器上给出 {key}=N。"
    ),
    "divides what {full} trains, and {method} trains other weights": (
        "切分的是 {full} 训练的权重，而 {method} 训练别的权重"
    ),
    "Leave out train.sharding: each process then has the whole model, and they exchange gradients.": (
        "请去掉 train.sharding：这样每个进程持有整个模型，只交换梯度。"
    ),
    "train.sharding=full divides weights in floating point, and these are stored as {stored}": (
        "train.sharding=full 只能切分浮点权重，而这里的权重按 {stored} 存储"
    ),
    "train.sharding=full divides weights in floating point, and these are stored as bytes of two 4-bit weights each": (
        "train.sharding=full 只能切分浮点权重，而这里每个字节存两个 4 比特权重"
    ),
    "train.sharding=full divides the state of torch's AdamW alone": (
        "train.sharding=full 只能切分 torch 的 AdamW 的状态"
    ),
    "Paged and 8-bit optimizers of bitsandbytes fail at checkpoints of divided weights.": (
        "bitsandbytes 的分页和 8 比特优化器在保存切分权重的检查点时会失败。"
    ),
    "has not been run with train.sharding=full": "未与 train.sharding=full 一起运行过",
    "a mixture of experts, as {model} is, has not been run with divided weights": (
        "{model} 这样的混合专家模型未在权重切分下运行过"
    ),
    "must be at most {batch}: each process trains on a part of every step": (
        "最多为 {batch}：每个进程训练每一步的一部分"
    ),
    "each process needs a GPU of its own, and {count} are visible": "每个进程需要一块自己的 GPU，而可见的有 {count} 块",
    "Give torchrun a smaller --nproc_per_node, or show more with CUDA_VISIBLE_DEVICES.": (
        "请给 torchrun 更小的 --nproc_per_node，或用 CUDA_VISIBLE_DEVICES 让更多 GPU 可见。"
    ),
    "process {number} of {size} failed: {problem}": "第 {number} 个进程（共 {size} 个）失败：{problem}",
    "process {number} of {size} (pid {pid}) ended without a reason, often killed by the system, out of memory": (
        "第 {number} 个进程（共 {size} 个，pid {pid}）无故结束，常见原因是内存不足而被系统终止"
    ),
    "The same command resumes from the last checkpoint.": "同一命令会从最后一个检查点继续。",
    # Folders of runs
    "exists already, so nothing was written": "已存在，因此没有写入",
    "exists already": "已存在",
    "Give another name.": "请换一个名称。",
    "Give a new folder; nothing is overwritten.": "请给出新的文件夹；不会覆盖任何内容。",
    "needs the name of a file": "需要文件名",
    "must be an integer": "必须是整数",
    "must be a number": "必须是数字",
    "holds another run ({changed})": "存放着另一个运行（{changed}）",
    "Give study=NAME to keep both, or overwrite=true, which moves the old one aside.": (
        "请用 study=名称 同时保留两者，或给出 overwrite=true（移开旧的）。"
    ),
    "{damage} since training wrote it (another model's weights?), and no checkpoint is left to make it again": (
        "训练写出之后{damage}（是别的模型的权重？），又没有检查点可以重新生成"
    ),
    "Put it back, or give overwrite=true, which moves the run aside and starts anew.": (
        "请把它放回，或给出 overwrite=true（移开该运行并重新开始）。"
    ),
    "Give outputs=DIR with a folder, or with a new name.": "请用 outputs=目录 给出文件夹或新的名称。",
    "Give outputs=DIR with a folder that is.": "请用 outputs=目录 给出可写的文件夹。",
    "was started with other package versions ({changed}); resuming would mix results": (
        "是用另外的软件包版本开始的（{changed}）；继续会混淆结果"
    ),
    "Install those, or give overwrite=true, which moves the run aside and starts anew.": (
        "请安装那些版本，或给出 overwrite=true（移开该运行并重新开始）。"
    ),
    "no longer exists: the folder was changed just now": "已不存在：文件夹刚刚被改动",
    "no longer exists: the folder was changed while the run was going on": "已不存在：运行期间文件夹被改动",
    "Put the file back, or move the run's folder away and give the command again.": (
        "请把文件放回，或移走该运行的文件夹后再运行命令。"
    ),
    (
        "Put the file back, or remove the folder it lies in and give the command again: answers of other "
        "evaluations are used again, and nothing is trained."
    ): ("请把文件放回，或删除它所在的文件夹后再运行命令：会沿用其他评测的回答，不会训练。"),
    "this version of the package does not read it": "这个版本的软件包不能读取它",
    "{owner} is working on this run": "{owner} 正在处理这个运行",
    "Wait for it, or stop it.": "请等待它完成，或停止它。",
    "{owner} has taken this run over": "{owner} 已接管这个运行",
    "its lease is gone: another process has taken this run over and ended, or somebody removed it": (
        "它的租约已不在：另一个进程接管了这个运行并已结束，或有人删除了租约"
    ),
    (
        "A process that is paused, or cut off from the folder, for {seconds} seconds loses it, and writes nothing more."
    ): "进程被暂停、或与文件夹断开达 {seconds} 秒，便失去这个运行，不再写入。",
    "must be a number of seconds ≥ 1": "必须是不小于 1 的秒数",
    "cannot be locked ({reason})": "无法加锁（{reason}）",
    "Give a folder that is writable.": "请给出可写的文件夹。",
    "Give the folder that runs were written to.": "请给出存放运行的文件夹。",
    "no record of a run in it": "其中没有运行的记录",
    "Train a run first, or give another folder.": "请先训练一个运行，或换一个文件夹。",
    "another chart has this name": "另一张图已用这个名称",
    "cannot be the name of a file": "不能用作文件名",
    "no such section of the page": "页面没有这一节",
    "Reinstall its package.": "请重新安装它所属的软件包。",
    # Conversations
    "{problem}, so {name} cannot answer in this conversation": "{problem}，因此 {name} 无法在这次对话中回答",
    (
        "the question takes {count} tokens and its answer may take {most}, which exceeds the model's context "
        "length of {length}"
    ): ("问题占 {count} 个词元，回答最多占 {most} 个，超过模型的上下文长度 {length}"),
    "Shorten the question, or lower max_new_tokens.": "请缩短问题，或减小 max_new_tokens。",
    "the question is empty": "问题为空",
    "has no questions": "没有问题",
    "Write one question a line.": "请每行写一个问题。",
    'must be an object {"question": TEXT}': '必须是对象 {"question": TEXT}',
    "{file} since the run was done (another model's weights?)": "运行完成之后{file}（是别的模型的权重？）",
    "Put it back, or train again with overwrite=true.": "请把它放回，或用 overwrite=true 重新训练。",
    "has no adapter_config.json": "没有 adapter_config.json",
    "Give a folder that peft saved.": "请给出 peft 保存的文件夹。",
    "has no adapter_model.safetensors": "没有 adapter_model.safetensors",
    "Only safetensors weights are loaded.": "只加载 safetensors 权重。",
    "is missing from the run's config, and this version wrote no such record": (
        "在该运行的配置中缺失，而这个版本不会写出这样的记录"
    ),
    "its predictions are retrieved, so there is no model to chat with": "它的预测来自检索，没有可以对话的模型",
    "was trained on {base}, not on {folder}": "是在 {base} 上训练的，而不是 {folder}",
    "If these are the same weights under another name, give any_base=true.": (
        "如果只是同一权重换了名称，请给出 any_base=true。"
    ),
    "was trained on another base model than the one in {folder} (its files have another fingerprint)": (
        "训练所用的基座模型不是 {folder} 中的那个（文件指纹不同）"
    ),
    "Give model=FOLDER with the one it was trained on.": "请用 model=文件夹 指向训练时的基座模型。",
    "its status is {status}, not done": "状态为 {status}，尚未完成",
    "this version does not know this key": "这个版本不认识这个键",
    "Set what it names.": "请设置它所引用的内容。",
    "another program uses this port": "另一个程序占用了这个端口",
    "Give another one.": "请换一个。",
    # The doctor
    "the trial {problem} ({said})": "试验进程{problem}（{said}）",
    "the trial {problem}": "试验进程{problem}",
    "none answers of {hubs} ({reason})": "{hubs} 都没有响应（{reason}）",
    "{hub} does not answer ({reason})": "{hub} 没有响应（{reason}）",
    "timed out": "超时",
    "Unset it: unset {name}.": "请取消设置：unset {name}。",
    "Use the mirror: export {setting}.": "请使用镜像：export {setting}。",
    "Download from ModelScope: source=modelscope for models, corpus.hub=modelscope for data.": (
        "请从 ModelScope 下载：模型用 source=modelscope，数据用 corpus.hub=modelscope。"
    ),
    "Behind a proxy, export HTTPS_PROXY=http://HOST:PORT; without a network, copy model and data here.": (
        "如需代理，请 export HTTPS_PROXY=http://主机:端口；没有网络时，请把模型和数据拷贝到本机。"
    ),
    "Check the proxy of {name}.": "请检查 {name} 中的代理。",
    "is not in {folder}, and cannot be fetched: {hub} does not answer": "不在 {folder} 中，也无法下载：{hub} 没有响应",
    "Put its files ({files}) there by hand, or see the line about hubs.": (
        "请手动放入其文件（{files}），或参见“平台”一行。"
    ),
    "is not in {folder}, and {variable} forbids to fetch it": "不在 {folder} 中，而 {variable} 禁止下载",
    "cannot be checked ({kind}: {reason})": "无法检查（{kind}：{reason}）",
    "Install the package again, with the tested versions of all that it needs.": (
        "请重新安装软件包，并使用经过测试的依赖版本。"
    ),
    "the runs may need {needed}; {free} are free": "运行可能需要 {needed}；可用空间为 {free}",
    "no font with Chinese characters; pictures stay in English": "没有中文字体；图片将保持英文",
    "Install one: {one}, or {other}.": "请安装一个：{one}，或 {other}。",
    "{missing} of {count} packages are not installed": "{count} 个软件包中有 {missing} 个未安装",
    "Run `{command}`.": "请运行 `{command}`。",
    "cannot be written to ({reason})": "无法写入（{reason}）",
    "Give outputs=DIR in a folder that is writable.": "请用 outputs=目录 指向可写的文件夹。",
    "not tested with these versions: {names}": "未用这些版本测试过：{names}",
    # What the system says
    "Permission denied": "权限不足",
    "No such file or directory": "没有那个文件或目录",
    "No space left on device": "设备上没有剩余空间",
    "Read-only file system": "只读文件系统",
    "File name too long": "文件名过长",
    "Not a directory": "不是目录",
    "Is a directory": "是目录",
    "Too many levels of symbolic links": "符号链接层数过多",
    # Scripts
    "data preparation of {pairs} pairs failed: {reason}": "{pairs} 对数据的预处理失败：{reason}",
    "training set-up of {pairs} pairs failed: {reason}": "{pairs} 对数据的训练准备失败：{reason}",
    "{count} pairs of at most {longest} characters, and {wanted} are needed": (
        "不超过 {longest} 个字符的只有 {count} 对，而需要 {wanted} 对"
    ),
    "Give more pairs, or fewer --rows.": "请给出更多数据，或减少 --rows。",
    "not on {device}": "不能在 {device} 上",
    "the run under the profiler failed: {reason}": "性能分析下的运行失败：{reason}",
    "steps cannot be counted here: {reason}": "这里无法统计步骤：{reason}",
    "`{command}` needs none of it.": "`{command}` 不需要这些。",
    "the expected scores must be there; missing: {missing}": "必须有预期的分数；缺少：{missing}",
    "the work could not be made: {reason}": "无法生成工作量：{reason}",
    "`{command}` failed: {reason}": "`{command}` 失败：{reason}",
    "the file (named by pytorch_model.bin.index.json) is missing; there is nothing to convert without it": (
        "缺少该文件（由 pytorch_model.bin.index.json 指定）；没有它就无法转换"
    ),
    "Give source=DIR.": "请给出 source=目录。",
    "Give target=DIR.": "请给出 target=目录。",
    "not an index of shards": "不是分片索引",
    "holds more than tensors, or is damaged; what can run code when it is read is refused": (
        "除张量外还有别的内容，或已损坏；读取时能执行代码的一律拒绝"
    ),
    "Where the model was made, save it with save_pretrained, or its state_dict() alone.": (
        "请在制作模型的地方用 save_pretrained 保存，或只保存其 state_dict()。"
    ),
    "holds a {kind}; it must hold tensors by name, and nothing else": "存放的是 {kind}；必须只存放按名称索引的张量",
    "has safetensors already; there is nothing to convert": "已有 safetensors，无需转换",
    "config.json ties {name} to {other}, and their values differ": (
        "config.json 把 {name} 与 {other} 绑定，但两者的值不同"
    ),
    "unknown family": "没有这个模型系列",
    "the tests fail without a mutation": "未做变异时测试就失败",
    # How a cell ended
    "no reason recorded": "没有记录原因",
    "another process works on this run": "另一个进程正在处理这个运行",
    "its process could not be started ({reason})": "无法启动它的进程（{reason}）",
    "its record {path} is gone or torn: the folder was changed while it ran": (
        "它的记录 {path} 已不存在或不完整：运行期间文件夹被改动"
    ),
    "the process ended with {code} before the run was done": "进程在运行完成之前以 {code} 结束",
    "the process ended with {code} before the run was done; last words: {words}": (
        "进程在运行完成之前以 {code} 结束；最后的输出：{words}"
    ),
    "the process ended with {code} before the run was done (killed from outside: often the system, out of memory)": (
        "进程在运行完成之前以 {code} 结束（被外部终止：常见原因是系统内存不足）"
    ),
    (
        "the process ended with {code} before the run was done (killed from outside: often the system, out of "
        "memory); last words: {words}"
    ): ("进程在运行完成之前以 {code} 结束（被外部终止：常见原因是系统内存不足）；最后的输出：{words}"),
    "it was asked to stop, did not in time, and was killed": "已要求停止，但未及时停下，因此被终止",
    "it was stopped from outside ({code}) before it could say so itself": "未及说明就被外部停止（{code}）",
    "Run `{command}` on a machine with a network, and copy what it fetches here.": (
        "请在有网络的机器上运行 `{command}`，再把下载的内容拷贝到本机。"
    ),
    # A cluster's queue
    "The same command submits it again.": "再次运行同一命令会重新提交。",
    "its job ended before the cell could record why": "它的作业在这一格能记录原因之前就结束了",
    "its job reached its time limit before the cell had stopped": "它的作业在这一格停下之前到了时间上限",
    "The same command resumes it; give a longer hydra.launcher.time or grace_seconds.": (
        "再次运行同一命令即可继续；请给更长的 hydra.launcher.time 或 grace_seconds。"
    ),
    "its job was cancelled": "它的作业被取消",
    "its node failed": "它的节点出了故障",
    "its node or its worker of Ray failed": "它的节点或 Ray 的工作进程出了故障",
    "its node ran out of main memory, and Ray killed its worker": "它的节点内存不足，Ray 终止了它的工作进程",
    "its task of Ray failed: {words}": "它的 Ray 任务失败：{words}",
    "its task of Ray failed": "它的 Ray 任务失败",
    "its task of Ray was cancelled": "它的 Ray 任务被取消",
    "it used more main memory than its job has": "它用的内存超过了作业所有",
    "Give hydra.launcher.memory.": "请给 hydra.launcher.memory。",
    "its job was preempted, and not put back": "它的作业被抢占，且没有重新排队",
    "its job is gone from the queue, and nothing says how it ended": "它的作业已不在队列中，且没有任何记录说明如何结束",
    "{stalled} starts in a row made no progress: each was cut short before it had written a checkpoint": (
        "连续 {stalled} 次启动没有进展：每次都在写出检查点之前被中断"
    ),
    "Give a longer hydra.launcher.time, or a smaller train.checkpoint_steps.": (
        "请给更长的 hydra.launcher.time，或更小的 train.checkpoint_steps。"
    ),
    # Time limit
    "must be a duration above 0, with its unit": "必须是大于 0 且带单位的时长",
    "limits this command, while its cells run in the queue of a cluster": "只限制本命令，而它的单元在集群的队列里运行",
    "Give hydra.launcher.time.": "请给 hydra.launcher.time。",
    # Storage
    "Another program has changed it; remove the folder there, or give another storage.": (
        "它被别的程序改过；请删除那里的文件夹，或给出另一个 storage。"
    ),
    "fails at {self}: {words}": "在 {self} 处失败：{words}",
    "Check the URL, the network and the credentials; the same command resumes from what is stored.": (
        "请检查 URL、网络和凭据；再次运行同一命令会从已存放的内容继续。"
    ),
    "{words}, with pip.": "请用 pip 安装：{words}。",
    "is not supported: each file of a checkpoint would be a commit": "不支持：检查点的每个文件都会成为一次提交",
    "Give a mounted folder, or an object store such as s3://BUCKET/FOLDER.": (
        "请给挂载的文件夹，或 s3://存储桶/文件夹 这样的对象存储。"
    ),
    "is no place that fsspec knows ({words})": "不是 fsspec 认识的地址（{words}）",
    "needs a package that is not installed": "需要一个没有安装的包",
    "must be a folder or a URL": "必须是文件夹或 URL",
    "must not hold, or lie in, the folder of the runs, {outputs}": ("不能包含运行的文件夹 {outputs}，也不能在它里面"),
    "Give outputs=DIR elsewhere on this machine.": "请用 outputs=目录 指向本机的其他位置。",
    "was changed by another machine since this command began": "在本命令开始之后被另一台机器改动了",
    "The same command resumes from there.": "再次运行同一命令会从那里继续。",
    "is finished here, and could not be stored: {problem}": "在本机已完成，但没有存成：{problem}",
    "The same command stores it.": "再次运行同一命令会存放它。",
    "cannot be read": "无法读取",
}
