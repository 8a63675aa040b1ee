//! What is made ahead of its use, eight at a time: X25519 key pairs, and the nonces of ECDSA.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::{
    Failed,
    primitives::{Curve, KeyPair, MAX_SCALAR_BYTES, SetupLane, Words},
};

/// How often a random number may lie outside of its range before something must be wrong: each
/// time has a probability of less than 2⁻³¹ (P-256) or 2⁻¹⁸⁹ (P-384).
const MAX_DRAWS: u32 = 8;

/// What one signature needs of its nonce. It can't be copied, so that it is used once.
pub(super) struct Prepared {
    pub(super) inverse: Box<Words>,
    pub(super) r: Words,
}

impl From<SetupLane> for Prepared {
    fn from(SetupLane { inverse, r, .. }: SetupLane) -> Self {
        Self { inverse, r }
    }
}

/// A stock of both, of one worker; each is handed out once, and wiped when it has been used or
/// the stock is dropped. A process that forks must not use one in both halves: this one doesn't.
#[derive(Default)]
pub struct Ahead {
    pub(super) key_pairs: Vec<KeyPair>,
    p256: Vec<Prepared>,
    p384: Vec<Prepared>,
}

impl Ahead {
    pub(super) fn prepared(&mut self, curve: Curve) -> &mut Vec<Prepared> {
        match curve {
            Curve::P256 => &mut self.p256,
            Curve::P384 => &mut self.p384,
        }
    }
}

/// A nonce in 1..order, each with the same probability (FIPS 186-5 §A.3.2).
pub(super) fn nonce(curve: Curve) -> Result<Box<Words>, Failed> {
    draw(curve, |bytes| rand::fill(bytes).map_err(|_| Failed))
}

/// The first number in range of those that `fill` gives.
fn draw(
    curve: Curve,
    mut fill: impl FnMut(&mut [u8]) -> Result<(), Failed>,
) -> Result<Box<Words>, Failed> {
    for _ in 0..MAX_DRAWS {
        let mut bytes = Zeroizing::new([0; MAX_SCALAR_BYTES]);
        let bytes = &mut bytes[..curve.bytes()];
        fill(bytes)?;
        let nonce = Words::secret_from_be_bytes(bytes);
        if nonce.is_below(curve.order()) && !nonce.is_zero() {
            return Ok(nonce);
        }
    }
    Err(Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order's bytes, big-endian, plus `add` in the last one.
    fn order(curve: Curve, add: i8) -> Vec<u8> {
        let words = curve.order().0;
        let mut bytes: Vec<u8> = words.iter().rev().flat_map(|word| word.to_be_bytes()).collect();
        bytes.drain(..MAX_SCALAR_BYTES - curve.bytes());
        let last = bytes.last_mut().unwrap();
        *last = last.wrapping_add_signed(add);
        bytes
    }

    #[test]
    fn a_nonce_out_of_range_is_drawn_again_rather_than_reduced() {
        for curve in Curve::ALL {
            let length = curve.bytes();
            let mut draws =
                vec![order(curve, -1), vec![0; length], order(curve, 0), vec![0xff; length]];
            let found = draw(curve, |bytes| {
                bytes.copy_from_slice(&draws.pop().unwrap());
                Ok(())
            })
            .unwrap();
            assert!(*found == Words::from_be_bytes(&order(curve, -1)) && draws.is_empty());
        }
    }

    #[test]
    fn a_source_that_never_gives_a_nonce_is_given_up() {
        let mut draws = 0;
        let found = draw(Curve::P256, |bytes| {
            draws += 1;
            bytes.fill(0xff);
            Ok(())
        });
        assert!(found.is_err() && draws == MAX_DRAWS);
    }
}
