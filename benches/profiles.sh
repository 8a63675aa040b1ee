#!/usr/bin/env bash
# Where the CPU goes in each kind of work, as a table in Markdown:
#   cargo build --release && benches/profiles.sh [SECONDS]
# Starts countersign with one worker on CPU 0, and backends and load on CPU 1, profiles each kind
# for so many seconds (5), and ends what it has started. perf has to be allowed to look at them.
#   COUNTERSIGN_BIN        another program
#   COUNTERSIGN_CRYPTO_MB  what [accel] crypto_mb says; "auto" if unset
#   PORT                   the first of three ports to listen on; 32440 if unset
set -euo pipefail

seconds=${1:-5}
here=$(cd "$(dirname "$0")" && pwd)
bin=$(realpath "${COUNTERSIGN_BIN:-$here/../target/release/countersign}")
crypto_mb=${COUNTERSIGN_CRYPTO_MB:-auto}
port=${PORT:-32440}
name=server.bench.test
work=$(mktemp -d)
pids=()

finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

die() {
    printf 'profiles.sh: %s\n' "$1" >&2
    [ -z "${2:-}" ] || tail -n 20 "$2" >&2
    exit 1
}

# Until COMMAND succeeds, for ten seconds.
await() { # WHAT LOG COMMAND…
    local what=$1 log=$2
    shift 2
    for _ in {1..500}; do
        if "$@"; then return; fi
        sleep 0.02
    done
    die "$what" "$log"
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
says_where() { grep -qs 'listens on' "$1"; }

"$bin" pki init "$work/ca" >/dev/null
"$bin" pki issue "$work/ca" "$name" --server --out "$work/server" >/dev/null
"$bin" pki issue "$work/ca" client.bench.test --client --out "$work/client" >/dev/null

cat >"$work/countersign.toml" <<TOML
[workers]
cpus = "0"
[admin]
listen = "off"
[log]
connections = false
[accel]
crypto_mb = "$crypto_mb"
[trust.bench]
ca = ["ca/ca.pem"]
names = ["client.bench.test"]
[peers.clients]
trust = "bench"
names = ["client.bench.test"]
TOML
declare -A port_of
for mode in echo source discard; do
    "$bin" load backend --mode $mode --listen 127.0.0.1:0 --cpus 1 2>"$work/$mode.log" &
    pids+=($!)
    await "no backend" "$work/$mode.log" says_where "$work/$mode.log"
    port_of[$mode]=$port
    cat >>"$work/countersign.toml" <<TOML
[backends.$mode]
servers = ["$(sed -n 's/.*listens on //p' "$work/$mode.log")"]
[[listener]]
name = "$mode"
listen = ["127.0.0.1:$port"]
client_auth = "required"
peers = ["clients"]
certificates = [{ chain = "server.pem", key = "server.key" }]
backend = "$mode"
TOML
    port=$((port + 1))
done
"$bin" run --config "$work/countersign.toml" >"$work/server.log" 2>&1 &
server=$!
pids+=($server)
for mode in "${!port_of[@]}"; do
    await "countersign doesn't listen" "$work/server.log" listens "${port_of[$mode]}"
done
kill -0 $server 2>/dev/null || die "countersign has ended" "$work/server.log"

profile() { # COLUMN BACKEND MODE CONNECTIONS
    "$bin" load --target "127.0.0.1:${port_of[$2]}" --mode "$3" --connections "$4" \
        --ca "$work/ca/ca.pem" --sni "$name" --cert "$work/client.pem" --key "$work/client.key" \
        --tls 1.3 --group X25519 --cipher TLS_AES_128_GCM_SHA256 --cpus 1 --ramp 500ms \
        --duration $((seconds + 3))s >"$work/load.log" 2>&1 &
    local load=$!
    pids+=($load)
    sleep 1.5
    "$here/profile.sh" $server "$seconds" >"$work/$1.profile"
    wait $load || die "the load failed" "$work/load.log"
}
profile 1 echo full 64
profile 2 echo resumed 64
profile 3 echo request 64
profile 4 source down 4
profile 5 discard up 4

# One line a bucket, the largest of all columns first; what is below 1.5 % everywhere is the rest.
echo "| % of the server's CPU | full handshake | resumed | 1 KiB round trip | bulk down | bulk up |"
echo "|---|---|---|---|---|---|"
awk '
    { share = $1; sub(/^ *[0-9.]+ %  /, ""); of[$0, FILENAME] = share
      if (share > most[$0]) most[$0] = share }
    END {
        for (name in most) {
            if (most[name] < 1.5) {
                for (i = 1; i < ARGC; i++) rest[i] += of[name, ARGV[i]]
                continue
            }
            line = "| " name " |"
            for (i = 1; i < ARGC; i++) line = line sprintf(" %.0f |", of[name, ARGV[i]])
            printf "%08.1f\t%s\n", most[name], line
        }
        line = "| rest |"
        for (i = 1; i < ARGC; i++) line = line sprintf(" %.0f |", rest[i])
        printf "%08.1f\t%s\n", 0, line
    }' "$work"/{1,2,3,4,5}.profile | sort -rn | cut -f 2
