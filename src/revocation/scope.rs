//! Which certificates a CRL is about: its issuingDistributionPoint (RFC 5280 §5.2.5).

use super::{
    CrlError, Link,
    der::{Reader, SEQUENCE, boolean, constructed, context},
};

/// URIs in one issuingDistributionPoint.
const MAX_URIS: usize = 32;

/// Which certificates of its issuer a CRL speaks for. Two CRLs of one issuer and equal scopes are
/// an older and a newer one of the same; with different scopes they stand side by side.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scope {
    /// Sorted; `None` without distributionPoint.
    uris: Option<Box<[Box<str>]>>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kind {
    #[default]
    All,
    /// onlyContainsUserCerts
    Users,
    /// onlyContainsCACerts
    Cas,
}

impl Scope {
    /// Reads the contents of the extension.
    pub(super) fn parse(extension: &[u8]) -> Result<Self, CrlError> {
        const WHAT: &str = "its issuing distribution point";
        const MALFORMED: CrlError = CrlError::Malformed(WHAT);

        let mut outer = Reader::new(extension);
        let mut fields = outer.inside(SEQUENCE, WHAT)?;
        outer.end(WHAT)?;
        // RFC 5280 §5.2.5: never empty.
        if fields.is_empty() {
            return Err(MALFORMED);
        }
        let point = fields.optional(constructed(0), WHAT)?;
        let flag = |tag, fields: &mut Reader<'_>| -> Result<bool, CrlError> {
            let value = fields.optional(context(tag), WHAT)?;
            value.map_or(Ok(false), |value| boolean(value, WHAT))
        };
        let only_users = flag(1, &mut fields)?;
        let only_cas = flag(2, &mut fields)?;
        let some_reasons = fields.optional(context(3), WHAT)?.is_some();
        let indirect = flag(4, &mut fields)?;
        let only_attributes = flag(5, &mut fields)?;
        fields.end(WHAT)?;

        if indirect {
            return Err(CrlError::Indirect);
        }
        if some_reasons {
            return Err(CrlError::SomeReasons);
        }
        if only_attributes {
            return Err(CrlError::AttributeCertificates);
        }
        let kind = match (only_users, only_cas) {
            (false, false) => Kind::All,
            (true, false) => Kind::Users,
            (false, true) => Kind::Cas,
            (true, true) => return Err(MALFORMED),
        };
        let uris = point.map(|point| uris(point, WHAT)).transpose()?;
        Ok(Self { uris, kind })
    }

    /// Whether a CRL of this scope answers for a certificate (RFC 5280 §6.3.3 (b)(2)): one name of
    /// its distribution point is, octet by octet, one of the certificate's, and the certificate is
    /// of the kind that it lists.
    pub(super) fn covers(&self, link: &Link) -> bool {
        let of_kind = match self.kind {
            Kind::All => true,
            Kind::Users => !link.is_ca,
            Kind::Cas => link.is_ca,
        };
        let is_named = || {
            self.uris.as_ref().is_none_or(|uris| {
                link.distribution_points.iter().any(|point| uris.contains(point))
            })
        };
        of_kind && is_named()
    }

    /// For messages: nothing for a CRL about all certificates.
    pub(super) fn describe(&self) -> String {
        let kind = match self.kind {
            Kind::All => "",
            Kind::Users => "end-entity certificates only",
            Kind::Cas => "CA certificates only",
        };
        let uri = self.uris.as_ref().and_then(|uris| uris.first()).map_or("", |uri| uri);
        let separator = if kind.is_empty() || uri.is_empty() { "" } else { ", " };
        format!("{kind}{separator}{uri}")
    }
}

/// The URIs of a DistributionPointName. Names of other kinds are left out: certificates are only
/// known by their URIs, and a CRL that has none can match no certificate.
fn uris(point: &[u8], what: &'static str) -> Result<Box<[Box<str>]>, CrlError> {
    let mut point = Reader::new(point);
    // nameRelativeToCRLIssuer is the other choice.
    let Some(names) = point.optional(constructed(0), what)? else {
        return Err(CrlError::ScopeWithoutUri);
    };
    point.end(what)?;
    let mut names = Reader::new(names);
    let mut uris: Vec<Box<str>> = Vec::new();
    while !names.is_empty() {
        let name = names.any().ok_or(CrlError::Malformed(what))?;
        // uniformResourceIdentifier, an IA5String
        if name.tag == context(6) {
            let uri = str::from_utf8(name.value)
                .ok()
                .filter(|uri| uri.bytes().all(|byte| byte.is_ascii_graphic()));
            uris.push(uri.ok_or(CrlError::Malformed(what))?.into());
        }
        if uris.len() > MAX_URIS {
            return Err(CrlError::Malformed("its issuing distribution point has too many names"));
        }
    }
    if uris.is_empty() {
        return Err(CrlError::ScopeWithoutUri);
    }
    uris.sort_unstable();
    uris.dedup();
    Ok(uris.into_boxed_slice())
}
