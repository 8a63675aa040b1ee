//! Intel's `crypto_mb` (interface version 2), loaded at run time: the one place that calls it.
#![allow(unsafe_code)]

use std::{ffi::c_int, path::Path, ptr};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};
use zeroize::{Zeroize, Zeroizing};

use super::primitives::{
    AgreeLane, CompleteLane, Curve, KeyPair, LANES, MAX_SCALAR_BYTES, Primitives, RsaPrivateLane,
    RsaPublicLane, RsaSize, SetupLane, Status, VerifyLane, Words,
};

/// The major version whose interface this file speaks.
const INTERFACE: c_int = 2;

/// Scratch space that is more than any RSA method of the library's asks for, bytes.
const MAX_SCRATCH_BYTES: usize = 1 << 20;

type Out = *const *mut u8;
type In = *const *const u8;
type OutWords = *const *mut u64;
type InWords = *const *const u64;
type Method = *const u8;

type X25519Public = unsafe extern "C" fn(Out, In) -> u32;
type X25519 = unsafe extern "C" fn(Out, In, In) -> u32;
type Setup = unsafe extern "C" fn(OutWords, OutWords, InWords, *mut u8) -> u32;
type Complete = unsafe extern "C" fn(Out, Out, In, InWords, InWords, InWords, *mut u8) -> u32;
type Verify = unsafe extern "C" fn(In, In, In, InWords, InWords, InWords, *mut u8) -> u32;
type RsaCall = unsafe extern "C" fn(In, Out, InWords, c_int, Method, *mut u8) -> u32;
type RsaPrivate = unsafe extern "C" fn(
    In,
    Out,
    InWords,
    InWords,
    InWords,
    InWords,
    InWords,
    c_int,
    Method,
    *mut u8,
) -> u32;
type RsaMethod = unsafe extern "C" fn(c_int) -> Method;
type RsaScratch = unsafe extern "C" fn(Method) -> c_int;
type VersionCall = unsafe extern "C" fn() -> *const Version;
type Applicable = unsafe extern "C" fn(u64) -> c_int;

/// What the library says about itself; the rest of its structure isn't read.
#[repr(C)]
struct Version {
    major: c_int,
    minor: c_int,
    patch: c_int,
}

/// Why the library can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not there, not a library, or one for another machine.
    #[error("it can't be loaded: {0}")]
    Open(String),
    /// Something that is called isn't there.
    #[error("it lacks {name}: link it with config/crypto_mb.sh")]
    Symbol {
        /// The function's name.
        name: &'static str,
    },
    /// Another interface than this program speaks.
    #[error("its version is {0}, and this program speaks version {INTERFACE}")]
    Version(String),
    /// The library itself finds nothing to run on.
    #[error("it says that this CPU can't run it")]
    Cpu,
}

struct EcdsaCalls {
    setup: Setup,
    complete: Complete,
    verify: Verify,
}

/// The library. It stays loaded as long as the process lives.
pub(super) struct CryptoMb {
    name: String,
    x25519_public: X25519Public,
    x25519: X25519,
    p256: EcdsaCalls,
    p384: EcdsaCalls,
    rsa_public: RsaCall,
    rsa_private: RsaPrivate,
    rsa_public_method: RsaMethod,
    rsa_private_method: RsaMethod,
    rsa_scratch: RsaScratch,
}

/// Looks up a function and copies its address out of the library.
macro_rules! function {
    ($library:expr, $name:literal) => {{
        // JUSTIFICATION: a symbol of a library has no type, so that naming one is unsafe.
        // SAFETY: the type that the field of `CryptoMb` gives it is the one of the library's
        // headers for this interface version, which is checked before anything else is called.
        let symbol = unsafe { $library.get(concat!($name, "\0").as_bytes()) };
        let symbol: Symbol<_> = symbol.map_err(|_| LoadError::Symbol { name: $name })?;
        *symbol
    }};
}

impl CryptoMb {
    /// Loads the library at `path`. Its results are not to be trusted before they were compared
    /// with known answers.
    ///
    /// # Errors
    /// Why it can't be used. The CPU's features have to be checked before.
    pub(super) fn load(path: &Path) -> Result<Self, LoadError> {
        // JUSTIFICATION: loading a library runs its initialisers.
        // SAFETY: the operator names the file, or it lies where only root writes; what the
        // project links has no initialisers but the compiler's own.
        let library = unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| LoadError::Open(error.to_string()))?;
        let version: VersionCall = function!(library, "mbx_getversion");
        let applicable: Applicable = function!(library, "mbx_is_crypto_mb_applicable");
        // JUSTIFICATION: a foreign function.
        // SAFETY: it takes nothing and returns a pointer to a constant, or null.
        let version = unsafe { version().as_ref() };
        let Some(version) = version else { return Err(LoadError::Version("unknown".into())) };
        let name = format!("{}.{}.{}", version.major, version.minor, version.patch);
        if version.major != INTERFACE {
            return Err(LoadError::Version(name));
        }
        // JUSTIFICATION: a foreign function.
        // SAFETY: it takes a set of CPU features; 0 means those of this CPU.
        if unsafe { applicable(0) } == 0 {
            return Err(LoadError::Cpu);
        }
        let loaded = Self {
            name: format!("crypto_mb {name}"),
            x25519_public: function!(library, "mbx_x25519_public_key_mb8"),
            x25519: function!(library, "mbx_x25519_mb8"),
            p256: EcdsaCalls {
                setup: function!(library, "mbx_nistp256_ecdsa_sign_setup_mb8"),
                complete: function!(library, "mbx_nistp256_ecdsa_sign_complete_mb8"),
                verify: function!(library, "mbx_nistp256_ecdsa_verify_mb8"),
            },
            p384: EcdsaCalls {
                setup: function!(library, "mbx_nistp384_ecdsa_sign_setup_mb8"),
                complete: function!(library, "mbx_nistp384_ecdsa_sign_complete_mb8"),
                verify: function!(library, "mbx_nistp384_ecdsa_verify_mb8"),
            },
            rsa_public: function!(library, "mbx_rsa_public_mb8"),
            rsa_private: function!(library, "mbx_rsa_private_crt_mb8"),
            rsa_public_method: function!(library, "mbx_RSA_pub65537_Method"),
            rsa_private_method: function!(library, "mbx_RSA_private_crt_Method"),
            rsa_scratch: function!(library, "mbx_RSA_Method_BufSize"),
        };
        // The functions are called for as long as the process lives.
        std::mem::forget(library);
        Ok(loaded)
    }

    fn ecdsa(&self, curve: Curve) -> &EcdsaCalls {
        match curve {
            Curve::P256 => &self.p256,
            Curve::P384 => &self.p384,
        }
    }

    /// Finds the method that `find` gives for `size`, and makes the scratch space it asks for.
    fn rsa_method(&self, find: RsaMethod, size: RsaSize) -> Option<(Method, Scratch)> {
        // JUSTIFICATION: foreign functions.
        // SAFETY: the first takes a number of bits and returns a pointer to a constant, or null
        // for a size that it doesn't know; the second reads that constant.
        let (method, bytes) = unsafe {
            let method = find(bits(size));
            (method, if method.is_null() { -1 } else { (self.rsa_scratch)(method) })
        };
        let bytes = usize::try_from(bytes).ok().filter(|&bytes| bytes <= MAX_SCRATCH_BYTES)?;
        Some((method, Scratch::new(bytes)))
    }
}

/// Working space of the library; wiped when dropped.
struct Scratch(Zeroizing<Vec<Line>>);

/// As much of it as has to be aligned.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([u8; 64]);

impl Zeroize for Line {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl Scratch {
    fn new(bytes: usize) -> Self {
        // One line more than asked for: the library aligns what it is given once more.
        Self(Zeroizing::new(vec![Line([0; 64]); bytes.div_ceil(size_of::<Line>()) + 1]))
    }

    fn as_mut_ptr(&mut self) -> *mut u8 {
        self.0.as_mut_ptr().cast()
    }
}

/// The pointers of a call: one for each lane, and those of the first lane again for the lanes that
/// aren't filled; the library computes eight in any case.
fn inputs<L, T>(lanes: &[L], pointer: impl Fn(&L) -> *const T) -> [*const T; LANES] {
    std::array::from_fn(|lane| pointer(lanes.get(lane).unwrap_or(&lanes[0])))
}

/// The same for results: the lanes that aren't filled write to `spare`.
fn outputs<L, T, S>(
    lanes: &mut [L],
    spare: &mut [S; LANES],
    pointer: impl Fn(&mut L) -> *mut T,
    spare_pointer: impl Fn(&mut S) -> *mut T,
) -> [*mut T; LANES] {
    let mut pointers = [ptr::null_mut(); LANES];
    for (lane, (place, spare)) in pointers.iter_mut().zip(spare).enumerate() {
        *place = lanes.get_mut(lane).map_or_else(|| spare_pointer(spare), &pointer);
    }
    pointers
}

/// Where the results of lanes go that aren't filled: they repeat the first lane's, secrets too.
type Spare = Zeroizing<[[u8; MAX_SCALAR_BYTES]; LANES]>;

fn spare() -> Spare {
    Zeroizing::new([[0; MAX_SCALAR_BYTES]; LANES])
}

/// The size as the library takes it; it knows no method for 0 bits.
fn bits(size: RsaSize) -> c_int {
    c_int::try_from(size.bits()).unwrap_or(0)
}

fn is_callable<L>(lanes: &[L]) -> bool {
    (1..=LANES).contains(&lanes.len())
}

impl Primitives for CryptoMb {
    fn name(&self) -> &str {
        &self.name
    }

    fn x25519_public(&self, lanes: &mut [KeyPair]) -> Status {
        if !is_callable(lanes) {
            return Status::ALL_FAILED;
        }
        let mut unused = spare();
        let secrets = inputs(lanes, |lane| lane.secret.as_ptr());
        let publics = outputs(lanes, &mut unused, |l| l.public.as_mut_ptr(), |s| s.as_mut_ptr());
        // JUSTIFICATION: a foreign function.
        // SAFETY: it reads eight pointers from each array, 32 bytes from each secret, and writes
        // 32 bytes to each public key; all of them outlive the call, and no two results overlap.
        Status(unsafe { (self.x25519_public)(publics.as_ptr(), secrets.as_ptr()) })
    }

    fn x25519(&self, lanes: &mut [AgreeLane<'_>]) -> Status {
        if !is_callable(lanes) {
            return Status::ALL_FAILED;
        }
        let mut unused = spare();
        let secrets = inputs(lanes, |lane| lane.secret.as_ptr());
        let peers = inputs(lanes, |lane| lane.peer.as_ptr());
        let shared = outputs(lanes, &mut unused, |l| l.shared.as_mut_ptr(), |s| s.as_mut_ptr());
        // JUSTIFICATION: a foreign function.
        // SAFETY: it reads eight pointers from each array, 32 bytes from each secret and share,
        // and writes 32 bytes to each result; all of them outlive the call, and no two results
        // overlap.
        Status(unsafe { (self.x25519)(shared.as_ptr(), secrets.as_ptr(), peers.as_ptr()) })
    }

    fn ecdsa_setup(&self, curve: Curve, lanes: &mut [SetupLane]) -> Status {
        if !is_callable(lanes) {
            return Status::ALL_FAILED;
        }
        let mut unused: [[Words; 2]; LANES] = std::array::from_fn(|_| [Words::ZERO, Words::ZERO]);
        let nonces = inputs(lanes, |lane| lane.nonce.0.as_ptr());
        let inverses =
            outputs(lanes, &mut unused, |l| l.inverse.0.as_mut_ptr(), |s| s[0].0.as_mut_ptr());
        let r = outputs(lanes, &mut unused, |l| l.r.0.as_mut_ptr(), |s| s[1].0.as_mut_ptr());
        // JUSTIFICATION: a foreign function.
        // SAFETY: it reads eight pointers from each array, and reads and writes as many words as
        // the curve's numbers have, at most six, which is what each has room for; all of them
        // outlive the call, and no two results overlap. Null scratch space is allowed.
        Status(unsafe {
            (self.ecdsa(curve).setup)(
                inverses.as_ptr(),
                r.as_ptr(),
                nonces.as_ptr(),
                ptr::null_mut(),
            )
        })
    }

    fn ecdsa_complete(&self, curve: Curve, lanes: &mut [CompleteLane<'_>]) -> Status {
        if !is_callable(lanes) {
            return Status::ALL_FAILED;
        }
        let (mut unused_r, mut unused_s) = (spare(), spare());
        let digests = inputs(lanes, |lane| lane.digest.as_ptr());
        let prepared = inputs(lanes, |lane| lane.prepared.0.as_ptr());
        let inverses = inputs(lanes, |lane| lane.inverse.0.as_ptr());
        let keys = inputs(lanes, |lane| lane.key.0.as_ptr());
        let r = outputs(lanes, &mut unused_r, |l| l.r.as_mut_ptr(), |s| s.as_mut_ptr());
        let s = outputs(lanes, &mut unused_s, |l| l.s.as_mut_ptr(), |s| s.as_mut_ptr());
        // JUSTIFICATION: a foreign function.
        // SAFETY: it reads eight pointers from each array, and reads and writes as many bytes or
        // words as the curve's numbers have, at most 48 bytes or six words, which is what each
        // has room for; all of them outlive the call, and no two results overlap. Null scratch
        // space is allowed.
        Status(unsafe {
            (self.ecdsa(curve).complete)(
                r.as_ptr(),
                s.as_ptr(),
                digests.as_ptr(),
                prepared.as_ptr(),
                inverses.as_ptr(),
                keys.as_ptr(),
                ptr::null_mut(),
            )
        })
    }

    fn ecdsa_verify(&self, curve: Curve, lanes: &[VerifyLane<'_>]) -> Status {
        if !is_callable(lanes) {
            return Status::ALL_FAILED;
        }
        let r = inputs(lanes, |lane| lane.r.as_ptr());
        let s = inputs(lanes, |lane| lane.s.as_ptr());
        let digests = inputs(lanes, |lane| lane.digest.as_ptr());
        let x = inputs(lanes, |lane| lane.x.0.as_ptr());
        let y = inputs(lanes, |lane| lane.y.0.as_ptr());
        // JUSTIFICATION: a foreign function.
        // SAFETY: it reads eight pointers from each array, and as many bytes or words as the
        // curve's numbers have, at most 48 bytes or six words, which is what each has; it writes
        // nothing. A null third coordinate means affine points; null scratch space is allowed.
        Status(unsafe {
            (self.ecdsa(curve).verify)(
                r.as_ptr(),
                s.as_ptr(),
                digests.as_ptr(),
                x.as_ptr(),
                y.as_ptr(),
                ptr::null(),
                ptr::null_mut(),
            )
        })
    }

    fn rsa_private(&self, size: RsaSize, lanes: &mut [RsaPrivateLane<'_>]) -> Status {
        let bytes = size.bits() / 8;
        let fits = lanes.iter().all(|lane| {
            lane.key.fits(size) && lane.input.len() == bytes && lane.output.len() == bytes
        });
        let found = self.rsa_method(self.rsa_private_method, size);
        let Some((method, mut scratch)) = found.filter(|_| fits && is_callable(lanes)) else {
            return Status::ALL_FAILED;
        };
        let mut unused: [_; LANES] = std::array::from_fn(|_| Zeroizing::new(vec![0_u8; bytes]));
        let from = inputs(lanes, |lane| lane.input.as_ptr());
        let p = inputs(lanes, |lane| lane.key.p.as_ptr());
        let q = inputs(lanes, |lane| lane.key.q.as_ptr());
        let dp = inputs(lanes, |lane| lane.key.dp.as_ptr());
        let dq = inputs(lanes, |lane| lane.key.dq.as_ptr());
        let inverse = inputs(lanes, |lane| lane.key.q_inverse.as_ptr());
        let to = outputs(lanes, &mut unused, |l| l.output.as_mut_ptr(), |s| s.as_mut_ptr());
        // JUSTIFICATION: a foreign function.
        // SAFETY: it reads eight pointers from each array, as many bytes as the modulus has from
        // each input, half as many from each number of the key, and writes as many as the modulus
        // has to each output, all checked above; all of them outlive the call, and no two outputs
        // overlap. The scratch space has the size that the method asks for.
        Status(unsafe {
            (self.rsa_private)(
                from.as_ptr(),
                to.as_ptr(),
                p.as_ptr(),
                q.as_ptr(),
                dp.as_ptr(),
                dq.as_ptr(),
                inverse.as_ptr(),
                bits(size),
                method,
                scratch.as_mut_ptr(),
            )
        })
    }

    fn rsa_public(&self, size: RsaSize, lanes: &mut [RsaPublicLane<'_>]) -> Status {
        let bytes = size.bits() / 8;
        let fits = lanes.iter().all(|lane| {
            lane.modulus.len() == size.bits() / 64
                && lane.input.len() == bytes
                && lane.output.len() == bytes
        });
        let found = self.rsa_method(self.rsa_public_method, size);
        let Some((method, mut scratch)) = found.filter(|_| fits && is_callable(lanes)) else {
            return Status::ALL_FAILED;
        };
        let mut unused: [_; LANES] = std::array::from_fn(|_| vec![0_u8; bytes]);
        let from = inputs(lanes, |lane| lane.input.as_ptr());
        let modulus = inputs(lanes, |lane| lane.modulus.as_ptr());
        let to = outputs(lanes, &mut unused, |l| l.output.as_mut_ptr(), |s| s.as_mut_ptr());
        // JUSTIFICATION: a foreign function.
        // SAFETY: it reads eight pointers from each array, as many bytes as the modulus has from
        // each input and modulus, and writes as many to each output, all checked above; all of
        // them outlive the call, and no two outputs overlap. The scratch space has the size that
        // the method asks for.
        Status(unsafe {
            (self.rsa_public)(
                from.as_ptr(),
                to.as_ptr(),
                modulus.as_ptr(),
                bits(size),
                method,
                scratch.as_mut_ptr(),
            )
        })
    }
}
