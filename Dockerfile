FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# Both default to what the checkout says of itself.
ARG VERSION=
ARG COMMIT=
RUN CGO_ENABLED=0 go build -trimpath -o /out/whsentry \
      -ldflags="-s -w ${VERSION:+-X whsentry/internal/command.version=$VERSION} ${COMMIT:+-X whsentry/internal/command.commit=$COMMIT}" . \
    && mkdir /out/cache

# Static, with its roots built in: it needs nothing else.
FROM scratch
COPY --from=build /out/whsentry /whsentry
# Where the newest bundle of roots is kept. A volume here saves the download at the next start.
COPY --from=build --chown=65532:65532 /out/cache /var/cache
ENV XDG_CACHE_HOME=/var/cache
USER 65532:65532
EXPOSE 9090 2112
# It goes by the environment and /config.yaml, as the proxy does; flags behind the image's name are unknown to it.
HEALTHCHECK --interval=5s --timeout=6s --start-period=5s --retries=3 CMD ["/whsentry", "health"]
ENTRYPOINT ["/whsentry"]
