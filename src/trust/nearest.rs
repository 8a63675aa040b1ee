//! The listed name that a refused one comes closest to, for the operator who mistyped it.

use std::sync::Arc;

use crate::name::PeerName;

use super::rules::Rules;

/// Edits between two names that are still called near.
const MAX_EDITS: usize = 8;

/// Names of one certificate that are looked at.
const MAX_NAMES: usize = 4;

/// Listed names that are looked at. With [`MAX_EDITS`] and the length of names this bounds the
/// work to a few milliseconds, and only for certificates that an admitted CA has issued.
const MAX_LISTED: usize = 1024;

/// A listed name that is similar to one of a certificate.
#[derive(Debug)]
pub(super) struct Nearest {
    pub(super) listed: String,
    /// NAME of the `[peers.NAME]` that lists it.
    pub(super) peers: Arc<str>,
}

/// The nearest listed name; `None` if nothing is similar.
pub(super) fn listed(rules: &Rules, names: &[PeerName]) -> Option<Nearest> {
    let presented: Vec<String> = names.iter().take(MAX_NAMES).map(PeerName::to_string).collect();
    let mut best: Option<(usize, Nearest)> = None;
    let listed = rules.iter().flat_map(|rule| rule.set.names.iter().map(move |name| (rule, name)));
    for (rule, pattern) in listed.take(MAX_LISTED) {
        let text = pattern.to_string();
        for name in &presented {
            let similar = (text.len().min(name.len()) / 3).min(MAX_EDITS);
            let limit = best.as_ref().map_or(similar, |(edits, _)| similar.min(edits - 1));
            if let Some(edits) = distance(name.as_bytes(), text.as_bytes(), limit) {
                let peers = rule.set.name.clone();
                best = Some((edits, Nearest { listed: text.clone(), peers }));
                if edits <= 1 {
                    return best.map(|(_, nearest)| nearest);
                }
            }
        }
    }
    best.map(|(_, nearest)| nearest)
}

/// Levenshtein's distance, if it is at most `limit`: only the diagonal band of this width is
/// computed.
fn distance(a: &[u8], b: &[u8], limit: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > limit {
        return None;
    }
    let far = limit + 1;
    let mut above: Vec<usize> = (0..=b.len()).map(|j| j.min(far)).collect();
    let mut row = vec![far; b.len() + 1];
    for (i, &from) in a.iter().enumerate() {
        let first = i.saturating_sub(limit);
        let last = (i + limit + 1).min(b.len());
        row[first] = if first == 0 { (i + 1).min(far) } else { far };
        for j in first..last {
            let replaced = above[j] + usize::from(from != b[j]);
            row[j + 1] = replaced.min(above[j + 1] + 1).min(row[j] + 1).min(far);
        }
        if last < b.len() {
            row[last + 1] = far;
        }
        if row[first..=last].iter().all(|&edits| edits >= far) {
            return None;
        }
        std::mem::swap(&mut above, &mut row);
    }
    Some(above[b.len()]).filter(|&edits| edits <= limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::distance;

    /// The textbook matrix.
    fn reference(a: &[u8], b: &[u8]) -> usize {
        let mut matrix = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..=a.len() {
            for j in 0..=b.len() {
                matrix[i][j] = match (i, j) {
                    (0, _) => j,
                    (_, 0) => i,
                    _ => (matrix[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]))
                        .min(matrix[i - 1][j] + 1)
                        .min(matrix[i][j - 1] + 1),
                };
            }
        }
        matrix[a.len()][b.len()]
    }

    proptest! {
        #[test]
        fn the_banded_distance_is_the_distance_up_to_its_limit(
            a in "[abc]{0,12}", b in "[abc]{0,12}", limit in 0_usize..9,
        ) {
            let expected = reference(a.as_bytes(), b.as_bytes());
            prop_assert_eq!(
                distance(a.as_bytes(), b.as_bytes(), limit),
                (expected <= limit).then_some(expected)
            );
        }
    }
}
