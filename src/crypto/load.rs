//! Which library is used, if any, and why not.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Engine, LoadError, Thresholds, Untrue, mb::CryptoMb, measure, selftest};

/// Where `auto` looks, in this order: paths that only root writes to.
pub(super) const SYSTEM_PATHS: [&str; 4] = [
    "/usr/local/lib/countersign/libcrypto_mb.so",
    "/usr/lib/countersign/libcrypto_mb.so",
    "/usr/local/lib/libcrypto_mb.so",
    "/usr/lib/x86_64-linux-gnu/libcrypto_mb.so",
];

/// Permission to write for group or others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Which multi-buffer library to use.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Choice {
    /// The first that is found in a few folders of the system, or none.
    #[default]
    Auto,
    /// None.
    Off,
    /// This file, by its absolute path.
    File(PathBuf),
}

/// Who verifies the signatures by which clients prove that they have their keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verifying {
    /// aws-lc-rs, one by one: no fault of the library can let anybody in.
    #[default]
    AwsLcRs,
    /// The library as well, with canaries in each batch.
    CryptoMb,
}

/// Why operations are carried out one by one.
#[derive(Debug, thiserror::Error)]
pub enum WhyNot {
    /// The operator says so.
    #[error("it is off")]
    Off,
    /// There is no library where one is looked for.
    #[error(
        "there is no libcrypto_mb.so in {}; config/crypto_mb.sh of the source links one",
        SYSTEM_PATHS.join(", ")
    )]
    Missing,
    /// The CPU lacks an instruction set.
    #[error("this CPU has no {0}")]
    Cpu(&'static str),
    /// The path depends on the folder that the process was started in.
    #[error("{}: not an absolute path", .0.display())]
    Relative(PathBuf),
    /// The file can't be looked at.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Others could put their own code into this process.
    #[error(
        "{}: others than root and this user may write it: chown root and chmod go-w it",
        .0.display()
    )]
    Writable(PathBuf),
    /// The file is no library of the right kind.
    #[error("{}: {error}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Why.
        error: LoadError,
    },
    /// The library fails its test.
    #[error("{}: {error}, so it is not used", path.display())]
    Untrue {
        /// The file.
        path: PathBuf,
        /// What it computes wrong.
        error: Untrue,
    },
}

impl Engine {
    /// Loads a library, tests it, and measures from how many lanes on it pays.
    ///
    /// # Errors
    /// Why there is none to use; [`Engine::scalar`] is what is left.
    pub fn load(choice: &Choice) -> Result<Self, WhyNot> {
        let path = match choice {
            Choice::Off => return Err(WhyNot::Off),
            Choice::File(path) => path.as_path(),
            Choice::Auto => SYSTEM_PATHS
                .iter()
                .map(Path::new)
                .find(|path| path.exists())
                .ok_or(WhyNot::Missing)?,
        };
        let library = open(path)?;
        selftest::run(&library, || ())
            .map_err(|error| WhyNot::Untrue { path: path.to_owned(), error })?;
        let engine = Self::with(Box::new(library), Thresholds::ALWAYS);
        let thresholds = measure::thresholds(&engine);
        Ok(engine.with_thresholds(thresholds))
    }

    /// Leaves verifications to whom the operator trusts with them.
    pub fn verifying_by(self, verifying: Verifying) -> Self {
        match (self.thresholds(), verifying) {
            (Some(thresholds), Verifying::AwsLcRs) => {
                self.with_thresholds(Thresholds { verify: Thresholds::NEVER.verify, ..thresholds })
            }
            _ => self,
        }
    }

    /// Puts the questions of the start again, with `breath` between two of them; a wrong answer
    /// switches the library off for good.
    pub fn test_again(&self, breath: impl Fn()) {
        if let Some(Err(untrue)) = self.library().map(|library| selftest::run(library, breath)) {
            self.switch_off(&format!("of its self-test: {untrue}"));
        }
    }
}

/// Looks at the CPU and at the file before anything of the file is run.
fn open(path: &Path) -> Result<CryptoMb, WhyNot> {
    let features = [
        ("AVX-512F", std::arch::is_x86_feature_detected!("avx512f")),
        ("AVX-512DQ", std::arch::is_x86_feature_detected!("avx512dq")),
        ("AVX-512BW", std::arch::is_x86_feature_detected!("avx512bw")),
        ("AVX-512IFMA", std::arch::is_x86_feature_detected!("avx512ifma")),
        ("AVX-512VBMI2", std::arch::is_x86_feature_detected!("avx512vbmi2")),
        ("BMI2", std::arch::is_x86_feature_detected!("bmi2")),
    ];
    if let Some((missing, _)) = features.into_iter().find(|(_, there)| !there) {
        return Err(WhyNot::Cpu(missing));
    }
    if !path.is_absolute() {
        return Err(WhyNot::Relative(path.to_owned()));
    }
    let of_file = |error| WhyNot::File { path: path.to_owned(), error };
    let file = fs::metadata(path).map_err(of_file)?;
    let us = fs::metadata("/proc/self").map_err(of_file)?.uid();
    if file.mode() & WRITABLE_BY_OTHERS != 0 || (file.uid() != 0 && file.uid() != us) {
        return Err(WhyNot::Writable(path.to_owned()));
    }
    CryptoMb::load(path).map_err(|error| WhyNot::Load { path: path.to_owned(), error })
}
