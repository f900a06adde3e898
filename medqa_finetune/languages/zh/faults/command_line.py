"""The command line: flags, mistyped arguments, and what has no effect."""

TEXTS = {
    # Mistyped
    "must be key=value, without dashes": "应写成 key=value，前面不加横线",
    "must be one word, without spaces around = and commas": "等号和逗号前后不能有空格",
    "must not end with a comma": "末尾不能有逗号",
    "must have one comma between values": "值与值之间只用一个逗号",
    "must have plain commas": "请用半角逗号",
    "must be key=value with a plain =": "请用半角等号写成 key=value",
    "must begin with -, not with a dash": "应以半角减号 - 开头，而不是破折号",
    "several values are separated by commas": "多个值之间用逗号分隔",
    "a value with spaces must be quoted": "含空格的值要加引号",
    "the command is typed twice": "命令写了两次",
    "a command is a module": "每个命令是一个模块",
    "there is no such flag": "没有这个参数",
    "Did you mean with -m (--multirun) {command}?": "是否想用 -m（--multirun）：{command}？",
    "See {command}.": "参见 {command}。",
    "Give it a value: {key}=VALUE.": "请给出取值：{key}=值。",
    'One text with commas has quotes of its own: "{key}".': '若逗号属于文本，文本自身要加引号："{key}"。',
    "Give -m (--multirun) to run one per value.": "加 -m（--multirun），每个值各运行一次。",
    # Flags
    "takes no value": "不带取值",
    "Type {flag}.": "请只写 {flag}。",
    "must be followed by {what}": "后面应跟 {what}",
    "excludes {flag}": "不能与 {flag} 同时使用",
    "is for --cfg": "只与 --cfg 一起使用",
    "Give --cfg job as well.": "请同时给出 --cfg job。",
    "is not supported: it reads a pickled file, which can run code": "不支持：它会读取 pickle 文件，而后者可以执行代码",
    "The same command again continues a run; its record holds the command.": (
        "再次运行同一命令即可继续；命令保存在该运行的记录中。"
    ),
    "Type {command} {flag} … for the settings of the training.": "要看训练的设置，请输入 {command} {flag} …。",
    # Downloads
    "Download it with {command}.": "请用 {command} 下载。",
    "The same command continues where it stopped.": "再次运行同一命令即从断点继续。",
    "Try the other hub: {option}=huggingface.": "请试另一个网站：{option}=huggingface。",
    "HF_HUB_OFFLINE forbids the network: unset HF_HUB_OFFLINE.": (
        "HF_HUB_OFFLINE 禁止联网：请运行 unset HF_HUB_OFFLINE。"
    ),
    "HF_ENDPOINT names another address: unset HF_ENDPOINT, or give {option}.": (
        "HF_ENDPOINT 指向另一个地址：请运行 unset HF_ENDPOINT，或给出 {option}。"
    ),
    "Where it is blocked, export {mirror}, or give {option}.": "若无法访问，请 export {mirror}，或给出 {option}。",
    "Or put the files into that folder by hand.": "也可手动把文件放入该文件夹。",
    "Look at the data set's files and give corpus.files=[…].": "请查看该数据集的文件，并给出 corpus.files=[…]。",
    "nothing is named": "没有指明要下载什么",
    "Give model=NAME or corpus=NAME; see --help.": "请给出 model=名称 或 corpus=名称；见 --help。",
    "Download one after the other.": "请逐个下载。",
    # Without effect
    "has no effect here": "在这里不起作用",
    "has no effect with {setting}": "在 {setting} 下不起作用",
    "Runs are in outputs/STUDY/RUN: give outputs=DIR or study=NAME.": (
        "运行保存在 outputs/研究/运行 中：请给出 outputs=目录 或 study=名称。"
    ),
    "Paths are relative to the folder where the command is typed.": "路径相对于输入命令时所在的文件夹。",
    "A run's config.yaml has its settings.": "运行的设置保存在其 config.yaml 中。",
    "Give study=NAME.": "请给出 study=名称。",
    "is one choice; several would be merged into one run": "只能选一个；几个会被合并成一次运行",
    "a group has one place in the settings": "每组在设置中只有一个位置",
    "the key exists": "该设置项已存在",
    "a setting cannot be deleted: its default would take its place": "设置不能删除：默认值会取而代之",
    "cannot be deleted": "不能删除",
    "For no tracker, give tracker=none.": "不需要实验跟踪时，请给出 tracker=none。",
    "For no tracker, choose none.": "不需要实验跟踪时，请选 none。",
    "Give {group}=null, or leave it out.": "请给出 {group}=null，或去掉它。",
    "Choose another one: {group}=NAME.": "请另选一个：{group}=名称。",
    "Choose one.": "请选一个。",
    "Give {key}=VALUE, or leave it out.": "请给出 {key}=值，或去掉它。",
    "is one for the whole matrix": "整个矩阵只有一个",
    "Give one value.": "请给出一个值。",
    "is for a matrix": "只用于矩阵",
    "Leave it out, or give -m as well.": "请去掉它，或同时给出 -m。",
    "is set by a choice that differs between cells, and is one for the whole matrix": (
        "由各单元不同的选项设定，而整个矩阵只有一个"
    ),
    "Give {setting} on the command line.": "请在命令行给出 {setting}。",
    "cannot be chosen in this file": "不能在这个文件中选择",
    "a group cannot be left without a choice": "该组必须有所选择",
    "there is no such group inside this one": "该组内没有这个组",
    "Write override /{group}: {choice}.": "请写 override /{group}: {choice}。",
    "the first line of the file is missing, which makes its keys those of an experiment": (
        "缺少文件的第一行，有了它文件里的设置项才属于实验"
    ),
    "Begin it with {line}.": "请以 {line} 开头。",
}
