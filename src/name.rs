//! Names that certificates carry, and the patterns that the configuration lists.
//!
//! Pure code, shared by the configuration (which parses patterns) and the trust decision
//! (which matches them).

use std::fmt;

/// A pattern of the configuration for names in certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern(String);

impl NamePattern {
    /// Parses what the configuration says; the error says what would be accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }

    /// Whether every name that `self` matches is matched by `other` too.
    pub fn is_within(&self, other: &Self) -> bool {
        self == other
    }

    /// Whether some name is matched by both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self == other
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
