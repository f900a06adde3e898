"""What commands say in the terminal while they run, in Chinese."""

TEXTS = {
    "error: {faults}": "错误：{faults}",
    "interrupted": "已中断",
    "{reason}; the same command resumes from here": "{reason}；再次运行同一命令即可从此处继续",
}
