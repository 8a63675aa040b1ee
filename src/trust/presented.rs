//! The chain as a client showed it: capped before anything is done with it, then parsed.

use rustls_pki_types::CertificateDer;

use super::{
    Identity, Refusal, Refused,
    certificate::Certificate,
    witness::{Check, Witness},
};

/// Certificates that a client may show beside its own. Real chains have one to three.
const MAX_INTERMEDIATES: usize = 8;

/// Bytes of all certificates together. Real chains have 1 to 8 KiB; post-quantum signatures make
/// them some 20.
const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// Certificates of one subject among the intermediates: a CA and its cross-certificate. More
/// make the search for a path branch at every step.
const MAX_SAME_SUBJECT: usize = 2;

/// Intermediates beyond the first of their subject, altogether. Each doubles the paths that the
/// search may have to try, and each path of a stranger costs the check of a signature.
const MAX_REPEATED_SUBJECTS: usize = 2;

/// What a client showed.
pub(super) struct Presented<'a> {
    pub(super) leaf: Certificate<'a>,
    /// What the leaf says about itself.
    pub(super) identity: Identity,
    /// The others, each once.
    pub(super) intermediates: Vec<Certificate<'a>>,
}

impl<'a> Presented<'a> {
    /// Caps and parses a chain; its first certificate is the client's own.
    pub(super) fn parse(
        leaf: &'a CertificateDer<'_>,
        others: &'a [CertificateDer<'_>],
        witness: &impl Witness,
    ) -> Result<Self, Refused> {
        witness.check(Check::Size, check_size(leaf, others), |bytes| {
            format!(
                "{bytes} bytes of at most {MAX_CHAIN_BYTES}, {} intermediate certificates of at \
                 most {MAX_INTERMEDIATES}",
                others.len()
            )
        })?;
        witness.check(Check::Form, Self::parse_all(leaf, others), |presented| {
            let different = presented.intermediates.len();
            format!("well-formed; {different} intermediate certificates to build a path with")
        })
    }

    fn parse_all(
        leaf: &'a CertificateDer<'_>,
        others: &'a [CertificateDer<'_>],
    ) -> Result<Self, Refused> {
        let malformed = |which: &str, why: &dyn std::fmt::Display| {
            Refused::new(Refusal::Malformed, format!("the client's {which} is malformed: {why}"))
        };
        let own = Certificate::parse(leaf).map_err(|why| malformed("certificate", &why))?;
        let identity = Identity::of(&own).map_err(|why| malformed("certificate", &why))?;
        let mut intermediates: Vec<Certificate<'a>> = Vec::with_capacity(others.len());
        let mut repeated_subjects = 0;
        for (index, der) in others.iter().enumerate() {
            if der == leaf || others[..index].contains(der) {
                continue;
            }
            let certificate = Certificate::parse(der)
                .map_err(|why| malformed("intermediate certificate", &why).of(identity.clone()))?;
            let same_subject = intermediates
                .iter()
                .filter(|other| other.raw_subject() == certificate.raw_subject())
                .count();
            if same_subject >= MAX_SAME_SUBJECT {
                let detail = format!(
                    "the client sent more than {MAX_SAME_SUBJECT} intermediate certificates for \
                     {}",
                    certificate.subject()
                );
                return Err(Refused::new(Refusal::ChainTooLong, detail).of(identity));
            }
            repeated_subjects += usize::from(same_subject > 0);
            if repeated_subjects > MAX_REPEATED_SUBJECTS {
                let detail = format!(
                    "the client sent two intermediate certificates for each of more than \
                     {MAX_REPEATED_SUBJECTS} subjects; it should send only those of its own path"
                );
                return Err(Refused::new(Refusal::ChainTooLong, detail).of(identity));
            }
            intermediates.push(certificate);
        }
        Ok(Self { leaf: own, identity, intermediates })
    }

    /// The leaf and the intermediates.
    pub(super) fn all(&self) -> impl Iterator<Item = &Certificate<'a>> {
        std::iter::once(&self.leaf).chain(&self.intermediates)
    }

    /// Where the chain leads to from the leaf, as text: the issuer whose own certificate wasn't
    /// sent, or that issued it itself.
    pub(super) fn last_issuer(&self) -> String {
        let mut current = &self.leaf;
        // No path is longer than all certificates; rings of cross-certificates end here.
        for _ in 0..self.intermediates.len() {
            let issuer = self.intermediates.iter().find(|candidate| {
                candidate.raw_subject() == current.raw_issuer()
                    && candidate.raw_subject() != current.raw_subject()
            });
            match issuer {
                Some(issuer) => current = issuer,
                None => break,
            }
        }
        current.issuer()
    }
}

/// The bytes of all certificates together.
fn check_size(leaf: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<usize, Refused> {
    if others.len() > MAX_INTERMEDIATES {
        return Err(Refused::new(
            Refusal::ChainTooLong,
            format!(
                "the client sent {} intermediate certificates; at most {MAX_INTERMEDIATES} are \
                 looked at",
                others.len()
            ),
        ));
    }
    let bytes = leaf.len() + others.iter().map(|der| der.len()).sum::<usize>();
    if bytes > MAX_CHAIN_BYTES {
        return Err(Refused::new(
            Refusal::ChainTooLong,
            format!(
                "the client sent {bytes} bytes of certificates; at most {MAX_CHAIN_BYTES} are \
                 looked at"
            ),
        ));
    }
    Ok(bytes)
}
