# CPU image:   docker build -t dozen .
# CUDA image:  docker build -t dozen:cuda --target cuda .
# Run:         docker run -p 3000:3000 -v dozen-data:/data -e DOZEN_API_KEY=… dozen

FROM rust:1.95-bookworm AS source
WORKDIR /src
COPY . .

FROM source AS build
RUN cargo build --release --locked --package dozen --package dozen-trainer

# Needs no GPU and no CUDA image: the toolkit comes from PyPI's NVIDIA packages.
FROM source AS build-cuda
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip && rm -rf /var/lib/apt/lists/*
RUN PIP_BREAK_SYSTEM_PACKAGES=1 cargo xtask cuda --release

FROM nvidia/cuda:13.0.2-runtime-ubuntu24.04 AS cuda
RUN apt-get update && apt-get install --yes --no-install-recommends curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /data dozen
COPY --from=build-cuda /src/target/cuda/release/dozen /src/target/cuda/release/dozen-train /usr/local/bin/
USER dozen
WORKDIR /data
VOLUME /data
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD curl --fail --silent http://127.0.0.1:3000/readyz || exit 1
# Listening beyond loopback needs a key: give one with DOZEN_API_KEY, or say --allow-unauthenticated.
ENV DOZEN_DATA_DIR=/data
CMD ["dozen", "--hostname", "0.0.0.0"]

FROM debian:bookworm-slim AS cpu
RUN apt-get update && apt-get install --yes --no-install-recommends curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /data dozen
COPY --from=build /src/target/release/dozen /src/target/release/dozen-train /usr/local/bin/
USER dozen
WORKDIR /data
VOLUME /data
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD curl --fail --silent http://127.0.0.1:3000/readyz || exit 1
# Listening beyond loopback needs a key: give one with DOZEN_API_KEY, or say --allow-unauthenticated.
ENV DOZEN_DATA_DIR=/data
CMD ["dozen", "--hostname", "0.0.0.0"]
