#!/usr/bin/env bash
# Links libcrypto_mb.so, Intel's multi-buffer cryptography (Apache-2.0), out of the static archive
# that Intel publishes: Debian has no package of it. The result needs the C library and nothing
# else. docs/deployment.md says where it goes.
#
#   config/crypto_mb.sh [--from DIR] OUT
#
# OUT is the file to write. The archive, a wheel of the package index, comes from DIR if it is
# there, else from `pip download` (or `python3 -m pip`). Either way its SHA-256 has to be the one
# below.
set -euo pipefail

version=2026.2.0
wheel=ipp_crypto_static-$version-py2.py3-none-manylinux_2_28_x86_64.whl
sha256=b4b952a9435f7aab3d1684822f644d586ce5f6bda874e4bfb8c008ee674ca5c5
archive=ipp_crypto_static-$version.data/data/lib/libcrypto_mb.a

# What src/crypto/mb.rs calls; nothing else is exported.
functions=(mbx_getversion mbx_is_crypto_mb_applicable)
functions+=(mbx_x25519_public_key_mb8 mbx_x25519_mb8)
for curve in nistp256 nistp384; do
    for operation in sign_setup sign_complete verify; do
        functions+=("mbx_${curve}_ecdsa_${operation}_mb8")
    done
done
functions+=(mbx_rsa_public_mb8 mbx_rsa_private_crt_mb8)
functions+=(mbx_RSA_pub65537_Method mbx_RSA_private_crt_Method mbx_RSA_Method_BufSize)

die() {
    printf 'crypto_mb.sh: %s\n' "$*" >&2
    exit 1
}

from=
if [ "${1:-}" = --from ]; then
    from=${2:?a folder}
    shift 2
fi
[ $# = 1 ] || die "usage: config/crypto_mb.sh [--from DIR] OUT"
out=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "$from" ]; then
    from=$work
    pip=(python3 -m pip)
    command -v pip >/dev/null && pip=(pip)
    "${pip[@]}" download --quiet --no-deps --only-binary=:all: --dest "$work" \
        "ipp-crypto-static==$version" ||
        die "can't download it; put $wheel into a folder, and name that with --from"
fi
[ -r "$from/$wheel" ] || die "$from has no $wheel"
printf '%s  %s\n' "$sha256" "$from/$wheel" | sha256sum --check --quiet --strict ||
    die "$wheel is not the file that this script is for"

# A wheel is a ZIP file.
if command -v unzip >/dev/null; then
    unzip -q "$from/$wheel" "$archive" -d "$work"
else
    python3 -m zipfile -e "$from/$wheel" "$work"
fi

# Functions for OpenSSL's numbers share their object files with those for plain ones. Nobody can
# call them, but what they call has to be there.
cat >"$work/absent.c" <<'C'
#include <stdlib.h>
#define ABSENT(name) __attribute__((visibility("hidden"))) void name(void) { abort(); }
ABSENT(BN_bin2bn)
ABSENT(BN_bn2lebinpad)
ABSENT(BN_is_word)
ABSENT(BN_num_bits)
ABSENT(ECDSA_SIG_get0)
C
{
    printf '{ global:\n'
    printf '    %s;\n' "${functions[@]}"
    printf 'local: *; };\n'
} >"$work/exports"

"${CC:-cc}" -shared -fPIC -O2 -o "$work/libcrypto_mb.so" "$work/absent.c" \
    "${functions[@]/#/-Wl,--undefined=}" "$work/$archive" \
    -Wl,--soname=libcrypto_mb.so -Wl,--version-script="$work/exports" -Wl,--gc-sections \
    -Wl,-z,defs -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,--strip-debug

needed=$(readelf -dW "$work/libcrypto_mb.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
[ "$needed" = libc.so.6 ] || die "the library needs more than the C library: $needed"
mkdir -p "$(dirname "$out")"
install -m 0755 "$work/libcrypto_mb.so" "$out"
printf '%s\n' "$out"
