# The HTTP service on a CPU: docker build -t paddlevideo . && docker compose up
FROM python:3.12-slim AS build

WORKDIR /source
COPY setup.py pyproject.toml README.md MANIFEST.in ./
COPY paddlevideo paddlevideo
COPY configs configs
COPY data/k400/labels.txt data/k400/labels.txt
RUN pip wheel --no-deps --wheel-dir /wheels .

FROM python:3.12-slim

# Paddle needs OpenMP.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --constraint /constraints.txt \
    "$(echo /wheels/paddlevideo-*.whl)[cpu,openvino,serve]"

RUN useradd --create-home --home-dir /app --uid 10001 paddlevideo
USER paddlevideo
WORKDIR /app
ENV PYTHONUNBUFFERED=1

EXPOSE 8000
# Signals go to the service itself; SIGTERM finishes what runs.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["paddlevideo", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["--model", "/model"]
