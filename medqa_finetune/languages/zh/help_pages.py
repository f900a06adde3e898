"""Pages of `--help`."""

TEXTS = {
    "options:": "选项：",
    "and every group and key that `python -m medqa_finetune.train --help` lists": (
        "以及 `python -m medqa_finetune.train --help` 列出的所有配置组和设置项"
    ),
    "with pipeline=variants also every group and key that `python -m medqa_finetune.train --help` lists": (
        "使用 pipeline=variants 时，还包括 `python -m medqa_finetune.train --help` 列出的所有配置组和设置项"
    ),
    "a table, or one JSON object": "表格，或一个 JSON 对象",
    # train
    (
        "Trains and evaluates one experiment; with -m, one per combination of comma-separated values, each in a "
        "process of its own."
    ): ("训练并评测一个实验；加 -m 则对逗号分隔的取值的每种组合各做一个，各用一个独立的进程。"),
    "Run again, it leaves finished runs untouched and tries the others.": "再次运行时不动已完成的运行，只尝试其余的。",
    "Results go to outputs/ (outputs=DIR).": "结果写入 outputs/（outputs=目录）。",
    "small runs on embedded data, in minutes": "用内置数据做小规模运行，几分钟完成",
    "six experiments": "六个实验",
    (
        "A matrix runs one cell per visible GPU, or one at a time without; hydra.launcher.max_parallel=N, "
        ".gpus_per_cell=N, .retries=N (of cells that crash) and .grace_seconds=N (to write a checkpoint when "
        "stopped) change that. hydra/launcher=slurm and hydra/launcher=ray run the cells on a cluster; "
        "hydra.launcher.wait=false leaves them there. A cell trains on the N GPUs of .gpus_per_cell=N, or of "
        "torchrun --nproc_per_node=N -m medqa_finetune.train."
    ): (
        "矩阵在每块可见的 GPU 上运行一格，没有 GPU 则一次一格；可用 hydra.launcher.max_parallel=N、.gpus_per_cell=N、"
        ".retries=N（崩溃格的重试次数）和 .grace_seconds=N（停止时写检查点的时间）改变。"
        "hydra/launcher=slurm 和 hydra/launcher=ray 在集群上运行各格；hydra.launcher.wait=false 提交后即离开。一格在 "
        ".gpus_per_cell=N 或 torchrun --nproc_per_node=N -m medqa_finetune.train 的 N 块 GPU 上训练。"
    ),
    "storage=DIR|URL keeps run folders for other machines; time_limit=11h stops in time, with checkpoints.": (
        "storage=目录|URL 把运行文件夹存到别的机器也能接着跑的地方；time_limit=11h 会按时停下并写好检查点。"
    ),
    "groups and their choices (* is the default):": "配置组及其选项（* 为默认）：",
    "keys (default before a group or the command line sets it; what each means: config/schema.py):": (
        "设置项（配置组或命令行设定之前的默认值；含义见 config/schema.py）："
    ),
    (
        "Your own file in Alpaca form (instruction, input, output; system and history where there are any): "
        "corpus.path=FILE"
    ): ("自己的 Alpaca 格式文件（instruction、input、output；如有则含 system 和 history）：corpus.path=文件"),
    "ChatMed-Consult: 110k real questions answered by ChatGPT (michaelwzhu, Hugging Face)": (
        "ChatMed-Consult：11 万个真实问题，由 ChatGPT 回答（michaelwzhu，Hugging Face）"
    ),
    "Chinese medical dialogue: 800k consultations of six departments (ticoAg, Hugging Face)": (
        "中文医疗对话：六个科室的 80 万次问诊（ticoAg，Hugging Face）"
    ),
    (
        "Your own CSV or TSV with a header: corpus.path=FILE, columns question and answer, corpus.encoding=gb18030 "
        "if needed"
    ): ("自己的带表头的 CSV 或 TSV：corpus.path=文件，列为 question 和 answer，必要时加 corpus.encoding=gb18030"),
    "The corpus that ships with the package: no download, our own text": "随软件包提供的语料：无需下载，文本为自编",
    "The corpus that ships with the package; its test questions ask about conditions no training example is about": (
        "随软件包提供的语料；测试题所问的疾病不出现在任何训练样本中"
    ),
    "Huatuo26M-Lite, the default: 178k medical questions with rewritten answers (FreedomIntelligence, Hugging Face)": (
        "Huatuo26M-Lite，默认语料：17.8 万个医疗问题，回答经过改写（FreedomIntelligence，Hugging Face）"
    ),
    "Huatuo encyclopedia: 364k questions from medical encyclopedias (FreedomIntelligence, Hugging Face)": (
        "华佗百科：36.4 万个来自医学百科的问题（FreedomIntelligence，Hugging Face）"
    ),
    "Huatuo knowledge graph: 798k short questions made from a graph (FreedomIntelligence, Hugging Face)": (
        "华佗知识图谱：79.8 万个由图谱生成的短问题（FreedomIntelligence，Hugging Face）"
    ),
    (
        "HuatuoGPT-sft-data-v1: 226k doctor and ChatGPT dialogues, first turn of each (FreedomIntelligence, "
        "Hugging Face)"
    ): ("HuatuoGPT-sft-data-v1：22.6 万段医生与 ChatGPT 对话，各取第一轮（FreedomIntelligence，Hugging Face）"),
    "Your own JSON array of objects: corpus.path=FILE, columns question and answer (id, system, history if there)": (
        "自己的 JSON 对象数组：corpus.path=文件，列为 question 和 answer（如有则含 id、system、history）"
    ),
    (
        "Your own JSON Lines file: corpus.path=FILE, columns question and answer (id, system, history where there "
        "are any)"
    ): ("自己的 JSON Lines 文件：corpus.path=文件，列为 question 和 answer（如有则含 id、system、history）"),
    "swift/medical_zh, Chinese part: 1.9 million questions of several sources (ModelScope)": (
        "swift/medical_zh 中文部分：多个来源的 190 万个问题（ModelScope）"
    ),
    "Your own file in OpenAI's form (messages of role, content; whole dialogues): corpus.path=FILE": (
        "自己的 OpenAI 格式文件（messages 含 role、content；完整对话）：corpus.path=文件"
    ),
    "Your own Parquet file: corpus.path=FILE, columns question and answer (id if there is one)": (
        "自己的 Parquet 文件：corpus.path=文件，列为 question 和 answer（如有则含 id）"
    ),
    "Your own file in ShareGPT form (conversations of from, value; whole dialogues): corpus.path=FILE": (
        "自己的 ShareGPT 格式文件（conversations 含 from、value；完整对话）：corpus.path=文件"
    ),
    "shibing624/medical, Chinese fine-tuning part: 1.9 million questions of several sources (Hugging Face)": (
        "shibing624/medical 中文微调部分：多个来源的 190 万个问题（Hugging Face）"
    ),
    "Your own running text for language modelling, scored by perplexity: corpus.path=FILE or FOLDER": (
        "自己的连续文本，用于语言建模，以困惑度评分：corpus.path=文件或文件夹"
    ),
    "Chinese medical dialogue (Toyhom), one department's CSV in GB18030: corpus.path=FILE": (
        "中文医疗对话（Toyhom），单个科室的 GB18030 CSV：corpus.path=文件"
    ),
    "WikiText-2, raw: running text for language modelling, scored by perplexity (Salesforce, Hugging Face)": (
        "WikiText-2（raw）：用于语言建模的连续文本，以困惑度评分（Salesforce，Hugging Face）"
    ),
    "{count} training pairs": "{count} 个训练问答对",
    "Every training pair the corpus has left after the held-out sets": "语料除留出集之外的全部训练问答对",
    "Greedy answers to the whole test set; char ROUGE, sacrebleu BLEU zh, perplexity, and what other projects print": (
        "对整个测试集贪心回答；按字的 ROUGE、sacrebleu 中文 BLEU、困惑度，以及其他项目常用的指标"
    ),
    "Every weight is trained: the memory of a full optimizer; learning rate 2e-5 unless a profile sets its own": (
        "训练全部权重：需要完整优化器的内存；学习率 2e-5，除非 profile 另有设定"
    ),
    "Low-rank adapters on every linear layer, base weights in the run's precision": (
        "所有线性层上的低秩适配器，基座权重用运行的精度"
    ),
    "Nothing is trained: the untuned base model, a baseline row": "不训练：未微调的基座模型，作为基线",
    (
        "PiSSA: LoRA whose adapters start as the principal part of each weight matrix; scale and dropout as its "
        "authors take them"
    ): ("PiSSA：适配器从各权重矩阵的主成分开始的 LoRA；缩放和 dropout 按其作者的取值"),
    "The same adapters over a 4-bit NF4 base with double quantization": "同样的适配器，基座为 4 位 NF4 并双重量化",
    "The same adapters over an 8-bit base (LLM.int8)": "同样的适配器，基座为 8 位（LLM.int8）",
    "No model at all: the answer of the most similar training question, a baseline row per data size": (
        "不用模型：取最相似训练题的回答，每种数据量一个基线"
    ),
    "{model}; Hugging Face asks to accept its licence first": "{model}；需先在 Hugging Face 上接受其许可",
    "Any model folder with safetensors weights and a chat template: model.path=FOLDER": (
        "任何带 safetensors 权重和对话模板的模型文件夹：model.path=文件夹"
    ),
    "Phi-2, a base model without a chat template: asked by `Instruct: … Output: …`": (
        "Phi-2，没有对话模板的基座模型：以 `Instruct: … Output: …` 提问"
    ),
    "{model}, the default": "{model}，默认",
    "{model}; model.thinking says whether it thinks": "{model}；model.thinking 决定是否思考",
    "{model}, English for the most part; small enough for a CPU": "{model}，以英文为主；小到可用 CPU",
    "A Qwen2-architecture model of a few million parameters that ships with the package, for demos and tests": (
        "随软件包提供的 Qwen2 架构模型，几百万参数，用于演示和测试"
    ),
    "A card of 24 GB (RTX 3090 or 4090, L4, A10)": "24 GB 显卡（RTX 3090 或 4090、L4、A10）",
    "A card of 80 GB (A100, H100): every method, Qwen2.5-3B in full too": (
        "80 GB 显卡（A100、H100）：所有方法，包括 Qwen2.5-3B 全量微调"
    ),
    "A card of 8 GB: QLoRA unless method= says otherwise": "8 GB 显卡：除非 method= 另有指定，否则用 QLoRA",
    "Everything that ships with the package, at 1/100 of the size: the whole matrix on two CPU cores in minutes": (
        "全部使用软件包自带内容，规模为 1/100：两个 CPU 核心几分钟跑完整个矩阵"
    ),
    "A Tesla T4: 16 GB, fp16 (precision=auto takes it: bf16 is emulated there)": (
        "Tesla T4：16 GB，fp16（precision=auto 即取 fp16：bf16 在其上为软件模拟）"
    ),
    "MLflow, pip install 'medqa_finetune[mlflow]'; outputs/mlflow.db unless MLFLOW_TRACKING_URI says otherwise": (
        "MLflow，pip install 'medqa_finetune[mlflow]'；写入 outputs/mlflow.db，除非 MLFLOW_TRACKING_URI 另有指定"
    ),
    "No tracker; metrics.jsonl and training_curves.png are written all the same": (
        "不用跟踪器；metrics.jsonl 和 training_curves.png 照常写出"
    ),
    "Event files in the run folder: tensorboard --logdir outputs": (
        "事件文件写入运行文件夹：tensorboard --logdir outputs"
    ),
    (
        "Weights & Biases, pip install 'medqa_finetune[wandb]'; files below the run folder, WANDB_MODE=offline for "
        "no network"
    ): ("Weights & Biases，pip install 'medqa_finetune[wandb]'；文件在运行文件夹下，无网络时设 WANDB_MODE=offline"),
    "AdamW, cosine with warm-up, one epoch, effective batch of 16 pairs": (
        "AdamW，余弦学习率加预热，一轮，有效批大小 16 对"
    ),
    # plan
    (
        "Predicts hours, peak memory, disk and money of every cell that `python -m medqa_finetune.train` would run "
        "with the same arguments, and their sum."
    ): ("预测 `python -m medqa_finetune.train` 用同样参数会运行的每一格的时间、内存峰值、磁盘和费用，以及总和。"),
    "Nothing is started.": "不启动任何运行。",
    "The model's config.json and tokenizer are enough; the corpus is fetched where it is missing.": (
        "只需要模型的 config.json 和分词器；缺少的语料会下载。"
    ),
    "Finished cells are planned as if they were new.": "已完成的格也按全新的来规划。",
    (
        "measure a few real steps and answers of every model and method here; otherwise times are computed from "
        "the model's arithmetic and this machine's speed"
    ): ("在本机实测每个模型和方法的若干步训练和若干回答；否则由模型的运算量和本机速度计算时间"),
    "exit with 2 if all cells together take longer": "所有格合计超过该时长则以 2 退出",
    "price of an hour of this machine or GPU, in any currency": "本机或每块 GPU 每小时的价格，货币不限",
    "GPUs of a cell; null: hydra.launcher.gpus_per_cell": "单元的 GPU 数；null：hydra.launcher.gpus_per_cell",
    "plan for a card that is not here, computed from its data sheet; null for this machine.": (
        "按数据手册为不在本机的显卡规划；null 表示本机。"
    ),
    "One of {cards}": "可选 {cards}",
    # evaluate
    "Evaluates trained weights again, or scores predictions again without a model.": (
        "重新评测训练好的权重，或不用模型重新为预测评分。"
    ),
    "another evaluation of a run: nothing is trained, and predictions made under the same settings are used again": (
        "对运行再做一次评测：不训练，沿用相同设置下的预测"
    ),
    "the same for every run that matches, one per GPU at a time": "对每个匹配的运行做同样的事，每块 GPU 一次一个",
    "scores the predictions of a run again and writes the scores to its records": (
        "重新为运行的预测评分，并把分数写入其记录"
    ),
    "folder of a run, or a pattern of such folders in quotes": "运行的文件夹，或加引号的通配符",
    (
        'score a file of {"id", "question", "reference" or "references", "prediction"}, or as '
        "LLaMA-Factory, ms-swift and batches of OpenAI or vLLM name them: JSON Lines, a JSON array, CSV or "
        "Parquet; says which keys it takes"
    ): (
        '为文件评分，键为 {"id", "question", "reference" 或 "references", "prediction"}，或 LLaMA-Factory、'
        "ms-swift、OpenAI 或 vLLM 批处理的命名：JSON Lines、JSON 数组、CSV 或 Parquet；会说明采用了哪些键"
    ),
    "key of the prediction in that file, `a.0.b` inside values; found by its name if left out": (
        "该文件中预测的键，值内部用 `a.0.b`；不给则按名称查找"
    ),
    "key of the reference, likewise; in the file of references= where that is given": (
        "参考答案的键，同上；如给了 references= 则为该文件中的键"
    ),
    "key of the question, likewise": "问题的键，同上",
    "key of the id, likewise; the line, or the place in an array, if there is none": (
        "id 的键，同上；没有则用行号或数组中的位置"
    ),
    "file with the references of those predictions, by id or row by row": (
        "存放这些预测的参考答案的文件，按 id 或逐行对应"
    ),
    "the evaluation to score again; all if left out, and the run's default one is printed": (
        "要重新评分的评测；不给则为全部，并打印运行的默认评测"
    ),
    "names of metrics; those of an evaluation are always included": "指标名称；评测本身的指标始终包括在内",
    (
        'a table, or one JSON object {"n", "scores": {name: {"value", "signature"}}}; with several runs '
        'one line each, with "run" and "evaluation"'
    ): (
        '表格，或一个 JSON 对象 {"n", "scores": {名称: {"value", "signature"}}}；有多个运行时每个一行，并带 '
        '"run" 和 "evaluation"'
    ),
    "print the scores of every prediction as well": "同时打印每条预测的分数",
    "write the JSON to this file as well": "同时把 JSON 写入该文件",
    "runs evaluated at the same time at most; one per gpus_per_run GPUs if left out": (
        "最多同时评测的运行数；不给则每 gpus_per_run 块 GPU 一个"
    ),
    "GPUs that each of several runs gets": "有多个运行时，每个得到的 GPU 数",
    "how often a crashed evaluation of a run is started again": "崩溃的评测最多重启几次",
    "CPU threads for torch; the run's own setting if left out": "torch 的 CPU 线程数；不给则用运行自己的设置",
    "for another evaluation:": "用于再做一次评测：",
    "settings as `train` has them; what is left out is as in the run's default evaluation": (
        "与 `train` 相同的设置；不给的与运行的默认评测相同"
    ),
    "where the base model lies now": "基座模型现在的位置",
    "where the corpus lies now": "语料现在的位置",
    # summarize
    (
        "Writes tables (CSV), charts and a page (report.html) over all runs below a folder, and reports what more "
        "data and another method gain."
    ): ("为文件夹下的所有运行写出表格（CSV）、图和页面（report.html），并报告增加数据和更换方法的收益。"),
    "folder with runs, at any depth; takes DIR/summary/": "含有运行的文件夹，层级不限；结果写入 DIR/summary/",
    "price of an hour of the machine, in any currency; without it no costs are computed": (
        "机器每小时的价格，货币不限；不给则不计算费用"
    ),
    # chat
    "Talks to models that runs have trained, or to any model.": "与运行训练出的模型或任意模型对话。",
    "Answers are generated and are no medical advice.": "回答由模型生成，不构成医疗建议。",
    "a conversation in the terminal": "在终端中对话",
    "one answer, plain, for scripts": "单个回答，纯文本，供脚本使用",
    "two runs side by side in a browser": "在浏览器中并排比较两个运行",
    "models:": "模型：",
    "folder of a finished run, or several": "已完成运行的文件夹，可给多个",
    "every run whose folder matches, such as 'outputs/demo/*'": "文件夹匹配的每个运行，例如 'outputs/demo/*'",
    "a name of conf/model or a folder; with run=, where its base model lies now": (
        "conf/model 中的名称或文件夹；与 run= 同用时为其基座模型现在的位置"
    ),
    "adapter for model=, as peft saves it": "model= 的适配器，peft 保存的格式",
    "accept an adapter that names another base model": "接受标明了另一个基座模型的适配器",
    "base weights in NF4; otherwise as they were trained": "基座权重用 NF4；否则与训练时相同",
    "base weights in int8": "基座权重用 int8",
    "as in the run if left out": "不给则与运行相同",
    "CPU threads for torch; as in the run if left out": "torch 的 CPU 线程数；不给则与运行相同",
    "conversation:": "对话：",
    "a conversation; the same questions to all models; one answer; a page in the browser.": (
        "依次为：对话；向所有模型提同样的问题；单个回答；浏览器页面。"
    ),
    "Text if there is a prompt or the input is piped, else interactive": (
        "有 prompt 或输入来自管道时为 text，否则为 interactive"
    ),
    "mode=text: one question; - reads standard input": "mode=text：一个问题；- 表示读取标准输入",
    'mode=demo: one question a line, or JSON Lines of {"question"}; ours if left out': (
        'mode=demo：每行一个问题，或含 {"question"} 的 JSON Lines；不给则用内置的'
    ),
    "mode=demo: a table, or one JSON object a line": "mode=demo：表格，或每行一个 JSON 对象",
    "mode=web: port on 127.0.0.1": "mode=web：127.0.0.1 上的端口",
    "instructions before the conversation": "对话前的指令",
    "sampling:": "采样：",
    "0 takes the most likely token, as the evaluation does": "0 表示取概率最大的词元，与评测相同",
    "sample from the most likely tokens that add up to this share": "从累计概率达到该值的最可能词元中采样",
    "seed of the sampling": "采样的随机种子",
    "most tokens of an answer; the run's own setting, or 512, if left out": (
        "回答的最大词元数；不给则用运行自己的设置或 512"
    ),
    # export
    (
        "Makes models of a finished run, each in a folder of its own with safetensors, tokenizer and "
        "metadata.json, and measures them: size, memory, speed, scores on the run's own test questions."
    ): (
        "由已完成的运行制作模型，各自放在含 safetensors、分词器和 metadata.json 的文件夹中，并测量其大小、内存、速度"
        "以及在该运行测试题上的分数。"
    ),
    "Finished ones are left as they are.": "已完成的保持不动。",
    "all variants that the run's method allows": "该运行的方法允许的所有变体",
    "variants:": "变体：",
    "the untuned model": "未微调的模型",
    "the untuned model, quantized (4 bits, or as the run was trained)": "未微调的模型，量化后（4 位，或与训练时相同）",
    "the adapter alone, as it was trained": "仅适配器，与训练所得相同",
    "the tuned model: adapter merged, then quantized": "微调后的模型：先并入适配器再量化",
    "the tuned model: adapter merged into the (dequantized) base": "微调后的模型：适配器并入（反量化的）基座",
    "folder of a finished run": "已完成运行的文件夹",
    "train first if that is not done; variants is then [base,quantized,lora,lora_quantized] if left out": (
        "如未训练则先训练；此时不给 variants 即为 [base,quantized,lora,lora_quantized]"
    ),
    "pipeline: training examples (data.train_size)": "pipeline：训练样本数（data.train_size）",
    "pipeline: passes over them (train.epochs)": "pipeline：训练轮数（train.epochs）",
    "which to make; all that the run's method allows if left out": "要制作哪些；不给则为该运行的方法允许的全部",
    "takes a folder per variant, variants.csv and variants.png; <run>/export if left out": (
        "存放每个变体的文件夹、variants.csv 和 variants.png；不给则为 <run>/export"
    ),
    "where the base model lies now; where the run found it if left out": "基座模型现在的位置；不给则为运行当时的位置",
    "questions to measure on; those of the run's evaluation if left out": "用于测量的题数；不给则用该运行评测的题目",
    "auto: as the run was trained, else nf4": "auto：与训练时相同，否则 nf4",
    "of weights that are not quantized; auto: as the base's files": "未量化权重的精度；auto：与基座文件相同",
    "let each variant answer the questions, in a process of its own": "让每个变体在独立的进程中回答问题",
    "move existing variants aside and make them again": "移开已有的变体并重新制作",
    # doctor
    (
        "Says whether `python -m medqa_finetune.train` can run here with the same arguments: device, precisions, "
        "memory, 4-bit weights, versions, disk, hubs and mirrors, model, corpus, fonts; and what each profile "
        "needs."
    ): (
        "说明 `python -m medqa_finetune.train` 用同样参数能否在本机运行：设备、精度、内存、4 位权重、版本、磁盘、平台"
        "与镜像、模型、语料、字体；以及各配置的需求。"
    ),
    "Takes a few seconds, and writes nothing.": "只需几秒，不写任何文件。",
    "Exit codes: 0 a run can start, 1 something stops it, 2 an argument is impossible.": (
        "退出码：0 可以运行，1 有问题阻止运行，2 参数不可行。"
    ),
    "plan the hours of every profile on its card too; reads the corpus, and fetches it where it is missing": (
        "同时规划各配置在其显卡上的小时数；会读取语料，缺少时下载"
    ),
    "a screen, or one JSON object": "一屏文本，或一个 JSON 对象",
    # Downloads and data
    (
        "Prints one dialogue as the model is trained on it, in stretches of text with and without loss, each with "
        "its token ids."
    ): ("按训练时的样子打印一段对话，分为计损失和不计损失的片段，并附词元编号。"),
    "The model's tokenizer is enough; its weights are not needed.": "只需要模型的分词器，不需要权重。",
    (
        "Without data= or a profile, all of the corpus is the training set but for one question each for "
        "validation and test."
    ): ("不给 data= 或 profile 时，除验证和测试各一题外，整个语料都是训练集。"),
    "which example of the set, from 1": "集合中的第几个样本，从 1 开始",
    "which set": "哪个集合",
    "print the token ids below each stretch of text": "在每个片段下打印词元编号",
    "Fetches a public data set that conf/corpus names, unless it is there already.": (
        "下载 conf/corpus 中列出的公开数据集，已有则不下载。"
    ),
    "fetch from this hub, not from the configured one": "从该平台下载，而不是配置的平台",
    "one of {names}": "可选 {names}",
    "changes a setting of the corpus": "改变语料的某个设置",
    "Divides a corpus into nested training sets, a validation and a test set, as JSON Lines files with a manifest.": (
        "把语料划分为嵌套的训练集、一个验证集和一个测试集，写成 JSON Lines 文件并附清单。"
    ),
    "Training divides by itself, in the same way, and uses the same cache.": (
        "训练会自行以同样方式划分，并使用同一缓存。"
    ),
    "training sets to write: {names}": "要写出的训练集：{names}",
    "folder to write to; {folder} if left out": "写入的文件夹；不给则为 {folder}",
    "folder of the prepared corpora that training uses": "训练所用预处理语料的文件夹",
    "only fill that cache": "只填充该缓存",
    "changes test_size, validation_size, split_seed, scale or near_duplicate_threshold": (
        "改变 test_size、validation_size、split_seed、scale 或 near_duplicate_threshold"
    ),
    "Cleans raw files into pairs.jsonl, rejects.jsonl (each with place and reason) and counts.json.": (
        "把原始文件清洗成 pairs.jsonl、rejects.jsonl（各附位置和原因）和 counts.json。"
    ),
    "Training cleans by itself; this shows what cleaning does, or prepares files for use elsewhere.": (
        "训练会自行清洗；本命令用于查看清洗效果，或为别处准备文件。"
    ),
    "A corpus that keeps its published parts (corpus.parts) gives pairs/train.jsonl, pairs/test.jsonl, … instead.": (
        "保留公布划分的语料（corpus.parts）则写出 pairs/train.jsonl、pairs/test.jsonl、…。"
    ),
    "Downloads a base model's safetensors weights, tokenizer and configuration, or a public data set that conf/corpus "
    "names.": "下载基座模型的 safetensors 权重、分词器和配置，或 conf/corpus 中的公开数据集。",
    "The environment variable HF_ENDPOINT names a mirror of Hugging Face.": (
        "环境变量 HF_ENDPOINT 指定 Hugging Face 的镜像。"
    ),
    "Also as python -m medqa_finetune.download.": "也可写作 python -m medqa_finetune.download。",
    "Also as python -m medqa_finetune.convert.": "也可写作 python -m medqa_finetune.convert。",
    "options of a model:": "下载模型的选项：",
    "options of a corpus:": "下载语料的选项：",
    "train and evaluate one experiment, or with -m a matrix of them": "训练并评测一个实验，加 -m 则为一组实验",
    "time, memory, disk and money of the same, before anything runs": "运行之前估算所需的时间、内存、磁盘和费用",
    "tables, charts and a page over all runs": "所有运行的表格、图和网页",
    "evaluate a run again, or score a file of predictions": "重新评测一次运行，或给预测文件打分",
    "talk to models that runs have trained": "与训练好的模型对话",
    "make and measure merged, quantized and other variants of a run": "导出并测量合并、量化等变体",
    "fetch a model or a public corpus, from Hugging Face or ModelScope": (
        "从 Hugging Face 或 ModelScope 下载模型或公开语料"
    ),
    "turn pickled weights into safetensors": "把 pickle 权重转成 safetensors",
    "say whether a run can start here, and what each profile needs": "检查本机能否运行，以及各配置档的需求",
    "Each has --help. To begin: python -m medqa_finetune.train -m profile=demo": (
        "每个命令都有 --help。可从这里开始：python -m medqa_finetune.train -m profile=demo"
    ),
    "An interrupted download continues where it stopped.": "中断的下载会从断点继续。",
    "No pickled weights and no code are fetched.": "不下载 pickle 权重和任何代码。",
    "owner/name, or one of {names}": "所有者/名称，或 {names} 之一",
    "hub to fetch it from": "从哪个平台下载",
    "branch, tag or commit; the configured one if left out": "分支、标签或提交；不给则用配置的",
    "Turns a model with pickled weights into one with safetensors, in a new folder; nothing but tensors is read.": (
        "把带 pickle 权重的模型转成 safetensors，放入新文件夹；只读取张量。"
    ),
    "folder with pytorch_model.bin or its shards, config.json and tokenizer": (
        "含有 pytorch_model.bin 或其分片、config.json 和分词器的文件夹"
    ),
    "folder to make": "要新建的文件夹",
    "the same questions to several runs": "向多个运行提同样的问题",
    (
        "QLoRA with the settings of its authors for models of 7B and 13B (Dettmers et al. 2023, arXiv:2305.14314, "
        "table 9)"
    ): ("QLoRA，采用其作者对 7B 和 13B 模型的设置（Dettmers 等 2023，arXiv:2305.14314，表 9）"),
    (
        "SwanLab, pip install 'medqa_finetune[swanlab]'; files below the run folder, SWANLAB_MODE=offline for no "
        "network"
    ): ("SwanLab，pip install 'medqa_finetune[swanlab]'；文件在运行文件夹下，无网络时设 SWANLAB_MODE=offline"),
    "Event files in the run folder, with a table of all runs in HPARAMS: tensorboard --logdir outputs": (
        "事件文件写入运行文件夹，HPARAMS 中有所有运行的对照表：tensorboard --logdir outputs"
    ),
    (
        "Every command takes lang=en|zh: the language of messages and help; the locale's (LC_ALL, LC_MESSAGES, "
        "LANG) if left out."
    ): ("所有命令都可加 lang=en|zh：消息和帮助的语言；不给则按系统区域设置（LC_ALL、LC_MESSAGES、LANG）。"),
    (
        "Writes tables (CSV, and for a paper LaTeX and Markdown), charts and a page (report.html) over all runs below "
        "a folder, and reports what more data and another method gain."
    ): (
        "为文件夹下的所有运行写出表格（CSV，以及供论文使用的 LaTeX 和 Markdown）、图和页面（report.html），并报告增加"
        "数据和更换方法的收益。"
    ),
    "takes a folder per variant, variants.csv and variants.png (svg, pdf); <run>/export if left out": (
        "存放每个变体的文件夹、variants.csv 和 variants.png（svg、pdf）；不给则为 <run>/export"
    ),
    "Learning rate and rank together, chosen by validation loss (pip install 'medqa-finetune[optuna]')": (
        "同时搜索学习率和秩，按验证损失选择（pip install 'medqa-finetune[optuna]'）"
    ),
    "The learning rate, chosen by validation loss (pip install 'medqa-finetune[optuna]')": (
        "搜索学习率，按验证损失选择（pip install 'medqa-finetune[optuna]'）"
    ),
    "The rank of the adapters, chosen by validation loss (pip install 'medqa-finetune[optuna]')": (
        "搜索适配器的秩，按验证损失选择（pip install 'medqa-finetune[optuna]'）"
    ),
}
