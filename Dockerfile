# On a CPU:    docker build -t embedft .
# On GPUs:     docker build -t embedft:cuda --build-arg BASE=nvidia/cuda:13.0.1-base-ubuntu24.04 --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
# With MiniLM: --build-arg EXTRAS=search,offline
# Use:         docker run --rm -v "$PWD:/work" --user "$(id -u):$(id -g)" embedft fit --config recommended --input_jsonl pairs.jsonl --output_dir out
#              (--gpus all on GPUs, and --shm-size 2g)
ARG BASE=python:3.11-slim
FROM ${BASE}

# The CUDA images have no Python; the Python images skip this step.
RUN command -v python3 >/dev/null \
    || (apt-get update && apt-get install -y --no-install-recommends python3 python3-venv \
        && rm -rf /var/lib/apt/lists/*)
RUN python3 -m venv /opt/embedft
ENV PATH=/opt/embedft/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# PyTorch first, in a layer of its own, so that a change of the sources does not rebuild it.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY constraints.txt /tmp/
RUN pip install -c /tmp/constraints.txt --extra-index-url "${TORCH_INDEX}" torch

ARG EXTRAS=search
COPY . /tmp/source
RUN pip install -c /tmp/constraints.txt "/tmp/source[${EXTRAS}]"

# Not root. Any user may write into the cache of models and tokens, so --user can be anyone.
RUN useradd --uid 10001 embedft && mkdir -m 1777 /cache
ENV HOME=/cache XDG_CACHE_HOME=/cache USER=embedft
USER embedft
WORKDIR /work
VOLUME /cache
ENTRYPOINT ["embedft"]
CMD ["--help"]
