# Both images are Debian 13 with Python 3.13: what is compiled in the first one runs in the second one.
# Each is pinned by the digest of its manifest list; --build-arg RUNTIME_IMAGE=…@sha256:… names a newer one.
ARG BUILD_IMAGE=python:3.13-slim-trixie@sha256:ffb752e139c0a19692a43af8d8523b274222dd68eebad5d583b45c2201c6e30a
ARG RUNTIME_IMAGE=gcr.io/distroless/python3-debian13:nonroot@sha256:8ee214843129f43e2ebf5e0ca9f2e4e6d8292143d1b8a6787f169b5898578884

FROM ${BUILD_IMAGE} AS build
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /venv \
 && /venv/bin/python -m pip install --no-cache-dir --require-hashes --only-binary=:all: -r requirements-build.lock \
 && /venv/bin/python -m pip install --no-cache-dir --require-hashes --only-binary=:all: --no-compile --target /app \
      -r requirements.lock \
 && rm -rf /app/bin
COPY pyproject.toml README.md LICENSE ./
COPY tools/build_hook.py tools/
COPY exporter exporter
ARG REVISION=unknown
# The file system will be read-only, so bytecode is written now; unchecked, for nothing changes below it.
RUN echo "${REVISION}" > exporter/REVISION \
 && /venv/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation --no-compile --target /app . \
 && rm -rf /app/bin \
 && /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /app \
 && mkdir /state

# No shell, no package manager, no pip: Python, its libraries, certificates.
FROM ${RUNTIME_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="stream-exporter" \
      org.opencontainers.image.description="Prometheus exporter and alerting sidecar for streaming servers" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/stream-exporter/stream-exporter" \
      org.opencontainers.image.documentation="https://github.com/stream-exporter/stream-exporter/tree/main/docs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /app /app
# What a volume mounted there inherits: its owner.
COPY --from=build --chown=65532:65532 /state /var/lib/stream-exporter
ENV PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    STATE_DIRECTORY=/var/lib/stream-exporter
WORKDIR /etc/stream-exporter
USER 65532:65532
EXPOSE 10071
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 \
  CMD ["/usr/bin/python3", "-m", "exporter.healthcheck"]
ENTRYPOINT ["/usr/bin/python3", "-m", "exporter"]
