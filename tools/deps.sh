#!/usr/bin/env bash
# Installs the Debian packages that are missing, and only those. Says what it does; does nothing when nothing is missing.
#
#   tools/deps.sh [build|run|check|test|bench]
#
# build, run   what it takes to compile and start barid
# check        and the unit tests and the structure test
# test         and everything `make test` uses: clang, sanitizers, a browser, …
# bench        build, and what the programs of bench/ compare with: RabbitMQ's clients, and what its server needs; PostgreSQL
set -euo pipefail

build=(gcc libc6-dev make meson ninja-build pkg-config python3
    libuv1-dev libwebsockets-dev libwebsockets-evlib-uv libsqlite3-dev libjansson-dev libsodium-dev libxxhash-dev
    libpcre2-dev
    libssl-dev libcurl4-openssl-dev libmicrohttpd-dev libpq-dev librdkafka-dev librabbitmq-dev)
check=(libcmocka-dev python3-pytest)
full=(clang libclang-rt-14-dev llvm clang-tidy clang-format
    python3-websockets python3-requests python3-jsonschema python3-yaml python3-aiohttp python3-pika
    amqp-tools postgresql postgresql-contrib pgbouncer python3-psycopg2 python3-confluent-kafka python3-venv python3-pip openssl iproute2 util-linux
    chromium chromium-driver python3-selenium)

bench=(maven openjdk-17-jre-headless postgresql python3-psycopg2 python3-confluent-kafka python3-requests erlang-base erlang-crypto erlang-eldap erlang-inets erlang-mnesia
    erlang-os-mon erlang-parsetools erlang-public-key erlang-runtime-tools erlang-ssl erlang-syntax-tools erlang-tools
    erlang-xmerl)

# What others' test suites are written in. Where a tool is there already, however it came, Debian's is not wanted.
tool() { command -v "$1" >/dev/null || full+=("${@:2}"); }
tool npm nodejs npm
tool go golang-go
tool java default-jre-headless
tool mvn maven

case "${1:-build}" in
build | run) wanted=("${build[@]}") ;;
check) wanted=("${build[@]}" "${check[@]}") ;;
test) wanted=("${build[@]}" "${check[@]}" "${full[@]}") ;;
bench) wanted=("${build[@]}" "${bench[@]}") ;;
*)
    echo "usage: tools/deps.sh [build|run|check|test|bench]" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null; then
    echo "tools/deps.sh knows Debian only. Install the equivalents of: ${wanted[*]}" >&2
    exit 0
fi

installed=$(dpkg-query -W -f='${db:Status-Abbrev}${Package}\n' "${wanted[@]}" 2>/dev/null | sed -n 's/^ii *//p' || true)
missing=()
for package in "${wanted[@]}"; do
    grep -qxF "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "Missing packages: ${missing[*]}" >&2
        echo "Install them as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi

export DEBIAN_FRONTEND=noninteractive
echo "Installing from Debian: ${missing[*]}"
"${as_root[@]}" apt-get update -q
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
