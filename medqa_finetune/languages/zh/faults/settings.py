"""Settings, options, arguments of Python, and what commands refuse."""

TEXTS = {
    # Commands, options, Python's arguments
    "unknown value": "没有这个取值",
    "there is no such key": "没有这个设置项",
    "there is no such language": "没有这种语言",
    "adapter, precision and load_in_… are for a folder; a model in memory is used as it is": (
        "adapter、precision 和 load_in_… 只用于文件夹；内存中的模型按原样使用"
    ),
    "load_in_4bit and load_in_8bit exclude each other": "load_in_4bit 与 load_in_8bit 不能同时给出",
    "Give one of them.": "请只给其中一个。",
    "a run has its own": "运行自带一个",
    "Give the model's folder with an adapter.": "请给出模型文件夹和适配器。",
    "Leave it out.": "请去掉它。",
    "does not apply to predictions that exist already": "对已有的预测不起作用",
    "is missing: a model needs questions to answer": "缺失：模型需要有问题可答",
    "the evaluation is {status}": "评测的状态是 {status}",
    "is for a model in memory; a folder has its own": "只用于内存中的模型；文件夹自带一个",
    "must have at least one": "至少要有一个",
    "must have no adapters": "不能带有适配器",
    "Give a base model, or model.merge_and_unload().": "请给出基座模型，或 model.merge_and_unload()。",
    "is missing": "缺失",
    "A model in memory needs its tokenizer: give tokenizer=.": "内存中的模型需要分词器：请给出 tokenizer=。",
    'must be (question, answer) or {"question": TEXT, "answer": TEXT}': (
        '必须是 (question, answer) 或 {"question": TEXT, "answer": TEXT}'
    ),
    "cannot be written ({reason})": "无法写入（{reason}）",
    "Give another folder as outputs.": "请给 outputs 换一个文件夹。",
    "must not be quantized": "不能是量化过的",
    "Give it unquantized; method='qlora' quantizes it.": "请给未量化的模型；method='qlora' 会量化它。",
    "only {count} pairs can be used; at least 3 are needed, to train, validate and test": (
        "只有 {count} 对可用；训练、验证和测试至少需要 3 对"
    ),
    "must be a name, a folder or a model of transformers": "必须是名称、文件夹或 transformers 的模型",
    "must be a name, a file, or (question, answer) pairs": "必须是名称、文件或 (question, answer) 对",
    "its corpus or model is no longer the one it was trained with ({changed})": (
        "语料或模型已不是训练时所用的（{changed}）"
    ),
    "Give corpus.path=FILE or model.path=DIR with those.": (
        "请用 corpus.path=文件 或 model.path=目录 指向训练时所用的。"
    ),
    "the run's corpus ships with the package and has no path": "该运行的语料随软件包提供，没有路径",
    "has no record.json": "没有 record.json",
    "has no {name}": "没有 {name}",
    "Give the folder of a run.": "请给出运行的文件夹。",
    "its status is {status}, and it is not trained": "状态为 {status}，尚未训练好",
    "The command that started it resumes it.": "再次运行启动它的那条命令即可继续。",
    "needs model=FOLDER and no run, which has its own adapter": "需要 model=文件夹，不能与 run 同用（运行自带适配器）",
    "is for mode=demo only": "只用于 mode=demo",
    "load_in_4bit=true is given as well": "同时还给了 load_in_4bit=true",
    "is for mode=text, not mode={mode}": "只用于 mode=text，不用于 mode={mode}",
    "run= is given as well": "同时还给了 run=",
    "run={run} is given as well": "同时还给了 run={run}",
    "standard input is empty": "标准输入为空",
    "Give a question there, or prompt=TEXT.": "请从标准输入给出问题，或用 prompt=文本。",
    "no model is given": "没有给出模型",
    "Give run=DIR, runs=PATTERN or model=FOLDER; see --help.": (
        "请给出 run=目录、runs=通配符 或 model=文件夹；见 --help。"
    ),
    "Give prompt=TEXT, or a question on standard input.": "请给出 prompt=文本，或从标准输入给出问题。",
    "none of the {count} matches is the folder of a run": "匹配到的 {count} 个都不是运行的文件夹",
    "nothing matches": "没有匹配项",
    "Give a pattern of folders with a record.json.": "请给出能匹配含 record.json 的文件夹的通配符。",
    "Gradio is not installed": "未安装 Gradio",
    "Run pip install {package}.": "请运行 pip install {package}。",
    "Run `pip install {package}`.": "请运行 `pip install {package}`。",
    "Run `pip install {package}`, or leave it out.": "请运行 `pip install {package}`，或去掉它。",
    "Run `pip install {package}`, or give {setting}.": "请运行 `pip install {package}`，或给出 {setting}。",
    "takes at most 1 model(s), and {count} are named": "最多接受 1 个模型，却给了 {count} 个",
    "takes at most 1 model, and {count} are named": "最多接受 1 个模型，却给了 {count} 个",
    "takes at most 2 model(s), and {count} are named": "最多接受 2 个模型，却给了 {count} 个",
    "takes at most 2 models, and {count} are named": "最多接受 2 个模型，却给了 {count} 个",
    "mode=demo takes any number.": "mode=demo 不限数量。",
    "standard input is not {encoding} (byte {byte})": "标准输入不是 {encoding} 编码（第 {byte} 字节）",
    "Set PYTHONIOENCODING to what it is.": "请把 PYTHONIOENCODING 设为实际的编码。",
    "the encoding of standard output ({encoding}) lacks characters of the answer": (
        "标准输出的编码（{encoding}）无法表示回答中的某些字符"
    ),
    "Set PYTHONIOENCODING=utf-8.": "请设置 PYTHONIOENCODING=utf-8。",
    "must be the folder of a run, or several: run=[DIR,DIR]": "必须是一个运行的文件夹，或多个：run=[目录,目录]",
    "must be a folder name of at most 200 bytes, without / \\ : or a leading dot": (
        "必须是文件夹名：不超过 200 字节，不含 / \\ :，不以点开头"
    ),
    "Names such as con, summary and cache are reserved.": "con、summary、cache 等名称已被保留。",
    "must be the path of a folder": "必须是文件夹的路径",
    "means nothing in a file of corpus.format={format}": "在 corpus.format={format} 的文件中没有意义",
    "has questions with answers, and corpus.task=text needs running text": "是问答对，而 corpus.task=text 需要连续文本",
    "all of the model computes in fp32": "整个模型都以 fp32 计算",
    "all of the model computes in fp32 here": "在这里整个模型都以 fp32 计算",
    "all of the model computes in fp32 on {device}": "在 {device} 上整个模型都以 fp32 计算",
    "needs method.quantization={wanted}, not {got}": "需要 method.quantization={wanted}，而不是 {got}",
    "For 8 bits, give method=qlora_8bit.": "如需 8 位，请给 method=qlora_8bit。",
    "needs plain low-rank adapters on linear layers, and method={method} trains none": (
        "需要线性层上的普通低秩适配器，而 method={method} 不训练这种适配器"
    ),
    "is missing, and corpus.source=file needs it": "缺失，而 corpus.source=file 需要它",
    "is missing; corpus.source=file needs it": "缺失；corpus.source=file 需要它",
    "Give corpus.path=FILE, or a folder.": "请给出 corpus.path=文件，或文件夹。",
    "is missing, and corpus.source=hub needs it": "缺失，而 corpus.source=hub 需要它",
    "is missing; corpus.source=hub needs it": "缺失；corpus.source=hub 需要它",
    "Give corpus.repository=owner/name.": "请给出 corpus.repository=所有者/名称。",
    "is not a regular expression ({reason})": "不是正则表达式（{reason}）",
    "must be one character, or the name of one": "必须是一个字符，或一个字符的名称",
    "must be a finite number ≥ 1, or null": "必须是 ≥ 1 的有限数，或 null",
    "must be a date, or null": "必须是日期，或 null",
    "must be above {rate}, the rate at which train.scheduler=polynomial ends": (
        "必须大于 {rate}，即 train.scheduler=polynomial 结束时的学习率"
    ),
    "is not an encoding that Python knows": "不是 Python 认识的编码",
    "Try utf-8, gb18030 or utf-16.": "请试 utf-8、gb18030 或 utf-16。",
    "must be the keys of a message's speaker and text, or empty for the usual ones": (
        "必须是消息中说话人和文本的键，留空则用常用的键"
    ),
    "Give corpus.message_keys=[SPEAKER,TEXT].": "请给出 corpus.message_keys=[说话人,文本]。",
    "must be a column name, a list of them, or a template with column names in braces": (
        "必须是列名、列名的列表，或用花括号括住列名的模板"
    ),
    "must be auto, none, or a list of names": "必须是 auto、none 或名称的列表",
    "For example, give {example}.": "例如：{example}。",
    "must be {groups} or a list of module names": "必须是 {groups} 或模块名的列表",
    "must be experts, a list of parameter names, or null": "必须是 experts、参数名的列表或 null",
    "Give another path.": "请换一个路径。",
    "is given twice": "给了两次",
    "must be a list of folders": "必须是文件夹的列表",
    "no such package": "没有这个包",
    "Did you mean 'hydra.searchpath=[{folder}]'?": "是否想写 'hydra.searchpath=[{folder}]'？",
    "Give --config-dir {folder} --config-name {name}.": "请给出 --config-dir {folder} --config-name {name}。",
    "Any size: data.train_size={number}.": "任意大小：data.train_size={number}。",
    "One run per value: -m {key}={values}.": "每个值一次运行：-m {key}={values}。",
    "elements of a list have no keys": "列表的元素没有键",
    "Give the whole list, such as {key}=[a,b].": "请给出整个列表，例如 {key}=[a,b]。",
    "Run `medqa-download model={name}`, then give model=local model.path={path}.": (
        "请先运行 `medqa-download model={name}`，再给出 model=local model.path={path}。"
    ),
    "Type it with a +, as Hydra asks for new variables: +{key}=VALUE.": "新变量按 Hydra 的要求加上 +：+{key}=VALUE。",
    "hydra/sweeper=learning_rate, rank or tuning asks Optuna here.": (
        "这里用 hydra/sweeper=learning_rate、rank 或 tuning 来使用 Optuna。"
    ),
    "Give hydra/launcher=slurm.": "请用 hydra/launcher=slurm。",
    "local runs cells side by side: hydra.launcher.max_parallel=N.": (
        "local 可以并行运行多格：hydra.launcher.max_parallel=N。"
    ),
    "must be followed by {kind!}": "后面必须跟{kind}",
    "must be key=value with a known key": "必须是 key=value，且 key 为已知的设置项",
    "must be {kind!}, and cannot be read as YAML": "必须是{kind}，但无法按 YAML 读取",
    "cannot be resolved ({words})": "无法解析（{words}）",
    "must be {kind!}, without lists inside": "必须是{kind}，里面不能再有列表",
    "does not measure running text, for which nothing is generated": "不能用于连续文本，因为连续文本不生成回答",
    "has no effect on running text, for which nothing is generated": "对连续文本不起作用，因为连续文本不生成回答",
    "has no effect on vLLM (evaluate.backend=vllm), which decides itself": (
        "对 vLLM（evaluate.backend=vllm）不起作用，它自行决定"
    ),
    "Or give evaluate.backend=transformers.": "或者给出 evaluate.backend=transformers。",
    "is not possible with method.quantization=int8, whose layers ask the host which columns are large": (
        "不能与 method.quantization=int8 同用：它的层要向主机询问哪些列数值大"
    ),
    "running text has no answers to compare, and only perplexity is measured": "连续文本没有可比较的回答，只测困惑度",
    "Leave it out, or give evaluate.metrics=[perplexity].": "请去掉它，或给出 evaluate.metrics=[perplexity]。",
    "applies to running text only, and there is none here": "只用于连续文本，而这里没有连续文本",
    "Leave it out, or give evaluate.text=wikitext2 as well.": "请去掉它，或同时给出 evaluate.text=wikitext2。",
    "needs evaluate.text": "需要 evaluate.text",
    "Give evaluate.text=text as well.": "请同时给出 evaluate.text=text。",
    "vLLM (evaluate.backend=vllm) multiplies in the run's own precision": (
        "vLLM（evaluate.backend=vllm）以运行本身的精度计算"
    ),
    "vLLM (evaluate.backend=vllm) does not multiply as bitsandbytes does in 8 bits": (
        "vLLM（evaluate.backend=vllm）的 8 位乘法与 bitsandbytes 不同"
    ),
    "running text has no answers to look up": "连续文本没有可检索的回答",
    "must name at least one": "至少要给出一个",
    "no such folder": "没有这个文件夹",
    "Give a folder with YAML files of tasks.": "请给出存放任务 YAML 文件的文件夹。",
    "needs a CUDA GPU, and this run would compute on {device}": "需要 CUDA GPU，而本次运行会在 {device} 上计算",
    "must be ≤ train.max_length={length}, or tokens are left out": "必须 ≤ train.max_length={length}，否则会漏掉词元",
    "must be ≥ 2 for running text": "对连续文本必须 ≥ 2",
    "must be a list of task names": "必须是任务名的列表",
    "no such configuration file": "没有这个配置文件",
    "the key exists": "该设置项已存在",
    "Type it without the +.": "请去掉前面的 +。",
    "Give it on the command line: {key}=VALUE.": "请在命令行给出：{key}=值。",
    "Give {key}=VALUE.": "请给出 {key}=值。",
    "a configuration file {problem!}": "配置文件{problem}",
    "must be a mapping of keys to values": "必须是键到值的映射",
    "must be key=value": "必须是 key=value 的形式",
    "cannot be read ({words})": "无法读取（{words}）",
    "Put a value with brackets, quotes or = in quotes: key='value'.": "含括号、引号或 = 的值请加引号：key='值'。",
    "must be one value": "必须是单个值",
    "Run one experiment per value with -m (--multirun), or write a list as [a,b].": (
        "要对每个值各跑一个实验，请加 -m（--multirun）；要给列表，请写成 [a,b]。"
    ),
    "is nested too deeply, or an alias in it contains itself": "嵌套过深，或其中有包含自身的别名",
    "there is no key {key}": "没有设置项 {key}",
    "this interpolation cannot be resolved ({words})": "这个插值无法解析（{words}）",
    "the environment variable {name} is not set": "环境变量 {name} 未设置",
    "Set it: export {name}=VALUE.": "请设置：export {name}=值。",
    "conf/{group} has no files": "conf/{group} 中没有文件",
    "is not YAML ({words})": "不是 YAML（{words}）",
    "is not YAML": "不是 YAML",
    "must have one of the allowed forms": "必须是允许的形式之一",
    "Did you mean {names}?": "是否想写 {names}？",
    "See `python -m medqa_finetune.train --help`.": "见 `python -m medqa_finetune.train --help`。",
    "must be a finite number > 0": "必须是 > 0 的有限数",
    "must be a finite number ≥ 0": "必须是 ≥ 0 的有限数",
    "must be a number > 0 and ≤ 1": "必须是 > 0 且 ≤ 1 的数",
    "must be a number ≥ {low} and ≤ {high}": "必须是 ≥ {low} 且 ≤ {high} 的数",
    "must be a number ≥ {low} and < {high}": "必须是 ≥ {low} 且 < {high} 的数",
    "must be an integer from {low} to {high}": "必须是 {low} 到 {high} 之间的整数",
    "must be an integer ≥ {least}": "必须是 ≥ {least} 的整数",
    "must be an integer ≤ {most}": "必须是 ≤ {most} 的整数",
    "must be auto or an integer ≥ {least}": "必须是 auto 或 ≥ {least} 的整数",
    "must be {kind!}": "必须是{kind}",
    "YAML reads this as {got}": "YAML 会把它读成 {got}",
    "Write {got} if that is meant, '{text}' for the text.": "如果本意如此，请写 {got}；如果要文本，请写 '{text}'。",
    # Kinds of values
    "an integer": "整数",
    "a number": "数字",
    "text": "文本",
    "true or false": "true 或 false",
    "a list such as [a,b]": "列表（如 [a,b]）",
    "{one!} or null": "{one}或 null",
    "null": "null",
    # Commands that work on runs
    "no answer carries what this metric needs": "没有任何回答带有该指标所需的信息",
    "exactly one of run and predictions must be given": "run 与 predictions 必须且只能给出一个",
    "Give run=DIR, or predictions=FILE.": "请给出 run=目录 或 predictions=文件。",
    "is for predictions=FILE": "只用于 predictions=文件",
    "is for scoring again, and the other arguments ask for a new evaluation": "只用于重新评分，而其他参数要求新的评测",
    "Leave it out: a new evaluation is named after its settings.": "请去掉它：新的评测按其设置命名。",
    "is for scoring existing predictions again": "只用于对已有预测重新评分",
    "Leave it out, or give evaluate.metrics=[…].": "请去掉它，或给出 evaluate.metrics=[…]。",
    "predictions are scored as they are": "预测按原样评分",
    "Leave it out, or give run=DIR.": "请去掉它，或给出 run=目录。",
    "must name a metric": "必须给出一个指标",
    "Leave it out for all of them.": "去掉它即为全部。",
    "no folder with a record.json matches": "没有匹配到含 record.json 的文件夹",
    "Put the pattern in quotes, run='outputs/*'.": "请给通配符加引号：run='outputs/*'。",
    "must be the name of a file": "必须是文件名",
    "Give another file.": "请换一个文件。",
    "would overwrite the predictions": "会覆盖预测文件",
    "would overwrite the references": "会覆盖参考答案文件",
    "an evaluation cannot change this": "评测不能改变它",
    "Give evaluate.KEY=VALUE, model.path=DIR or corpus.path=FILE; other weights are another training.": (
        "请给出 evaluate.键=值、model.path=目录 或 corpus.path=文件；换权重就是另一次训练。"
    ),
    "Give one of run=DIR and pipeline=variants; see --help.": (
        "请在 run=目录 与 pipeline=variants 中给出一个；见 --help。"
    ),
    "data is given as well and says the same": "同时还给了 data，两者说的是同一件事",
    "data.train_size is given as well and says the same": "同时还给了 data.train_size，两者说的是同一件事",
    "data.name is given as well and says the same": "同时还给了 data.name，两者说的是同一件事",
    "train.epochs is given as well and says the same": "同时还给了 train.epochs，两者说的是同一件事",
    "is for pipeline=variants; run=DIR is trained already": "只用于 pipeline=variants；run=目录 已经训练好",
    "must be a folder": "必须是文件夹",
    "neither a run nor a pipeline is given": "既没有给 run，也没有给 pipeline",
    "one pipeline at a time": "一次只能有一个 pipeline",
    "Start another one for another model.": "换模型请另起一次。",
    "runs and evaluations are named after their settings and files, and this one is {name}": (
        "运行和评测按其设置和文件命名，这一个是 {name}"
    ),
    "A file was changed after the first run of the matrix had begun; type the command again.": (
        "矩阵的第一个运行开始后有文件被改动；请重新运行该命令。"
    ),
    "Leave run_name out; study=NAME keeps runs apart.": "请去掉 run_name；用 study=名称 区分运行。",
    "Leave evaluation_name out; study=NAME keeps runs apart.": "请去掉 evaluation_name；用 study=名称 区分运行。",
    "must be at most {most}: visible are {gpus}": "至多为 {most}：可见的是 {gpus}",
    "Give 0 to run on the CPU.": "给 0 则在 CPU 上运行。",
    "{name} gave up: {reason}": "{name} 放弃了：{reason}",
    "a matrix needs single values": "矩阵需要单个的值",
    "Give single values, such as {one} or {other}.": "请给出单个的值，例如 {one} 或 {other}。",
    "it left no record": "没有留下记录",
    "{status}: the launcher says no more": "{status}：启动器没有更多信息",
    "{missing} of {count} runs are not done": "{count} 个运行中有 {missing} 个未完成",
    "would hold two different runs: {first} and {second}": "会装下两个不同的运行：{first} 和 {second}",
    "{key} asks for another number": "{key} 给的是另一个数目",
    "this machine has {count} GPUs": "这台机器有 {count} 块 GPU",
    "gpu=CARD plans for cards that are not here.": "gpu=显卡 可为不在本机的显卡做计划。",
    "measures one process, and {asked} asks for the times of several": (
        "只测量一个进程，而 {asked} 要的是多个进程的用时"
    ),
    "measures on this machine, and gpu asks for the times of a card elsewhere": (
        "在本机上测量，而 gpu 问的是别处显卡的时间"
    ),
    "Leave out one of the two.": "请去掉其中一个。",
    "{card} has no {precision} in hardware": "{card} 的硬件不支持 {precision}",
    "{count} cell would take {hours} hours ({dearest})": "{count} 格需要 {hours} 小时（{dearest}）",
    "{count} cells would take {hours} hours ({dearest})": "{count} 格共需 {hours} 小时（{dearest}）",
    "{count} cell(s) would take {hours} hours ({dearest})": "{count} 格共需 {hours} 小时（{dearest}）",
    "Ask for fewer or smaller cells, or a larger budget.": "请减少格数、缩小规模，或提高预算。",
    "the {name} {problem}: {said}": "{name} {problem}：{said}",
    (
        "`python -m medqa_finetune.plan gpu=CARD` plans for a card; training takes the GPUs that "
        "CUDA_VISIBLE_DEVICES names."
    ): ("`python -m medqa_finetune.plan gpu=CARD` 用于按显卡规划；训练使用 CUDA_VISIBLE_DEVICES 指定的 GPU。"),
    "Give it to `python -m medqa_finetune.export`, which trains first.": (
        "请把它交给 `python -m medqa_finetune.export`，它会先训练。"
    ),
    "a trial returns its validation loss, the lower the better": "每次试验返回验证损失，越低越好",
    "an integer ≥ 1, or null": "≥ 1 的整数，或 null",
    "an integer ≥ 0": "≥ 0 的整数",
    "a number of seconds ≥ 0": "≥ 0 的秒数",
    "Run one experiment per value with -m (--multirun): {command}.": (
        "要对每个值各跑一个实验，请加 -m（--multirun）：{command}。"
    ),
    # Hydra's flags, and what cannot take effect
    "See `{command}`.": "见 `{command}`。",
    "Begin it with `{line}`.": "请在开头写上 `{line}`。",
    "excludes {other}": "不能与 {other} 同用",
    "is for {other}": "只用于 {other}",
    "Type {text}.": "请输入 {text}。",
    "must be followed by {value}": "后面必须跟 {value}",
    "Type `{command}` for the settings of the training.": "训练的设置请输入 `{command}`。",
    # hydra/launcher=slurm
    "must be an integer ≥ {low}": "必须是 ≥ {low} 的整数",
    "must be from 1 to {most} seconds": "必须在 1 到 {most} 秒之间",
    "is not a length of time": "不是时长的写法",
    "must be longer than the {grace} seconds that a cell has to stop": "必须长于一格停下所用的 {grace} 秒",
    "Give a longer time, or a smaller hydra.launcher.grace_seconds.": (
        "请给更长的时间，或更小的 hydra.launcher.grace_seconds。"
    ),
    "is not a long option of sbatch": "不是 sbatch 的长选项",
    "Give each as --NAME=VALUE or --NAME, an entry of the list for each: [--qos=long,--exclusive].": (
        "每项写作 --NAME=VALUE 或 --NAME，各占列表的一项：[--qos=long,--exclusive]。"
    ),
    "is set by the launcher": "由启动器设定",
    "Give {key}.": "请给 {key}。",
    "{commands} not found on PATH": "PATH 上找不到 {commands}",
    (
        "Type the command on a login node of the cluster, or install SLURM's client (Debian: slurm-client); without "
        "SLURM, leave hydra/launcher out."
    ): (
        "请在集群的登录节点上运行该命令，或安装 SLURM 客户端（Debian：slurm-client）；"
        "没有 SLURM 则不要写 hydra/launcher。"
    ),
    "SLURM refuses the cells: {words}": "SLURM 拒绝了这些格：{words}",
    (
        "Settings are hydra.launcher.partition, account, time, gpus_per_cell, cpus_per_cell, memory, options."
    ): "相关设置：hydra.launcher.partition、account、time、gpus_per_cell、cpus_per_cell、memory、options。",
    "SLURM does not answer: {words}": "SLURM 没有回应：{words}",
    "Try again when squeue answers: what is queued already is not known.": (
        "请等 squeue 能回应后再试：不知道哪些已在排队。"
    ),
    "runs cells of medqa_finetune alone": "只运行 medqa_finetune 的格",
    "a sweeper that proposes trials waits for their results": "提出试验的 sweeper 要等它们的结果",
    "Leave it out; Ctrl-C leaves the jobs in the queue.": "请删去；Ctrl-C 会把作业留在队列中。",
    # hydra/launcher=ray
    "Run `pip install 'medqa-finetune[ray]'`, in the version of the cluster; without Ray, leave it out.": (
        "请运行 `pip install 'medqa-finetune[ray]'`，版本与集群一致；没有 Ray 则请删去。"
    ),
    "is not an amount of memory": "不是内存大小的写法",
    "is not the address of a Ray cluster": "不是 Ray 集群的地址",
    "cannot be kept to without a launcher that waits": "没有等待的启动器就无法遵守",
    "Leave it out, or give hydra.launcher.wait=true.": "请删去，或给 hydra.launcher.wait=true。",
    "names environment variables that are not set here": "列出了这里没有设置的环境变量",
    "Set them, or leave them out.": "请设置它们，或删去。",
    "Ray refuses the connection: {words}": "Ray 拒绝连接：{words}",
    "Type the command on a node of the cluster, with its versions of Python and Ray.": (
        "请在集群的节点上运行该命令，Python 和 Ray 的版本与集群一致。"
    ),
    "no Ray cluster is running here, in which jobs could be left": "这里没有运行中的 Ray 集群可以留下作业",
    "Start one by `ray start --head`, give HOST:PORT, or hydra.launcher.wait=true.": (
        "请用 `ray start --head` 启动一个，或给 HOST:PORT，或 hydra.launcher.wait=true。"
    ),
    "no Ray cluster answers there": "那里没有 Ray 集群回应",
    "`ray status` on its head node shows the address; leave it out for one on this machine.": (
        "在头节点上运行 `ray status` 可看到地址；要用本机上的集群请删去。"
    ),
    "no node of the cluster has as much: {most} is the most": "集群中没有节点有这么多：最多为 {most}",
    "Give less, or first start a node that has it; gpus_per_cell=0 runs cells on CPUs.": (
        "请减少，或先启动有这么多的节点；gpus_per_cell=0 在 CPU 上运行各格。"
    ),
    "no node of the cluster has gpus_per_cell, cpus_per_cell and memory together": (
        "集群中没有节点同时满足 gpus_per_cell、cpus_per_cell 和 memory"
    ),
    "the node {host} does not answer: {words}": "节点 {host} 没有回应：{words}",
    "the node {host} does not see this folder": "节点 {host} 看不到这个文件夹",
    "the node {host} has no {path}, which cells need": "节点 {host} 上没有 {path}，而各格需要它",
    "Put it on a file system that all nodes have under the same path.": (
        "请把它放在所有节点以同一路径可见的文件系统上。"
    ),
    "Ray refuses the cells: {words}": "Ray 拒绝了这些格：{words}",
    "the cluster has no dashboard, which takes jobs": "集群没有接收作业的 dashboard",
    "Start its head with ray[default] and its dashboard, or give hydra.launcher.wait=true.": (
        "请用 ray[default] 启动头节点及其 dashboard，或给 hydra.launcher.wait=true。"
    ),
    "the dashboard of Ray does not answer: {words}": "Ray 的 dashboard 没有回应：{words}",
    "Try again when `ray job list` answers: which cells have jobs already is not known.": (
        "请等 `ray job list` 能回应后再试：不知道哪些格已有作业。"
    ),
}
