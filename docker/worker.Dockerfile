# The gpu and sampling queues: everything the web image has, and torch.
#
# The CUDA libraries come with torch's own package; the host brings the driver.
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    CONCORD_HOME=/data

# The same number in both images, because they share the volume /data.
RUN useradd --uid 1000 --create-home concord && install -d -o concord -g concord /data
WORKDIR /app

# Where only another build of torch fits the driver, name its package index here.
ARG PIP_EXTRA_INDEX_URL=""
COPY requirements/worker.lock requirements/worker.lock
RUN pip install -r requirements/worker.lock

COPY manage.py ./
COPY records records
COPY registry registry
COPY annotation annotation
COPY simulation simulation
COPY language language
COPY rewardmodels rewardmodels
COPY policies policies
COPY evaluation evaluation
COPY workers workers
COPY webapp webapp

# Every run notes the commit of its code; an image has no git to ask.
ARG CONCORD_COMMIT=""
ENV CONCORD_COMMIT=${CONCORD_COMMIT}

USER concord
CMD ["celery", "-A", "workers", "worker", "-Q", "gpu", "-c", "1", "-n", "gpu@%h", "--loglevel", "INFO"]
