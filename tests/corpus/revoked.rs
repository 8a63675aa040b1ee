//! What CRLs say. One is asked for each certificate of a path.

use super::{
    table::{CERTIFICATE_REVOKED, CERTIFICATE_UNKNOWN, FE01, Row, at, refused},
    world::{REVOKED, good, serial, via},
};

/// What the log says where no CRL speaks for a certificate.
const NOT_KNOWN: &str = "is revoked isn't known in trust.checked";

/// Revocation, required at the listener `checked` and preferred at `preferred`.
pub const REVOCATION: &[Row] = &[
    at("checked", "a client that its CA hasn't revoked", |w| w.listed.client(good), FE01),
    // Beside the CRL that says so there are an older one and a newer one that is forged.
    at(
        "checked",
        "a revoked client",
        |w| w.listed.client(serial(REVOKED)),
        refused("revoked", CERTIFICATE_REVOKED, "the client's certificate was revoked at 2"),
    ),
    at("checked", "a client of an intermediate CA with a CRL", |w| via(&w.steady), FE01),
    at(
        "checked",
        "a client with a serial number that another CA has revoked",
        |w| w.steady.client_above(&[&w.steady.der], serial(REVOKED)),
        FE01,
    ),
    at(
        "checked",
        "a client that an intermediate CA has revoked",
        |w| w.steady.client_above(&[&w.steady.der], serial(REVOKED + 2)),
        refused("revoked", CERTIFICATE_REVOKED, "the client's certificate was revoked at 2"),
    ),
    at(
        "checked",
        "a client of a revoked intermediate CA",
        |w| via(&w.fallen),
        refused("revoked", CERTIFICATE_REVOKED, "the intermediate certificate"),
    ),
    at(
        "checked",
        "a client of an intermediate CA without a CRL",
        |w| via(&w.listed.below("Quiet", good)),
        refused("revocation_unknown", CERTIFICATE_UNKNOWN, NOT_KNOWN),
    ),
    at(
        "checked",
        "a client of a CA without a CRL",
        |w| w.silent.client(good),
        refused("revocation_unknown", CERTIFICATE_UNKNOWN, NOT_KNOWN),
    ),
    at(
        "checked",
        "a client of a CA with the CRL of another",
        |w| w.silent.client(serial(REVOKED)),
        refused("revocation_unknown", CERTIFICATE_UNKNOWN, NOT_KNOWN),
    ),
    at(
        "checked",
        "a client of a CA with a forged CRL",
        |w| w.forged.client(good),
        refused("revocation_unknown", CERTIFICATE_UNKNOWN, NOT_KNOWN),
    ),
    at(
        "checked",
        "a client of a CA with a CRL of tomorrow",
        |w| w.early.client(good),
        refused("revocation_unknown", CERTIFICATE_UNKNOWN, NOT_KNOWN),
    ),
    at(
        "checked",
        "a client of a CA with a stale CRL",
        |w| w.stale.client(good),
        refused("crl_stale", CERTIFICATE_UNKNOWN, "is out of date since 2"),
    ),
    at(
        "checked",
        "a client that a stale CRL lists",
        |w| w.stale.client(serial(REVOKED)),
        refused("revoked", CERTIFICATE_REVOKED, "the client's certificate was revoked at 2"),
    ),
    at("preferred", "no CRL where one is preferred", |w| w.silent.client(good), FE01),
    at("preferred", "a stale CRL where that is accepted", |w| w.stale.client(good), FE01),
    at(
        "preferred",
        "a revoked client where a CRL is preferred",
        |w| w.listed.client(serial(REVOKED)),
        refused("revoked", CERTIFICATE_REVOKED, "the client's certificate was revoked at 2"),
    ),
];
