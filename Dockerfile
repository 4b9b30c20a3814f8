# syntax=docker/dockerfile:1
# The kernel and the reference cells. Built on the same Debian that it runs on, so that both have the same C library.

FROM rust:1.95.0-slim-trixie AS build
# The toolchain of the image; rust-toolchain.toml would fetch components that a build does not need.
ENV RUSTUP_TOOLCHAIN=1.95.0 CARGO_TERM_COLOR=never
RUN rustup target add wasm32-wasip2
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release \
    && for cell in ledger processor payment-hub; do target/release/aibos cell build "cells/$cell" || exit 1; done \
    && mkdir /out \
    && cp target/release/aibos /out/aibos \
    && cp -r target/cells /out/cells

FROM debian:trixie-slim
# Root certificates, for a database or a kernel that is reached by TLS.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin aibos \
    && install --directory --owner=aibos --group=aibos --mode=0700 /var/lib/aibos
COPY --from=build /out/aibos /usr/local/bin/aibos
COPY --from=build /out/cells /usr/share/aibos/cells
ENV AIBOS_LISTEN=0.0.0.0:8080 AIBOS_DATA_DIR=/var/lib/aibos
USER 10001:10001
WORKDIR /var/lib/aibos
VOLUME /var/lib/aibos
EXPOSE 8080
# bash opens the connection itself, so that the image needs no HTTP client.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
ENTRYPOINT ["aibos"]
CMD ["serve"]
