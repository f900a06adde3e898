"""What commands say in the terminal while they run, and what they log there."""

TEXTS = {
    "error: {faults}": "错误：{faults}",
    "interrupted": "已中断",
    "{reason}; the same command resumes from here": "{reason}；再次运行同一命令即可从此处继续",
    "stopped by {signal}": "被 {signal} 停止",
    "warning: untested versions: {each}. Install the tested ones: {command} ({silence} silences this.)": (
        "警告：未经测试的版本：{each}。安装测试过的版本：{command}（{silence} 可关闭此提示。）"
    ),
    "{package} {installed} (tested: {lowest} to {highest})": "{package} {installed}（测试过：{lowest} 至 {highest}）",
    "{package} {installed} (tested: up to {highest})": "{package} {installed}（测试过：至 {highest}）",
}
