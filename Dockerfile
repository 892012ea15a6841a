# One image for the web server and the worker; compose.yaml says which of both a container is.
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=gpubroker.settings \
    GPUBROKER_DATA_DIR=/data \
    GPUBROKER_HOST=0.0.0.0

COPY . /source
RUN pip install --no-cache-dir /source \
    && rm -rf /source \
    && groupadd --gid 10001 gpubroker \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data gpubroker \
    && install --directory --mode=0700 --owner=10001 --group=10001 /data

# Database (without PostgreSQL), keys, the file `installation`, the anchor of the audit.
VOLUME /data
WORKDIR /data
USER 10001:10001
EXPOSE 8080
CMD ["django-admin", "up"]
