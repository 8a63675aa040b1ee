//! Sizes and rates as people write them.

use std::{fmt, str::FromStr};

/// A number of bytes: `512`, `512B`, `16kB` (1000), `1KiB` (1024), `4MiB`, `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text);
        let factor: u64 = match unit {
            "" | "B" => 1,
            "kB" | "KB" => 1_000,
            "KiB" => 1 << 10,
            "MB" => 1_000_000,
            "MiB" => 1 << 20,
            "GB" => 1_000_000_000,
            "GiB" => 1 << 30,
            other => {
                return Err(format!(
                    "`{other}` isn't a unit of size: use B, kB, KiB, MB, MiB, GB or GiB"
                ));
            }
        };
        let whole: u64 =
            number.parse().map_err(|_| format!("`{text}` isn't a size such as 1KiB"))?;
        whole.checked_mul(factor).map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1u64 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Operations a second: `5000`, `5000/s`, `2.5k/s`, `300/m`; finite and above zero.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Rate(f64);

impl Rate {
    /// Operations a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, unit) = split_number(text);
        let factor = match unit {
            "" | "/s" => 1.0,
            "k" | "k/s" => 1_000.0,
            "/m" => 1.0 / 60.0,
            other => {
                return Err(format!("`{other}` isn't a unit of rate: use /s, k/s or /m"));
            }
        };
        let value: f64 =
            number.parse().map_err(|_| format!("`{text}` isn't a rate such as 5000/s"))?;
        let rate = value * factor;
        if rate.is_finite() && rate > 0.0 {
            Ok(Self(rate))
        } else {
            Err(format!("`{text}` must be above zero"))
        }
    }
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_and_decimal_units_differ() {
        assert_eq!("1KiB".parse(), Ok(ByteSize(1024)));
        assert_eq!("1kB".parse(), Ok(ByteSize(1000)));
        assert_eq!("17".parse(), Ok(ByteSize(17)));
        assert_eq!("3 MiB".parse(), Ok(ByteSize(3 << 20)));
    }

    #[test]
    fn a_size_that_makes_no_sense_is_refused_with_what_would_be_accepted() {
        assert!("1Kb".parse::<ByteSize>().is_err_and(|e| e.contains("KiB")));
        assert!("-1".parse::<ByteSize>().is_err());
        assert!("".parse::<ByteSize>().is_err());
        assert!("1.5KiB".parse::<ByteSize>().is_err());
        assert!("99999999999GiB".parse::<ByteSize>().is_err_and(|e| e.contains("too large")));
    }

    #[test]
    fn a_size_prints_as_it_would_be_written() {
        assert_eq!(ByteSize(1024).to_string(), "1KiB");
        assert_eq!(ByteSize(1000).to_string(), "1000B");
        assert_eq!(ByteSize(3 << 20).to_string(), "3MiB");
    }

    #[test]
    fn rates_are_normalised_to_a_second() {
        assert_eq!("5000".parse(), Ok(Rate(5000.0)));
        assert_eq!("2.5k/s".parse(), Ok(Rate(2500.0)));
        assert_eq!("300/m".parse(), Ok(Rate(5.0)));
    }

    #[test]
    fn a_rate_of_zero_or_without_a_number_is_refused() {
        assert!("0".parse::<Rate>().is_err());
        assert!("/s".parse::<Rate>().is_err());
        assert!("5/h".parse::<Rate>().is_err());
    }
}
