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
    "is no flag of this command": "不是本命令的参数",
    "It is for {command} and {other}; leave it out.": "它用于 {command} 和 {other}；请去掉。",
    "What it would take says {command}.": "所需时间与资源请看 {command}。",
    "is not needed": "不需要",
    "must be two words": "应写成两个词",
    "no such configuration file": "没有这个配置文件",
    "Give the folder with the file as well: --config-dir DIR.": "请同时给出该文件所在的文件夹：--config-dir DIR。",
    "Give a folder that has a folder for every group of your own, such as my_conf/method/mine.yaml.": (
        "请给出一个文件夹，其中每个自定义的组各有一个子文件夹，例如 my_conf/method/mine.yaml。"
    ),
    "Give the folder of your config.yaml; groups of your own alone: --config-dir DIR.": (
        "请给出您的 config.yaml 所在的文件夹；只有自定义的组时用 --config-dir DIR。"
    ),
    "must be followed by what to do": "后面应跟要做的事",
    "Type {command}.": "请输入 {command}。",
    "there is no such part of the settings": "设置中没有这一部分",
    "It is in --cfg hydra.": "它在 --cfg hydra 中。",
    "Give a section: train.": "请给出一个部分，例如 train。",
    "cannot be changed": "不能更改",
    "Choose by name: hydra/launcher=NAME, hydra/sweeper=NAME.": (
        "请按名称选择：hydra/launcher=名称，hydra/sweeper=名称。"
    ),
    "{plugin} has no such setting": "{plugin} 没有这个设置",
    "hydra.launcher.max_parallel=N is how many cells run at a time.": (
        "同时运行的单元数由 hydra.launcher.max_parallel=N 决定。"
    ),
    "It is for tuning: give {group}=NAME as well, one of {names}.": (
        "它用于调参：请同时给出 {group}=名称，可选 {names}。"
    ),
    "It is for {choice}; leave it out, or give that.": "它属于 {choice}；请去掉，或选用后者。",
    "its files have changed since the matrix was checked": "矩阵检查之后，其文件有改动",
    "Put the files back and type the command again, or begin anew: study=NAME.": (
        "请恢复文件后再次运行同一命令，或用 study=名称 重新开始。"
    ),
    "the study in {path} has another value, and losses of the two do not compare": (
        "{path} 中的调参用的是另一个值，两者的损失不可比较"
    ),
    "Put the files back, or begin another study: study=NAME.": "请恢复文件，或用 study=名称 另起一次。",
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
    "HF_ENDPOINT={address} names what does not answer.": "HF_ENDPOINT={address} 没有响应。",
    "What helps, in this order: {ways}.": "请依次尝试：{ways}。",
    "Or copy the model's files from another machine into {folder}.": "或从其他机器把模型文件复制到 {folder}。",
    "Where it is blocked, export {mirror}, or give {option}.": "若无法访问，请 export {mirror}，或给出 {option}。",
    "Or put the files into that folder by hand.": "也可手动把文件放入该文件夹。",
    "Look at the data set's files and give corpus.files=[…].": "请查看该数据集的文件，并给出 corpus.files=[…]。",
    "nothing is named": "没有指明要下载什么",
    "Give model=NAME or corpus=NAME; see --help.": "请给出 model=名称 或 corpus=名称；见 --help。",
    "Download one after the other.": "请逐个下载。",
    # Data
    "Write this line into it: {line}.": "请在其中写入一行：{line}。",
    "The first row is read as names of columns; if it is an example, put this line before it: {line}.": (
        "第一行被当作列名；如果它是一条样本，请在它前面加一行：{line}。"
    ),
    "Give {sizes}, and data.scale=1 where a profile scales them.": (
        "请给出 {sizes}；若配置档会缩放，再给出 data.scale=1。"
    ),
    "Or give another corpus, or {setting}, which tells examples apart by everything before the answer.": (
        "或换一个语料，或给出 {setting}，按回答之前的全部内容区分样本。"
    ),
    "Ask for {available} or less: {size} (before data.scale=), data=all for all of them, or {other}.": (
        "请要求不多于 {available}：{size}（data.scale= 之前），或用 data=all 使用全部，或 {other}。"
    ),
    "Give it to `python -m medqa_finetune.plan`.": "请把它交给 `python -m medqa_finetune.plan`。",
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
    "finds nothing": "没有匹配到任何值",
    "must be one name": "必须是一个名称",
    "must begin below its end": "起点必须小于终点",
    "must begin above 0 on a logarithmic scale": "对数尺度的起点必须大于 0",
    "Begin above 0, or leave out log.": "请让起点大于 0，或去掉 log。",
    "proposes cells while they run, and cannot be planned": "边运行边提出单元，无法预先计划",
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
    # Configurations given back
    "{path} is not read: the package's own {name} has the same name": "{path} 不会被读取：软件包自带的 {name} 与它同名",
    "Rename it, and give --config-name with the new name.": "请改名，再用 --config-name 指定新名字。",
    "has no effect: {path} gives every setting": "不起作用：{path} 已给出全部设置",
    "Give single settings, or leave the file out.": "请只写单个设置，或不用该文件。",
    # Sweeps that choose by validation loss
    "a trial returns its validation loss, the lower the better": "每次试验返回验证损失，越低越好",
    "trains nothing, and trials are chosen by their validation loss": "不训练任何权重，而试验按验证损失选优",
    "cannot be chosen by validation loss, on which it has no effect with method={method}": (
        "不能按验证损失选择：使用 method={method} 时它不影响验证损失"
    ),
    "cannot be chosen by validation loss: losses of two values do not compare": (
        "不能按验证损失选择：不同取值的损失不可比"
    ),
    "cannot be chosen by validation loss with {samples}=auto, which gives trials other examples": (
        "使用 {samples}=auto 时不能按验证损失选择：各次试验的验证样本会不同"
    ),
    "Give {samples}=200.": "请设置 {samples}=200。",
    "no setting is swept": "没有要搜索的设置",
    "Run `pip install 'medqa-finetune[optuna]'`, or sweep over single values: key=1,2,3.": (
        "请运行 `pip install 'medqa-finetune[optuna]'`，或逐一列出取值：key=1,2,3。"
    ),
    "optuna {version} is too old": "optuna {version} 版本过旧",
    "is not a study ({error})": "不是试验记录（{error}）",
    "Move it away to begin anew; trials that are done are not repeated.": "移走它即可重新开始；已完成的试验不会重复。",
    "none of {count} trials is done": "{count} 次试验都没有完成",
    "must be a key with values to sweep over": "应为设置项及其要遍历的取值",
    "Type the sweep itself: -m {sweep}": "请直接写要遍历的取值：-m {sweep}",
}
