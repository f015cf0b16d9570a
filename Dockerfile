# One image for every component of the pipeline and for the MLflow server. docs/image.md says how it is built and run.
# BASE: anything of Debian bookworm or later with Python 3.11, or whose apt has it.
# PIP_CONFIG_FILE: settings of pip during the build, mounted, for a machine behind a proxy or a mirror.
# TORCH: cpu or cuda: which lock of torch. TORCH_INDEX: beside PyPI, where its CPU build comes from.
# Whatever is installed has the hash that .ci/locks has, the tools of the build too.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS base
RUN command -v python3.11 || { apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3.11 ca-certificates \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/*.log /var/log/apt; }

FROM base AS build
ARG TORCH=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG PIP_CONFIG_FILE
RUN python3.11 -c 'import ensurepip' 2>/dev/null || { apt-get update -qq \
    && apt-get install -y -qq --no-install-recommends python3.11-venv; }
RUN python3.11 -m venv /opt/pip && python3.11 -m venv --without-pip /opt/playscale
ENV PIP="/opt/pip/bin/pip --python /opt/playscale/bin/python --quiet"
WORKDIR /build
COPY pyproject.toml .ci/slim .ci/locks ./
RUN /opt/pip/bin/pip install --quiet --require-hashes --requirement build.txt \
    && $PIP install --extra-index-url "${TORCH_INDEX}" --require-hashes --requirement image.txt --requirement "${TORCH}.txt" \
    && /opt/pip/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
        --output-file /opt/playscale/sbom.cdx.json /opt/playscale/bin/python \
    && ./slim /opt/playscale
COPY . .
RUN /opt/pip/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist . \
    && $PIP install --no-deps --prefix /opt/package /dist/*.whl

FROM base
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends tini \
    && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf/* /var/log/*.log /var/log/apt
ARG BASE
ARG VERSION=0.2.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="playscale" \
      org.opencontainers.image.description="Scaling laws for game-playing agents: pipeline components and MLflow server" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}" \
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
    GIT_PYTHON_REFRESH=quiet \
    MLFLOW_DISABLE_TELEMETRY=true \
    PLAYSCALE_REVISION=${REVISION}
WORKDIR /tmp
USER 10001:0
ENTRYPOINT ["tini", "--", "playscale"]
CMD ["--help"]
