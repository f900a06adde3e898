"""Models, devices, methods, training."""

TEXTS = {
    # Files of a model
    "has {size} bytes, and by its header it must have {expected}": "有 {size} 字节，而按文件头应有 {expected} 字节",
    "Download it again.": "请重新下载。",
    "is cut short within its header of {length} bytes": "在 {length} 字节的文件头中间被截断",
    "its header is damaged": "文件头已损坏",
    "is not a safetensors file ({size} bytes)": "不是 safetensors 文件（{size} 字节）",
    "is not a safetensors index": "不是 safetensors 索引",
    "Download the model again.": "请重新下载模型。",
    "is missing, and only safetensors weights are loaded": "缺失，而这里只加载 safetensors 权重",
    "this file is missing ({missing} of {count})": "缺少这个文件（{count} 个中缺 {missing} 个）",
    "is a Git LFS pointer, not the weights": "是 Git LFS 指针，不是权重",
    "Run `git lfs pull` in its folder.": "请在其文件夹中运行 `git lfs pull`。",
    "is not JSON ({reason})": "不是 JSON（{reason}）",
    "not JSON ({reason})": "不是 JSON（{reason}）",
    "not a whole JSON file ({reason})": "不是完整的 JSON 文件（{reason}）",
    "model.safetensors is missing, and pickled weights ({others}) can run code and are not read": (
        "缺少 model.safetensors；pickle 权重（{others}）能执行代码，因此不读取"
    ),
    "`{command}` makes safetensors of them.": "`{command}` 可把它们转成 safetensors。",
    "there is no tokenizer": "没有分词器",
    "Add its tokenizer.json, or vocab.json with merges.txt.": "请补上 tokenizer.json，或 vocab.json 和 merges.txt。",
    "must be a JSON object": "必须是 JSON 对象",
    "has no config.json": "没有 config.json",
    "no such folder, and {repository} is not in the Hugging Face cache": (
        "没有这个文件夹，Hugging Face 缓存中也没有 {repository}"
    ),
    "Download it with `{command}` (or source=huggingface).": "请用 `{command}` 下载（或 source=huggingface）。",
    "Without a GPU or the weights, `{command}` runs everything on what ships with the package.": (
        "没有 GPU 或权重时，`{command}` 用软件包自带的内容跑完全部流程。"
    ),
    "Give a folder with config.json, safetensors weights and a tokenizer.": (
        "请给出含有 config.json、safetensors 权重和分词器的文件夹。"
    ),
    "To plan alone, config.json and the files of the tokenizer in that folder are enough.": (
        "如果只做规划，该文件夹中有 config.json 和分词器文件即可。"
    ),
    "no such model ships with the package": "软件包没有自带这个模型",
    "the model cannot be loaded ({reason})": "模型无法加载（{reason}）",
    "the tokenizer cannot be loaded ({reason})": "分词器无法加载（{reason}）",
    "is not set, and neither is eos_token": "未设置，eos_token 也未设置",
    "Set eos_token in tokenizer_config.json.": "请在 tokenizer_config.json 中设置 eos_token。",
    "the tokenizer has no chat template": "分词器没有对话模板",
    "Use an instruction-tuned (chat) model, or give model.chat_template.": (
        "请使用经过指令微调的（对话）模型，或给出 model.chat_template。"
    ),
    "the tokenizer has {tokens} tokens, and the model's embedding {rows} rows": (
        "分词器有 {tokens} 个词元，而模型的嵌入有 {rows} 行"
    ),
    "They do not belong together: fetch both from the same place.": "两者不配套：请从同一处下载。",
    "is missing, or of another shape than config.json says ({count} such weights in all)": (
        "缺失，或形状与 config.json 不符（共 {count} 个这样的权重）"
    ),
    "{name} has another size than config.json says, which this kind of model may not have": (
        "{name} 的大小与 config.json 不符，而这类模型不允许这样"
    ),
    "transformers cannot build this model by itself (code that comes with weights is never run)": (
        "transformers 无法自行构建这个模型（权重附带的代码绝不执行）"
    ),
    "transformers cannot build this model by itself ({reason})": "transformers 无法自行构建这个模型（{reason}）",
    "Use a causal language model that transformers knows.": "请使用 transformers 认识的因果语言模型。",
    "reads or returns other states than the {width} numbers of config.json's hidden_size": (
        "读取或返回的状态不是 config.json 中 hidden_size 的 {width} 个数"
    ),
    "{name} gives {given} numbers and {other} takes {taken}": "{name} 输出 {given} 个数，而 {other} 接收 {taken} 个",
    "{names} give {given} numbers": "{names} 输出 {given} 个数",
    "Its weights do not belong together: make or fetch the model again.": "其权重互不配套：请重新制作或下载模型。",
    "no weight of config.json's vocab_size rows is found; its cost cannot be planned": (
        "找不到行数为 config.json 中 vocab_size 的权重，无法规划其开销"
    ),
    # The device
    "needs a GPU, and none is visible": "需要 GPU，但没有可见的 GPU",
    "{device} has no bf16 in hardware": "{device} 的硬件不支持 bf16",
    "{name} cannot be used ({reason})": "{name} 无法使用（{reason}）",
    "To compute on the CPU on purpose, set CUDA_VISIBLE_DEVICES= (empty).": (
        "如果就是要用 CPU 计算，请设置 CUDA_VISIBLE_DEVICES=（空）。"
    ),
    "{shown}, and torch cannot use it: this torch ({version}) is built for the CPU alone": (
        "{shown}，但 torch 无法使用它：这个 torch（{version}）只为 CPU 编译"
    ),
    "names a GPU, and torch cannot use it: this torch ({version}) is built for the CPU alone": (
        "指定了 GPU，但 torch 无法使用它：这个 torch（{version}）只为 CPU 编译"
    ),
    "Install a torch that is built for CUDA.": "请安装支持 CUDA 的 torch。",
    "names a GPU, and torch cannot use it: {reason}": "指定了 GPU，但 torch 无法使用它：{reason}",
    "{shown}, and torch cannot use it: {reason}": "{shown}，但 torch 无法使用它：{reason}",
    "there is an NVIDIA GPU": "有一块 NVIDIA GPU",
    "nvidia-smi shows a GPU ({name})": "nvidia-smi 显示有 GPU（{name}）",
    "nvidia-smi is installed and does not answer ({reason})": "装有 nvidia-smi，但没有响应（{reason}）",
    "nvidia-smi is installed and fails ({reason})": "装有 nvidia-smi，但运行失败（{reason}）",
    "torch does not say why": "torch 没有说明原因",
    "{name} computes wrongly (ones times ones is not {wanted})": "{name} 计算有误（全一矩阵相乘不等于 {wanted}）",
    "computes wrongly on this {device} (weights err by {share} of the largest)": (
        "在这个 {device} 上计算有误（权重误差达最大值的 {share}）"
    ),
    "Install another bitsandbytes, or give method=lora.": "请换一个版本的 bitsandbytes，或给出 method=lora。",
    "does not work on this {device} ({reason})": "在这个 {device} 上不能工作（{reason}）",
    "Run `python -m bitsandbytes`, install the bitsandbytes that fits this torch, or give method=lora.": (
        "请运行 `python -m bitsandbytes`，安装与此 torch 配套的 bitsandbytes，或给出 method=lora。"
    ),
    "{kind} keeps no cache of keys and values, which answering needs": "{kind} 不保存键值缓存，而回答需要它",
    "{kind} keeps no cache of keys and values, and answering needs one": "{kind} 不保存键值缓存，而回答需要它",
    "Use another model.": "请换一个模型。",
    "transformers has no such optimizer": "transformers 没有这个优化器",
    # Methods and adapters
    "quantized weights cannot be trained, which method.trains=all asks for": (
        "量化权重不能训练，而 method.trains=all 要求训练它们"
    ),
    "needs method.trains=adapter, not all": "需要 method.trains=adapter，而不是 all",
    "is not possible with method.target_parameters, whose adapters change the weights themselves": (
        "不能与 method.target_parameters 同用：它的适配器直接改动权重"
    ),
    "must begin with {name}: LoRA+ (method.loraplus_ratio={ratio}) needs AdamW": (
        "必须以 {name} 开头：LoRA+（method.loraplus_ratio={ratio}）需要 AdamW"
    ),
    "in {precision} the adapter is not merged into the weights, and vLLM does not know DoRA adapters": (
        "在 {precision} 下适配器不并入权重，而 vLLM 不支持 DoRA 适配器"
    ),
    "in {precision} the adapter is not merged into the weights, and vLLM knows none on parameters": (
        "在 {precision} 下适配器不并入权重，而 vLLM 不支持参数上的适配器"
    ),
    "in {precision} the adapter is not merged, and vLLM serves none on token embeddings and heads": (
        "在 {precision} 下适配器不并入，而 vLLM 不支持词元嵌入和输出头上的适配器"
    ),
    "Give precision=fp32, or evaluate.backend=transformers.": (
        "请给出 precision=fp32，或 evaluate.backend=transformers。"
    ),
    "Give precision=fp32, or other modules; evaluate.backend=transformers answers with it.": (
        "请给出 precision=fp32，或换别的模块；evaluate.backend=transformers 可以用它回答。"
    ),
    "is not possible with PiSSA, whose saved form is an ordinary LoRA adapter": (
        "不能与 PiSSA 同用：它保存为普通的 LoRA 适配器"
    ),
    "is not possible with PiSSA, which changes the frozen weights": "不能与 PiSSA 同用：它会改动冻结的权重",
    "is not possible with PiSSA, which decomposes linear layers": "不能与 PiSSA 同用：它分解线性层",
    "PiSSA decomposes matrices of linear layers, and {name} is an embedding": (
        "PiSSA 分解线性层的矩阵，而 {name} 是嵌入"
    ),
    "Give method=lora, or other modules.": "请给出 method=lora，或换别的模块。",
    "{value}, which a package adds, is no method of this kind": "某个软件包添加的 {value} 不是这类方法",
    "It must be a subclass of ModelMethod or MethodWithoutModel whose `kind` is the entry point's name.": (
        "它必须是 ModelMethod 或 MethodWithoutModel 的子类，其 `kind` 为入口点的名称。"
    ),
    "If a package of its own defines it (entry point {group}), install that.": (
        "如果它由别的软件包定义（入口点 {group}），请安装该包。"
    ),
    "{value}, which a package adds, cannot be imported ({reason})": "某个软件包添加的 {value} 无法导入（{reason}）",
    "holds no settings of an adapter ({reason})": "不含适配器的设置（{reason}）",
    "no linear layer of this model is recognized as one": "在该模型中识别不出这样的线性层",
    "Give a list of names.": "请给出名称的列表。",
    "no module is called {name}": "没有名为 {name} 的模块",
    "no parameter is called {name}": "没有名为 {name} 的参数",
    "no block of this model is called {name}": "该模型没有名为 {name} 的块",
    "this model is no mixture of experts": "该模型不是混合专家模型",
    "no such kind of adapter is loaded": "不加载这种适配器",
    "peft cannot import a package that is installed ({reason})": "peft 无法导入一个已安装的软件包（{reason}）",
    "Repair or uninstall it (often bitsandbytes).": "请修复或卸载它（常见的是 bitsandbytes）。",
    "the adapter cannot be merged ({reason})": "适配器无法合并（{reason}）",
    (
        "peft takes {names} of {kind} for experts; they can have adapters as parameters alone, without dropout, "
        "DoRA, PiSSA and quantization"
    ): ("peft 把 {kind} 的 {names} 当作专家；它们只能有参数形式的适配器，不能用 dropout、DoRA、PiSSA 和量化"),
    "Give method.dropout=0, or method.target_modules=attention.": (
        "请给出 method.dropout=0，或 method.target_modules=attention。"
    ),
    "the installed peft does not know this setting": "已安装的 peft 不认识这个设置",
    "the adapter does not fit this base model ({reason})": "适配器与这个基座模型不匹配（{reason}）",
    "It was trained for another base model.": "它是为另一个基座模型训练的。",
    "the trained weights cannot be read ({reason})": "训练好的权重无法读取（{reason}）",
    "These weights were trained for another base model or with other settings.": (
        "这些权重是为另一个基座模型或用另外的设置训练的。"
    ),
    "is not of this model": "不属于这个模型",
    "must have the shape {shape}": "形状必须是 {shape}",
    "{kind} cannot be trained on packed pairs ({reason})": "{kind} 不能用拼接后的样本训练（{reason}）",
    "Give train.packing=false, which pads pairs of similar length instead.": (
        "请给出 train.packing=false，改为把长度相近的样本补齐。"
    ),
    "{name} overflows fp16 or is to compute in fp32, and 8-bit layers always compute in fp16": (
        "{name} 在 fp16 下溢出或要求用 fp32 计算，而 8 位层总以 fp16 计算"
    ),
    "Where there is a CUDA GPU, run pip install {package}.": "在有 CUDA GPU 的机器上，请运行 pip install {package}。",
    "Liger has no kernels for models of type {kind}": "Liger 没有 {kind} 类型模型的内核",
    "Give train.kernels=torch.": "请给出 train.kernels=torch。",
    "none of this model's adapters is a plain one on a linear layer": "该模型没有一个适配器是线性层上的普通适配器",
    # Training
    "{problem}; the checkpoint is unfinished or damaged": "{problem}；检查点未写完或已损坏",
    "the checkpoint belongs to another run": "检查点属于另一个运行",
    "the checkpoint is not of step {step}": "检查点不是第 {step} 步的",
    (
        "the weights are the same as before training: the gradients of {skipped} of {steps} steps were not finite "
        "in fp16"
    ): ("权重与训练前相同：{steps} 步中有 {skipped} 步的梯度在 fp16 下不是有限数"),
    "Give {remedy}.": "请给出 {remedy}。",
    "Give a higher train.learning_rate.": "请给出更高的 train.learning_rate。",
    "the training loss became {value} at step {step}; {left}": "训练损失在第 {step} 步变为 {value}；{left}",
    "the validation loss became {value} at step {step}; {left}": "验证损失在第 {step} 步变为 {value}；{left}",
    "the weights became {value} at step {step}; {left}": "权重在第 {step} 步变为 {value}；{left}",
    (
        "the gradients of the last {count} steps were not finite in fp16, so that these trained nothing ({total} "
        "of {step} in all); {left}"
    ): ("最近 {count} 步的梯度在 fp16 下不是有限数，等于没有训练（{step} 步中共 {total} 步）；{left}"),
    "something in the run called sys.exit({code}) before it was done": (
        "运行尚未完成，其中某处就调用了 sys.exit({code})"
    ),
}
