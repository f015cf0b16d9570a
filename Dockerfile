# One image for every component of the pipeline and for the MLflow server. docs/image.md says how it is built and run.
# BASE: anything of Debian bookworm or later with Python 3.11, or whose apt has it.
# PIP_CONFIG_FILE: settings of pip during the build, mounted, for a machine behind a proxy or a mirror.
# TORCH_INDEX: where torch comes from, CPU here; https://pypi.org/simple has the CUDA build of the same version.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS base
RUN command -v python3.11 || { apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3.11 ca-certificates \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/*.log /var/log/apt; }

FROM base AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG PIP_CONFIG_FILE
RUN python3.11 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3.11-venv; }
RUN python3.11 -m venv /opt/pip && python3.11 -m venv --without-pip /opt/playscale
ENV PIP="/opt/pip/bin/pip --python /opt/playscale/bin/python --quiet"
WORKDIR /build
COPY pyproject.toml constraints.txt .ci/slim .ci/requirements ./
RUN ./requirements train tracking kubeflow s3 cluster >requirements.txt \
    && $PIP install --extra-index-url "${TORCH_INDEX}" --constraint constraints.txt --requirement requirements.txt \
    && ./slim /opt/playscale
COPY . .
RUN $PIP install --no-deps --prefix /opt/package .

FROM base
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends tini \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/*.log /var/log/apt
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="playscale" \
      org.opencontainers.image.description="Scaling laws for game-playing agents: pipeline components and MLflow server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/playscale /opt/playscale
COPY --from=build /opt/package /opt/playscale
# The root file system may be read-only: whatever a library writes for itself goes below /tmp.
ENV PATH=/opt/playscale/bin:$PATH \
    HOME=/tmp \
    XDG_CACHE_HOME=/tmp/.cache \
    MPLCONFIGDIR=/tmp/.matplotlib \
    LOGNAME=playscale \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GIT_PYTHON_REFRESH=quiet
WORKDIR /tmp
USER 10001:0
ENTRYPOINT ["tini", "--", "playscale"]
CMD ["--help"]
