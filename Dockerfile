# The one image of Celeriac. compose.yaml says what each service of it runs, and how its health is checked.

# Python's minor version and the Debian release are fixed; rebuilding takes in the fixes of both.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
WORKDIR /build

COPY requirements/build.lock requirements/
RUN python -m venv /tools \
 && /tools/bin/pip install --require-hashes -r requirements/build.lock

# Before the code, so that a change of the code alone reuses this layer. Wheels only: nothing is compiled here.
COPY requirements/production.lock requirements/
RUN /tools/bin/uv venv --python /usr/local/bin/python /opt/celeriac \
 && /tools/bin/uv pip sync --python /opt/celeriac --require-hashes --only-binary :all: --compile-bytecode \
    requirements/production.lock

COPY pyproject.toml README.md LICENSE celeryconfig.py ./
COPY tracking tracking
COPY tasks tasks
COPY api api
COPY celeriac celeriac
RUN /tools/bin/hatchling build --target wheel --directory dist \
 && /tools/bin/uv pip install --python /opt/celeriac --no-deps --compile-bytecode dist/*.whl

FROM ${PYTHON_IMAGE}
# A fixed id, so that the owner of the exports volume stays the same from image to image. A new named volume takes its
# owner and mode from the directory that it is mounted over, hence both directories here.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/celeriac --shell /usr/sbin/nologin celeriac \
 && install --directory --owner celeriac --group celeriac --mode 0750 /var/lib/celeriac /var/lib/celeriac/exports
COPY --from=build /opt/celeriac /opt/celeriac

# Bytecode is compiled already and the root file system may be read-only: /tmp and the exports are all that is written.
ENV PATH=/opt/celeriac/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CELERIAC_DATA_DIR=/var/lib/celeriac \
    CELERIAC_EXPORTS_DIR=/var/lib/celeriac/exports
WORKDIR /var/lib/celeriac
USER 10001
EXPOSE 8000
CMD ["celeriac", "api", "--host", "0.0.0.0", "--port", "8000"]
