#!/usr/bin/env bash
# Where a running process spends its CPU, in some ten named buckets:
#   benches/profile.sh PID [SECONDS]
# benches/profiles.sh does it for each kind of work, with the server and the load that it takes.
# Samples by the CPU clock, which needs no hardware counters, and sorts each sample by its call
# chain: kernel time by the system call that it serves, user time by what the function is for.
set -euo pipefail

pid=${1:?usage: benches/profile.sh PID [SECONDS]}
seconds=${2:-5}
data=$(mktemp)
trap 'rm -f "$data"' EXIT

perf record --quiet -e cpu-clock -F 2000 -g -p "$pid" -o "$data" -- sleep "$seconds"
perf script --input "$data" -F ip,sym,dso 2>/dev/null | awk '
    # A sample is a paragraph: one line a frame, the innermost first.
    function bucket(chain, leaf, object) {
        if (object ~ /\[kernel/ || chain ~ /entry_SYSCALL|do_syscall|asm_|__x64_sys|ret_from_fork/) {
            if (chain ~ /sys_sendto|sys_sendmsg/) return "kernel: send"
            if (chain ~ /sys_recvfrom|sys_recvmsg/) return "kernel: receive"
            if (chain ~ /io_connect|sys_connect|inet_stream_connect/) return "kernel: connect"
            if (chain ~ /io_accept|sys_accept|inet_csk_accept/) return "kernel: accept"
            if (chain ~ /sys_close|__fput|tcp_close|sys_shutdown|inet_shutdown/) return "kernel: close"
            if (chain ~ /sys_socket|setsockopt/) return "kernel: socket"
            if (chain ~ /io_|io_uring/) return "kernel: ring"
            if (chain ~ /epoll/) return "kernel: wait"
            return "kernel: other"
        }
        if (object ~ /crypto_mb/) {
            if (leaf ~ /25519/) return "X25519"
            if (leaf ~ /p256|p384|ecdsa/) return "P-256 sign and verify"
            if (leaf ~ /rsa|RSA|EXP|AMM|AMS|_amm|_ams|extract_multiplier/) return "RSA"
            if (chain ~ /25519/) return "X25519"
            if (chain ~ /ecdsa/) return "P-256 sign and verify"
            return "crypto_mb, other"
        }
        if (leaf ~ /ecp_nistz256|ecdsa|ECDSA|beeu|bn_|BN_|p256|EC_/) return "P-256 sign and verify"
        if (leaf ~ /25519/) return "X25519"
        if (leaf ~ /rsa|RSA|rsaz/) return "RSA"
        if (leaf ~ /sha256|sha512|SHA256|SHA512|HMAC|HKDF|hmac|hkdf/) return "hash, HKDF"
        if (leaf ~ /aes|gcm|AEAD|aead|chacha|poly1305/) return "AEAD"
        if (leaf ~ /aws_lc|CRYPTO_|EVP_|OPENSSL_|CBS_|ASN1|X509/) return "aws-lc, other"
        if (leaf ~ /mi_|malloc|free|calloc|realloc/) return "allocator"
        if (leaf ~ /memmove|memcpy|memset|memcmp/) return "copies in user space"
        if (leaf ~ /rustls|webpki|x509_parser|nom|asn1|der_parser|untrusted/) return "rustls, certificates"
        if (leaf ~ /tokio|uring|slab|corosensei/) return "runtime"
        if (leaf ~ /countersign/) return "countersign"
        return "user, other"
    }
    function count() {
        if (leaf != "") { seen[bucket(chain, leaf, object)]++; all++ }
        chain = leaf = ""
    }
    NF == 0 { count(); next }
    {
        # The object that the code is from stands in parentheses at the end.
        from = match($0, / \([^()]*\)$/) ? substr($0, RSTART) : ""
        frame = substr($0, 1, length($0) - length(from))
        if (leaf == "") { leaf = frame; object = from }
        chain = chain " " frame
    }
    END {
        count()
        if (all == 0) { print "no samples: is the process idle, and may you profile it?"; exit 1 }
        for (name in seen) printf "%5.1f %%  %s\n", 100 * seen[name] / all, name
    }' | sort -rn
