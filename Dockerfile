# lgn-lightning in a container. Unbuilt so far: no machine of this project had a Docker daemon. The lines that install are
# run by tests/test_dockerfile.py.
#
#   docker build -t lgn-lightning .                                    # CPU
#   docker build -t lgn-lightning:cuda --target cuda .                 # NVIDIA GPUs; run it with --gpus all
#   docker run --rm -v "$PWD:/work" lgn-lightning fit digits

# CPU: the kernels are compiled now, for all processors; circuits are compiled when they are exported, hence the compiler.
FROM python:3.12-slim AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends g++ git && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/lgn-lightning
# Of CPU wheels alone: --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG PIP_EXTRA_INDEX_URL=
COPY . .
RUN python -m pip install --no-cache-dir .
ENV LGN_CACHE_DIR=/opt/lgn-cache
RUN lgn build --all-isa
WORKDIR /work
ENTRYPOINT ["lgn"]
CMD ["--help"]

# NVIDIA GPUs: the toolkit's release is that of torch's wheels, and there need be no GPU where the image is built.
FROM nvidia/cuda:13.0.2-devel-ubuntu24.04 AS cuda
RUN apt-get update && apt-get install -y --no-install-recommends python3-dev python3-venv g++ git && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/lgn
ENV PATH=/opt/lgn/bin:$PATH CUDA_HOME=/usr/local/cuda LGN_CACHE_DIR=/opt/lgn-cache
WORKDIR /opt/lgn-lightning
COPY . .
RUN python -m pip install --no-cache-dir .
# The GPU that the image is for: 8.0 is an A100, 9.0 an H100 or H200, 12.0 an RTX 50. Others compile on first use.
ARG TORCH_CUDA_ARCH_LIST=9.0
RUN TORCH_CUDA_ARCH_LIST=$TORCH_CUDA_ARCH_LIST lgn build --cuda
WORKDIR /work
ENTRYPOINT ["lgn"]
CMD ["--help"]

# `docker build .` without a target makes the last stage: the one for CPUs.
FROM cpu
