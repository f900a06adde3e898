"""What commands say in the terminal while they run, and what they log there."""

from medqa_finetune.languages.zh.stages import STAGES

TEXTS = {
    "computes with {chosen} threads: {usable} of {usual} cores are this run's (threads=)": (
        "使用 {chosen} 个线程：{usual} 个核心中有 {usable} 个归本次运行（threads=）"
    ),
    "computes with {chosen} threads, and may use {usable} cores: threads={fewer} is faster": (
        "使用 {chosen} 个线程，但只能用 {usable} 个核心：threads={fewer} 更快"
    ),
    "other programs keep about {others} of {cores} cores busy: threads={free} may be much faster than {chosen}": (
        "其他程序占用了 {cores} 个核心中的约 {others} 个：threads={free} 可能比 {chosen} 快得多"
    ),
    (
        "data.train_size={size} is {found} here, by data.scale={scale} of the profile; data.scale=1 takes sizes as "
        "they are typed"
    ): "data.train_size={size} 在这里是 {found}，因为 profile 设了 data.scale={scale}；data.scale=1 则按输入的大小",
    "error: {faults}": "错误：{faults}",
    "interrupted": "已中断",
    "{reason}; the same command resumes from here": "{reason}；再次运行同一命令即可从此处继续",
    "stopped by {signal}": "被 {signal} 停止",
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
    "trying again ({number} of {most})": "重试（第 {number} 次，最多 {most} 次）",
    "stopping 1 cell, which writes a checkpoint first; again to stop at once": (
        "正在停止 1 格，它会先写检查点；再按一次立即停止"
    ),
    "stopping {count} cells, each of which writes a checkpoint first; again to stop at once": (
        "正在停止 {count} 格，各格会先写检查点；再按一次立即停止"
    ),
    # The list of commands
    "command": "命令",
    "or": "或",
}
