"""Corpora: files, hubs, columns, parts, chat templates."""

TEXTS = {
    "Cells of {table} were separated by {delimiter}; corpus.delimiter= sets it.": (
        "{table} 的单元格以 {delimiter} 分隔；可用 corpus.delimiter= 指定。"
    ),
    # Files and encodings
    "the {name} part is a single token": "{name} 部分只有一个词元",
    "Give a corpus with more text.": "请给出文本更多的语料。",
    (
        "is more, after scaling, than the {count} training block(s) of train.max_length={length} tokens that the "
        "text makes"
    ): ("缩放后多于文本能切出的 {count} 个训练块（train.max_length={length} 个词元）"),
    (
        "is more, after scaling, than the {count} training blocks of train.max_length={length} tokens that the "
        "text makes"
    ): ("缩放后多于文本能切出的 {count} 个训练块（train.max_length={length} 个词元）"),
    (
        "is more, after scaling, than the {count} training block of train.max_length={length} tokens that the text "
        "makes"
    ): ("缩放后多于文本能切出的 {count} 个训练块（train.max_length={length} 个词元）"),
    "Ask for {most} or less with a smaller data.train_size= or data.scale=, or for all of them with data=all.": (
        "请用更小的 data.train_size= 或 data.scale= 取 {most} 以内，或用 data=all 取全部。"
    ),
    "byte {position} is not {encoding}, though the text before it is: the file is damaged or mixed there": (
        "第 {position} 字节不是 {encoding}，而之前的文本是：文件在此处损坏或混有别的编码"
    ),
    "Repair that line.": "请修复那一行。",
    "cannot be read: {reason}": "无法读取：{reason}",
    "Fetch or copy the file again.": "请重新下载或复制该文件。",
    "Fetch or export the file again.": "请重新下载或导出该文件。",
    "Fetch or export it again.": "请重新下载或导出。",
    "the compressed data is cut short": "压缩数据不完整",
    "over {count} characters without a line end": "超过 {count} 个字符没有换行",
    "Check that it is a text file.": "请确认它是文本文件。",
    "not a text encoding that Python knows": "不是 Python 认识的文本编码",
    "Give corpus.encoding=utf-8, gb18030 or utf-16.": "请给出 corpus.encoding=utf-8、gb18030 或 utf-16。",
    "byte {position} is not {encoding}": "第 {position} 字节不是 {encoding}",
    "Give corpus.encoding={encoding}.": "请给出 corpus.encoding={encoding}。",
    "the text is not {encoding} but, by its bytes, {guess}": "文本不是 {encoding}，从字节看是 {guess}",
    "the text is not {encoding}: {reason}": "文本不是 {encoding}：{reason}",
    "is not UTF-8 (byte {byte})": "不是 UTF-8（第 {byte} 字节）",
    "Save it as UTF-8.": "请另存为 UTF-8。",
    "no row has such a column (the first 20 of {count} columns follow)": (
        "没有任何行有这一列（共 {count} 列，下列前 20 列）"
    ),
    "no row has such a column": "没有任何行有这一列",
    "must be the name of a column": "必须是一个列名",
    "groups questions, and corpus.task=text has none": "用于给问题分组，而 corpus.task=text 没有问题",
    "no row has any column": "没有任何行有列",
    "Give {key}={name}.": "请给出 {key}={name}。",
    "Give {key}=COLUMN.": "请给出 {key}=列名。",
    "has no effect, since no row holds a list of messages": "不起作用：没有任何行含有消息列表",
    "Name the column of messages by corpus.messages=COLUMN, or leave it out.": (
        "请用 corpus.messages=列名 指出消息所在的列，或去掉它。"
    ),
    "the file is empty": "文件为空",
    "none of {rows} rows gives an example{reasons}": "{rows} 行中没有一行能得到样本{reasons}",
    "none of {rows} rows gives an example": "{rows} 行中没有一行能得到样本",
    "Check corpus.question and corpus.answer.": "请检查 corpus.question 和 corpus.answer。",
    "it has no rows": "没有任何行",
    "Give a file with one example a row.": "请给出每行一个样本的文件。",
    "must be one of the sources": "必须是允许的来源之一",
    "corpus={corpus} is running text, without examples": "corpus={corpus} 是连续文本，没有样本",
    "Give another corpus.": "请换一个语料。",
    "the header names a column twice": "表头中有重名的列",
    "Name each column once.": "每个列名只能出现一次。",
    "{problem}: a quote that opens here is never closed": "{problem}：此处开始的引号没有闭合",
    "Close that quote.": "请闭合该引号。",
    "example {id} holds a control token of this model: {content}": "样本 {id} 含有该模型的控制词元：{content}",
    "Remove it from the data.": "请从数据中删除它。",
    "must be an integer ≥ {least}: the chat template alone takes {overhead} tokens": (
        "必须是 ≥ {least} 的整数：仅对话模板就占 {overhead} 个词元"
    ),
    "Give train.max_length={least} or more.": "请给出 train.max_length={least} 或更大。",
    "the chat template cannot be trained on: {what} ({shown})": "该对话模板无法用于训练：{what}（{shown}）",
    "Give a template of your own with model.chat_template=FILE.jinja.": (
        "请用 model.chat_template=文件.jinja 给出自己的模板。"
    ),
    # Hubs
    "cannot be fetched from {hub}: {reason}": "无法从 {hub} 下载：{reason}",
    "Run `{command}` where there is a network (it continues where it stopped), or put the files there by hand.": (
        "请在有网络的地方运行 `{command}`（会从断点继续），或手动放入这些文件。"
    ),
    "{repository} at revision {revision} has no such file": "{repository} 的 {revision} 版本中没有这个文件",
    "Look at the data set's files and give corpus.files=[…], then run `{command}`.": (
        "请查看数据集的文件并给出 corpus.files=[…]，再运行 `{command}`。"
    ),
    "is empty": "为空",
    "Name the files of {repository} to read ({formats}).": "请指出要读取 {repository} 的哪些文件（{formats}）。",
    "only data files are read, never scripts or pickles": "只读取数据文件，绝不读取脚本或 pickle",
    "must be one of the hubs": "必须是允许的平台之一",
    "the library that fetches {repository} is not installed": "未安装用于下载 {repository} 的库",
    "its library is not installed": "未安装它的库",
    "{name} is not installed": "未安装 {name}",
    "cannot be fetched from {source}: {kind}: {reason}": "无法从 {source} 下载：{kind}：{reason}",
    "The same command continues where it stopped; source=huggingface tries the other hub.": (
        "同一命令会从断点继续；source=huggingface 可换另一个平台。"
    ),
    "The same command continues where it stopped; source=modelscope tries the other hub.": (
        "同一命令会从断点继续；source=modelscope 可换另一个平台。"
    ),
    "must be owner/name": "必须是 所有者/名称",
    "Give owner/name, e.g. {example}.": "请给出 所有者/名称，例如 {example}。",
    "there is nothing to download: the model is at {path}": "无需下载：模型就在 {path}",
    # JSON and CSV
    "is neither a list nor an object of rows": "既不是行的列表，也不是行的对象",
    (
        "Give corpus.rows=NAME, the member that holds the rows (data, result.items), or corpus.rows=. for an "
        "object whose values are the rows."
    ): (
        "请给出 corpus.rows=名称，即存放各行的成员（data、result.items）；如果对象的各个值就是行，请给 corpus.rows=.。"
    ),
    "is one JSON object, with rows in several places": "是一个 JSON 对象，其中多处含有行",
    "is one JSON object, and no rows are found in it": "是一个 JSON 对象，其中找不到行",
    "the JSON object has no such member": "JSON 对象没有这个成员",
    "a quote or bracket that opens here is never closed; the rows after it would be lost": (
        "此处开始的引号或括号没有闭合，其后的行会丢失"
    ),
    "Repair the file there, or write it as JSON Lines.": "请修复该处，或改写为 JSON Lines。",
    "a } without its {": "} 缺少对应的 {",
    "{mark} outside the array; the file must be one array of objects": "数组之外有 {mark}；文件必须是一个对象数组",
    "{rest} after the array's end; the file must be one array of objects": (
        "数组结束之后还有 {rest}；文件必须是一个对象数组"
    ),
    "one JSON object over several lines": "一个 JSON 对象占了多行",
    "Write the file as JSON Lines, or as an array of objects.": "请把文件写成 JSON Lines，或对象数组。",
    "a row of over {count} characters; a quote or bracket may be missing": (
        "一行超过 {count} 个字符；可能缺少引号或括号"
    ),
    "allows {most} unusable rows, and {broken} of {rows} rows cannot be used ({listed}); first: {examples}": (
        "允许 {most} 行不可用，而 {rows} 行中有 {broken} 行不可用（{listed}）；最前面的：{examples}"
    ),
    # Chat templates
    "the chat template changes a content, so that its place is not known: {content} in {text}": (
        "对话模板改动了内容，因而无法确定其位置：{text} 中的 {content}"
    ),
    "the chat template leaves out the system prompt": "对话模板漏掉了系统提示",
    "the chat template leaves out the {kind} of turn {turn}": "对话模板漏掉了第 {turn} 轮的 {kind}",
    "the chat template shows the system prompt {times} times": "对话模板把系统提示写了 {times} 次",
    "the chat template shows the {kind} of turn {turn} {times} times": (
        "对话模板把第 {turn} 轮的 {kind} 写了 {times} 次"
    ),
    "Leave the system prompts out with corpus.system=null, or use a template that takes them.": (
        "请用 corpus.system=null 去掉系统提示，或换一个接受系统提示的模板。"
    ),
    "Use corpora of single questions.": "请使用单轮问答的语料。",
    "the chat template shows no date": "对话模板不显示日期",
    "Leave model.date=null.": "请保持 model.date=null。",
    "the chat template fails on a question with {parts} ({reason})": "对话模板处理带有{parts}的问题时出错（{reason}）",
    "the chat template fails on a question and an answer ({reason})": "对话模板处理一问一答时出错（{reason}）",
    "the chat template ends an answer without a special token: the model could not learn to stop": (
        "对话模板的回答不以特殊词元结束：模型学不会停止"
    ),
    "the tokenizer has several chat templates ({names}), and none is called default": (
        "分词器有多个对话模板（{names}），但没有一个叫 default"
    ),
    "the chat template has marks of its own for thoughts ({marks}), but shows none": (
        "对话模板有自己的思考标记（{marks}），却没有用上"
    ),
    "Give model.thinking=off, or a newer template of the model by model.chat_template=FILE.": (
        "请给 model.thinking=off，或用 model.chat_template=文件 给出该模型更新的模板。"
    ),
    # Files of the user's own
    "no data file matches the pattern (working folder: {folder}); it matches {names}, of no known format": (
        "没有数据文件匹配该通配符（当前目录：{folder}）；匹配到的是 {names}，格式未知"
    ),
    "no data file matches the pattern (working folder: {folder})": "没有数据文件匹配该通配符（当前目录：{folder}）",
    "Quote the pattern in a shell, and use ** for folders of any depth.": (
        "在 shell 中请给通配符加引号；任意层级的文件夹用 **。"
    ),
    "no such file or folder (working folder: {folder})": "没有这个文件或文件夹（当前目录：{folder}）",
    "no such file or folder": "没有这个文件或文件夹",
    "the folder has no {suffixes} file": "文件夹中没有 {suffixes} 文件",
    "Give a file, or a folder with such a file.": "请给出文件，或含有这种文件的文件夹。",
    "not a regular file (working folder: {folder})": "不是普通文件（当前目录：{folder}）",
    "is not a pattern of paths ({reason})": "不是路径通配符（{reason}）",
    "needs files of a training part and of a validation or test part; found: {found}": (
        "需要训练部分以及验证或测试部分的文件；找到的是：{found}"
    ),
    "Give a folder with files named train and test, or leave corpus.parts out.": (
        "请给出含有名为 train 和 test 的文件的文件夹，或去掉 corpus.parts。"
    ),
    "has files named after parts, which are kept, and others whose part is unclear: {without}; named are {named}": (
        "有些文件以各部分命名（予以保留），另一些看不出属于哪部分：{without}；已命名的是 {named}"
    ),
    (
        "Name every file train, validation or test, give a pattern without the others (corpus.path='DIR/t*'), or "
        "give corpus.parts=ignore, which puts all together and divides them anew."
    ): (
        "请把每个文件命名为 train、validation 或 test，或用不含其他文件的通配符（corpus.path='目录/t*'），或给出 "
        "corpus.parts=ignore（合并后重新划分）。"
    ),
    "stands between the cells of CSV files, and the file is read as {format}": (
        "是 CSV 文件单元格之间的分隔符，而该文件按 {format} 读取"
    ),
    "Leave it out, or give corpus.format=csv.": "请去掉它，或给出 corpus.format=csv。",
    "is a member of a JSON object, and the file has a row on each line": "是 JSON 对象的成员，而该文件每行一条",
    "is a member of a JSON object, and the file is one list": "是 JSON 对象的成员，而该文件是一个列表",
    "cannot be read as Arrow: {reason}": "无法按 Arrow 读取：{reason}",
    "cannot be read as Parquet: {reason}": "无法按 Parquet 读取：{reason}",
    "not a known format; by name, a file must end in {suffixes} (.gz or .zst after it)": (
        "格式未知；文件名必须以 {suffixes} 结尾（后面可加 .gz 或 .zst）"
    ),
    "Save it as CSV UTF-8, or as Unicode text.": "请另存为 CSV UTF-8 或 Unicode 文本。",
    "Give corpus.format=FORMAT.": "请给出 corpus.format=格式。",
    # Division into parts
    "has no effect, since no example has a system prompt": "不起作用：没有任何样本带系统提示",
    "Name the column of system prompts by corpus.system=COLUMN, or leave it out.": (
        "请用 corpus.system=列名 指出系统提示所在的列，或去掉它。"
    ),
    (
        "is more, after scaling, than the {available} training examples that the corpus leaves (of {rows} rows; "
        "left out: {left_out})"
    ): ("缩放后多于语料剩下的 {available} 个训练样本（共 {rows} 行；剔除：{left_out}）"),
    "is more, after scaling, than the {available} training examples that the corpus leaves (of {rows} rows)": (
        "缩放后多于语料剩下的 {available} 个训练样本（共 {rows} 行）"
    ),
    "the prepared data is damaged: {what}": "预处理好的数据已损坏：{what}",
    "It is prepared again.": "将重新预处理。",
    "prepared data cannot be kept here: {reason}": "预处理好的数据无法保存在这里：{reason}",
    "Give another folder with outputs=DIR (--cache in scripts).": (
        "请用 outputs=目录 换一个文件夹（脚本中用 --cache）。"
    ),
    "no row of the {part} part gives an example ({reasons})": "{part} 部分没有一行能得到样本（{reasons}）",
    "Repair it, take it away, or give corpus.parts=ignore, which divides everything anew.": (
        "请修复或移走它，或给出 corpus.parts=ignore（全部重新划分）。"
    ),
    (
        "after scaling, {size} questions are held out from the training part, since no file is named {name}; of "
        "its {questions} questions {left} are left, and some must be left to train on"
    ): (
        "没有名为 {name} 的文件，缩放后要从训练部分留出 {size} 题；其 {questions} 题中还剩 {left} 题，必须留一些用于"
        "训练"
    ),
    "Give a smaller data.test_size=, a smaller data.scale=, or a file named test.": (
        "请给更小的 data.test_size= 或 data.scale=，或提供名为 test 的文件。"
    ),
    "Give a smaller data.validation_size=, a smaller data.scale=, or a file named validation.": (
        "请给更小的 data.validation_size= 或 data.scale=，或提供名为 validation 的文件。"
    ),
    (
        "each of the {count} questions of the {name} part is a common opening alone (corpus.identified_by) or is "
        "in the test part too, or nearly repeats one there"
    ): ("{name} 部分的 {count} 题要么只是常见的开头（corpus.identified_by），要么也在测试部分，或与其中某题几乎相同"),
    (
        "Take the {name} files away, so that {held} questions are held out from the training part, or give "
        "corpus.parts=ignore, which divides everything anew."
    ): ("请移走 {name} 文件，改从训练部分留出 {held} 题；或给出 corpus.parts=ignore（全部重新划分）。"),
    (
        "with data.validation_size={size} (both scaled) {held_out} questions are held out, but the corpus has "
        "{questions} distinct questions, and some must be left to train on; examples with the same first question "
        "count as one, unless many begin alike (corpus.identified_by)"
    ): (
        "加上 data.validation_size={size}（均已缩放）共留出 {held_out} 题，而语料只有 {questions} 个不同的问题，必须"
        "留一些用于训练；首问相同的样本算一个，除非许多样本开头都相同（corpus.identified_by）"
    ),
    (
        "with data.validation_size={size} (both scaled) {held_out} questions are held out, but the corpus has "
        "{questions} distinct questions, and some must be left to train on"
    ): (
        "加上 data.validation_size={size}（均已缩放）共留出 {held_out} 题，而语料只有 {questions} 个不同的问题，必须"
        "留一些用于训练"
    ),
    (
        "Give smaller data.test_size= and data.validation_size=, a smaller data.scale=, another corpus, or "
        "corpus.identified_by=prompt, which tells examples apart by everything before the answer."
    ): (
        "请给更小的 data.test_size=、data.validation_size= 或 data.scale=，或换一个语料，或给出 "
        "corpus.identified_by=prompt（按回答之前的全部内容区分样本）。"
    ),
    "Give smaller data.test_size= and data.validation_size=, a smaller data.scale=, or another corpus.": (
        "请给更小的 data.test_size=、data.validation_size= 或 data.scale=，或换一个语料。"
    ),
    (
        "is more, after scaling, than the {count} questions that are near no test question "
        "(data.near_duplicate_threshold={threshold})"
    ): ("缩放后多于与测试题都不相近的 {count} 题（data.near_duplicate_threshold={threshold}）"),
    "Give a smaller data.validation_size= or data.test_size=, or another corpus.": (
        "请给更小的 data.validation_size= 或 data.test_size=，或换一个语料。"
    ),
    # Running text
    (
        "with data.validation_size={size} (both scaled) {held_out} rows are held out, but the text has {counted}, "
        "and some must be left to train on"
    ): ("加上 data.validation_size={size}（均已缩放）共留出 {held_out} 行，而文本只有 {counted}，必须留一些用于训练"),
    "In plain text a row ends at an empty line; corpus.by_line=true takes every line for one.": (
        "纯文本中以空行分行；corpus.by_line=true 则每行算一条。"
    ),
    (
        "Give smaller data.test_size= and data.validation_size=, or a folder with files named train, validation "
        "and test."
    ): ("请给更小的 data.test_size= 和 data.validation_size=，或给出含有名为 train、validation、test 的文件的文件夹。"),
    "Give a file of text, or one with a column of it.": "请给出文本文件，或含有文本列的文件。",
    "the {part} part has no text": "{part} 部分没有文本",
    "Repair it, or give a single file, which is divided by rows.": "请修复它，或给出单个文件（按行划分）。",
    "needs files of all three parts, and no name of a file says its part": (
        "需要三个部分的文件，而没有文件名表明属于哪部分"
    ),
    "Give a folder with files named train, validation and test, or leave corpus.parts out.": (
        "请给出含有名为 train、validation、test 的文件的文件夹，或去掉 corpus.parts。"
    ),
    "no file is named test; found: {there}": "没有名为 test 的文件；找到的是：{there}",
    "Name one so, or give a single file.": "请这样命名一个，或给出单个文件。",
    "the files must be named train, validation and test, all three, or none of them so; found: {there}": (
        "文件必须三个都命名为 train、validation、test，或一个都不这样命名；找到的是：{there}"
    ),
    "Name them so, or give a single file or corpus.parts=ignore, which divide by rows.": (
        "请这样命名，或给出单个文件或 corpus.parts=ignore（按行划分）。"
    ),
    "cannot be written: {reason}": "无法写入：{reason}",
    "Give another folder.": "请换一个文件夹。",
    "no such file": "没有这个文件",
    "the set has {count} examples": "该集合有 {count} 个样本",
    (
        "Or give another corpus, or corpus.identified_by=prompt, which tells examples apart by everything before the "
        "answer."
    ): ("或换一个语料，或给出 corpus.identified_by=prompt（按回答之前的全部内容区分样本）。"),
    "Or give another corpus.": "或换一个语料。",
    "Give data.test_size={test} data.validation_size={validation}, and data.scale=1 where a profile scales them.": (
        "请给出 data.test_size={test} data.validation_size={validation}；若 profile 会缩放，再加 data.scale=1。"
    ),
}
