//! Names, and who may vouch for them.

use rcgen::SanType;

use super::{
    table::{
        ACCESS_DENIED, BAD_CERTIFICATE, CERTIFICATE_UNKNOWN, FE01, Outcome::Admitted, Row, at,
        refused, row,
    },
    world::{address, called, common_name, dns, good, uris},
};

/// Names, and who may vouch for them.
pub const NAMES: &[Row] = &[
    row(
        "a name that nobody lists",
        |w| w.root.client(dns(&["fe02.contoso.test"])),
        refused("name_not_listed", ACCESS_DENIED, "the nearest is fe01.contoso.test"),
    ),
    row("one name of several", |w| w.root.client(dns(&["x.test", "fe01.contoso.test"])), FE01),
    row("a name in capitals", |w| w.root.client(dns(&["FE01.Contoso.TEST"])), FE01),
    row(
        "a name that ends in a listed one",
        |w| w.root.client(dns(&["notfe01.contoso.test", "fe01.contoso.test.evil.test"])),
        refused("name_not_listed", ACCESS_DENIED, "is listed in no peer set"),
    ),
    row(
        "a certificate without names",
        |w| w.root.client(common_name("")),
        refused("name_not_listed", ACCESS_DENIED, "neither a subjectAltName"),
    ),
    row(
        "an e-mail address alone",
        |w| {
            w.root.client(|client| {
                let address = "fe01@contoso.test".try_into().unwrap();
                client.subject_alt_names = vec![SanType::Rfc822Name(address)];
            })
        },
        refused("name_not_listed", ACCESS_DENIED, "no subjectAltName"),
    ),
    row(
        "a malformed name beside a good one",
        |w| w.root.client(dns(&["fe01.contoso.test", "fe01..contoso.test"])),
        refused("malformed", BAD_CERTIFICATE, "the client's certificate is malformed"),
    ),
    row(
        "a name with a NUL",
        |w| w.root.client(dns(&["fe01.contoso.test\0.evil.test"])),
        refused("malformed", BAD_CERTIFICATE, "printable ASCII"),
    ),
    // Common names.
    row(
        "a common name alone",
        |w| w.root.client(common_name("fe01.contoso.test")),
        refused("name_not_listed", ACCESS_DENIED, "its common name fe01.contoso.test"),
    ),
    at(
        "named",
        "a common name alone where it counts",
        |w| w.root.client(common_name("fe01.contoso.test")),
        FE01,
    ),
    at(
        "named",
        "a common name beside other names",
        |w| w.root.client(dns(&["other.contoso.test"])),
        refused("name_not_listed", ACCESS_DENIED, "other.contoso.test is listed in no peer set"),
    ),
    // Wildcards.
    row(
        "a wildcard for a listed name",
        |w| w.root.client(dns(&["*.cell.contoso.test"])),
        refused("name_not_listed", ACCESS_DENIED, "*.cell.contoso.test is listed in no peer set"),
    ),
    row(
        "a name below a listed wildcard",
        |w| w.root.client(dns(&["a.b.pool.contoso.test"])),
        Admitted("a.b.pool.contoso.test"),
    ),
    row(
        "a wildcard within a listed wildcard",
        |w| w.root.client(dns(&["*.b.pool.contoso.test"])),
        Admitted("*.b.pool.contoso.test"),
    ),
    row(
        "the parent of a listed wildcard",
        |w| w.root.client(dns(&["pool.contoso.test"])),
        refused("name_not_listed", ACCESS_DENIED, "is listed in no peer set"),
    ),
    // Blocked names.
    row(
        "a blocked name",
        |w| w.root.client(dns(&["blocked.contoso.test"])),
        refused("blocked", ACCESS_DENIED, "blocked.contoso.test is blocked by"),
    ),
    row(
        "a blocked name beside a listed one",
        |w| w.root.client(dns(&["fe01.contoso.test", "blocked.contoso.test"])),
        refused("blocked", ACCESS_DENIED, "blocked.contoso.test is blocked by"),
    ),
    row(
        "a wildcard that could pass for a blocked name",
        |w| w.root.client(dns(&["*.contoso.test"])),
        refused("blocked", ACCESS_DENIED, "*.contoso.test is blocked by blocked.contoso.test"),
    ),
    row(
        "a blocked common name beside a listed name",
        |w| {
            w.root.client(|client| {
                common_name("blocked.contoso.test")(client);
                dns(&["fe01.contoso.test"])(client);
            })
        },
        refused("blocked", ACCESS_DENIED, "blocked.contoso.test is blocked by"),
    ),
    row(
        "a stranger's blocked name",
        |w| w.stranger.client(dns(&["blocked.contoso.test"])),
        refused("blocked", ACCESS_DENIED, "blocked.contoso.test is blocked by"),
    ),
    // Addresses and URIs.
    at(
        "kinds",
        "a listed address",
        |w| w.root.client(address([10, 1, 2, 3])),
        Admitted("10.1.2.3"),
    ),
    at(
        "kinds",
        "an address that nobody lists",
        |w| w.root.client(address([10, 1, 3, 3])),
        refused("name_not_listed", ACCESS_DENIED, "10.1.3.3 is listed in no peer set"),
    ),
    at(
        "kinds",
        "an address as a DNS name",
        |w| w.root.client(dns(&["10.1.2.3"])),
        refused("malformed", BAD_CERTIFICATE, "10.1.2.3"),
    ),
    at(
        "kinds",
        "a listed SPIFFE ID",
        |w| w.root.client(uris(&["spiffe://contoso.test/fe/1"])),
        Admitted("spiffe://contoso.test/fe/1"),
    ),
    at(
        "kinds",
        "a SPIFFE ID of another path",
        |w| w.root.client(uris(&["spiffe://contoso.test/be/1"])),
        refused("name_not_listed", ACCESS_DENIED, "spiffe://contoso.test/be/1 is listed in no"),
    ),
    at(
        "kinds",
        "a SPIFFE ID of another trust domain",
        |w| w.root.client(uris(&["spiffe://fabrikam.test/fe/1"])),
        refused("name_not_listed", ACCESS_DENIED, "spiffe://fabrikam.test/fe/1 is listed in no"),
    ),
    at(
        "kinds",
        "two SPIFFE IDs",
        |w| w.root.client(uris(&["spiffe://contoso.test/fe/1", "spiffe://contoso.test/fe/2"])),
        refused("malformed", BAD_CERTIFICATE, "a SPIFFE ID beside another URI"),
    ),
    // Two partners on one listener.
    row(
        "a partner",
        |w| w.fabrikam.client(called("Edge", &["edge.fabrikam.test"])),
        Admitted("edge.fabrikam.test"),
    ),
    row(
        "our name as the common name beside a partner's",
        |w| w.fabrikam.client(called("fe01.contoso.test", &["edge.fabrikam.test"])),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "is a name of trust.contoso"),
    ),
    row(
        "our name from a partner's CA",
        |w| w.fabrikam.client(good),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "CN=Fabrikam Root isn't one of them"),
    ),
    row(
        "a partner's name from our CA",
        |w| w.root.client(dns(&["edge.fabrikam.test"])),
        refused("name_not_allowed_for_ca", ACCESS_DENIED, "for the CAs of trust.fabrikam"),
    ),
    // Name constraints.
    at("limited", "a name that its CA is permitted", |w| w.bound.client(good), FE01),
    at(
        "limited",
        "a name that its CA isn't permitted",
        |w| w.bound.client(dns(&["fe01.contoso.test", "fe01.fabrikam.test"])),
        refused("name_constraint", CERTIFICATE_UNKNOWN, "outside the name constraints"),
    ),
    at(
        "limited",
        "a name that its CA is excluded from",
        |w| w.bound.client(dns(&["fe01.contoso.test", "fe01.lab.contoso.test"])),
        refused("name_constraint", CERTIFICATE_UNKNOWN, "outside the name constraints"),
    ),
    at(
        "limited",
        "a common name from a CA with name constraints",
        |w| w.bound.client(common_name("fe01.contoso.test")),
        refused("name_constraint", CERTIFICATE_UNKNOWN, "fe01.contoso.test is a common name"),
    ),
];
