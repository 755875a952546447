# Attendant in a container. `./dev image` builds it with docker, podman or buildah.
#
#   docker run --publish 50051:50051 --publish 9090:9090 --volume ~/models:/models:ro attendant \
#       --model /models/all-MiniLM-L6-v2

ARG BASE=docker.io/library/debian:trixie-slim

# What ./dev enters where a container engine answers.
FROM ${BASE} AS toolchain
COPY deploy/toolchain/packages.txt /usr/local/share/attendant/packages.txt
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends \
      $(sed 's/#.*//' /usr/local/share/attendant/packages.txt) \
 && rm -rf /var/lib/apt/lists/*

FROM toolchain AS build
ARG CCACHE_DIR=/var/cache/ccache
COPY . /attendant
WORKDIR /attendant
RUN --mount=type=cache,target=/var/cache/ccache \
    export CCACHE_DIR=$CCACHE_DIR CCACHE_BASEDIR=/attendant CCACHE_NOHASHDIR=1 \
           CCACHE_SLOPPINESS=time_macros,pch_defines,include_file_mtime,include_file_ctime \
 && cmake --preset release -DATTENDANT_PICTURES=OFF \
 && cmake --build --preset release --target attendant-server attendant \
 && deploy/toolchain/assemble-root build/release /image

# Only what the programs load: no shell, no package manager.
FROM scratch
COPY --from=build /image /
USER 10001:10001
ENV HOME=/tmp
VOLUME /models
EXPOSE 50051 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s CMD ["/usr/bin/attendant", "health"]
# Within the container's own network; what is published is the operator's choice. A later flag replaces an earlier one.
ENTRYPOINT ["/usr/bin/attendant-server", "--listen=0.0.0.0:50051", "--metrics_listen=0.0.0.0:9090", "--allow_insecure_bind"]
