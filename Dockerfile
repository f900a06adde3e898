# docker build -t medqa .                                                   CPU
# docker build -t medqa --build-arg TORCH_INDEX= .                          NVIDIA: torch's wheels bring CUDA with them
# docker run --rm -v "$PWD/outputs:/work/outputs" medqa medqa-train -m profile=demo
# With GPUs: docker run --gpus all --ipc=host …
FROM python:3.11-slim AS base
RUN useradd --create-home medqa && mkdir /work && chown medqa /work
# A compiler, which Triton needs where CUDA is, and a font for Chinese pictures.
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev fonts-noto-cjk \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/medqa/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/medqa && chown -R medqa /opt/medqa
# Torch without CUDA, a fifth of the size; the lock names its version.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/constraints.txt
USER medqa
RUN if [ -n "$TORCH_INDEX" ]; then pip install -q torch -c /tmp/constraints.txt --index-url "$TORCH_INDEX"; fi

FROM base AS development
COPY --chown=medqa . /source
RUN pip install -q -e '/source[dev]' -c /tmp/constraints.txt
WORKDIR /source

FROM base AS run
COPY --chown=medqa . /source
RUN pip install -q /source -c /tmp/constraints.txt
WORKDIR /work
CMD ["medqa-train", "--help"]
