//! One generation of the configuration, ready to serve; replaced whole by a reload.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustls::ServerConfig;
use rustls_pki_types::UnixTime;

use crate::{
    backend::Backend,
    config::{Config, Listener, TrustProfile},
    crls::{self, Stamps},
    handshake,
    metrics::{BackendMetrics, ListenerMetrics, Metrics},
    quota::{Quotas, Usage},
    resumption::SessionStore,
    revocation::Stores,
    sessions::{SessionLimits, Terms},
    shadow::{Candidate, Shadow},
    trust::{Policy, PolicyError, Refusal},
};

/// One listener of a generation with all that its connections need.
#[derive(Debug)]
pub struct Service {
    /// What the configuration says.
    pub config: Arc<Listener>,
    /// Who is admitted.
    pub policy: Arc<Policy>,
    /// What a candidate configuration makes of its clients, if one is tried.
    pub shadow: Option<Arc<Shadow>>,
    /// rustls' configuration.
    pub tls: Arc<ServerConfig>,
    /// One of its keys is an RSA key.
    pub signs_by_rsa: bool,
    /// How much each peer set may use.
    pub quotas: Arc<Quotas>,
    /// Where plaintext goes.
    pub backend: Arc<Backend>,
    /// Where it is counted.
    pub metrics: Arc<ListenerMetrics>,
    /// How long its connections may do what.
    pub limits: SessionLimits,
    /// How long a connection that has lost its authorisation may go on where it drains.
    pub drain_timeout: Duration,
    /// Whether a line is logged for each connection that ends.
    pub log_connections: bool,
}

impl Service {
    /// What its live connections are held to, from the beginning on and whenever it changes.
    pub fn terms(&self) -> Terms {
        Terms {
            policy: self.policy.clone(),
            enforce: self.config.enforce,
            quotas: self.quotas.clone(),
            drain_timeout: self.drain_timeout,
            metrics: self.metrics.clone(),
        }
    }
}

/// One generation of the configuration.
#[derive(Debug)]
pub struct Generation {
    /// Counts from 1.
    pub number: u64,
    /// What it was made from.
    pub config: Arc<Config>,
    /// Its listeners, in the order of the configuration.
    pub services: Vec<Arc<Service>>,
    /// The CRLs of each trust profile.
    pub stores: Stores,
    /// The CRLs of each trust profile of the candidate, if one is tried; the very stores of the
    /// profiles that serve where these say the same of revocation.
    pub candidate_stores: Stores,
    /// What the files of CRLs looked like when they were read, those of the candidate included.
    pub crl_stamps: Stamps,
}

/// A valid configuration that can't be served; each is a gap in the configuration's checks.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// The trust profiles of a listener don't make a policy.
    #[error("listener {listener}: {error}")]
    Policy {
        /// Its name.
        listener: Arc<str>,
        /// What is wrong.
        error: PolicyError,
    },
    /// The trust profiles of a listener of the candidate don't make a policy.
    #[error("the candidate {}: listener {listener}: {error}", file.display())]
    Candidate {
        /// The candidate's file.
        file: PathBuf,
        /// The listener's name.
        listener: Arc<str>,
        /// What is wrong.
        error: PolicyError,
    },
    /// rustls refuses the TLS settings of a listener.
    #[error("listener {listener}: the TLS settings can't be served: {error}")]
    Tls {
        /// Its name.
        listener: Arc<str>,
        /// What is wrong.
        error: rustls::Error,
    },
}

impl Generation {
    /// Makes everything that `config` names, and nothing that is visible outside yet; its sessions
    /// are kept in `sessions`. Its CRLs begin with what is known `before`; what is odd about them is added to the warnings.
    ///
    /// # Errors
    /// The first listener that can't be served.
    pub fn new(
        number: u64,
        mut config: Config,
        metrics: &Metrics,
        sessions: &SessionStore,
        usage: &Arc<Usage>,
        before: crls::Before<'_>,
    ) -> Result<Self, GenerationError> {
        // The stores have them from here on: a configuration outlives many a CRL.
        let loaded = std::mem::take(&mut config.crls);
        let crls::Made { stores, stamps: mut crl_stamps, warnings } =
            crls::make(&config, loaded, before, UnixTime::now());
        config.warnings.extend(warnings);
        let mut candidate_stores = Stores::default();
        if let Some(candidate) = config.shadow.as_deref_mut() {
            let loaded = std::mem::take(&mut candidate.crls);
            // What is fetched for the profiles that serve is there for their namesakes at once.
            let before = crls::Before { stores: Some(&stores), ..before };
            let made = crls::make(candidate, loaded, before, UnixTime::now());
            let file = candidate.source.display();
            let warnings = made.warnings.iter().map(|warning| format!("{file}: {warning}"));
            config.warnings.extend(warnings);
            crl_stamps.extend(made.stamps);
            candidate_stores = share(candidate, &made.stores, &config.trust, &stores);
        }
        let refusals: Vec<_> = Refusal::ALL.iter().map(|reason| reason.as_str()).collect();
        let backends: BTreeMap<_, _> = config
            .backends
            .iter()
            .map(|(name, backend)| {
                let counters = BackendMetrics::new(metrics, name);
                (name.clone(), Arc::new(Backend::new(backend.clone(), counters)))
            })
            .collect();
        let limits = SessionLimits {
            handshake: config.limits.handshake_timeout,
            idle: config.limits.idle_timeout,
            half_open: config.limits.half_open_timeout,
            lifetime: config.limits.max_lifetime,
        };
        let quotas = Quotas::new(usage, &config);
        let candidate = config.shadow.as_deref();
        let candidate = candidate.map(|config| Tried { config, stores: &candidate_stores });
        let mut services = Vec::new();
        for listener in &config.listeners {
            let policy =
                Policy::new(listener.client_auth, &listener.peers, &stores).map_err(|error| {
                    GenerationError::Policy { listener: listener.name.clone(), error }
                })?;
            let policy = Arc::new(policy);
            let counters = Arc::new(ListenerMetrics::new(metrics, &listener.name, &refusals));
            let shadow = candidate.as_ref().map(|it| it.shadow_of(listener, &counters));
            let shadow = shadow.transpose()?.map(Arc::new);
            let session_age = config.limits.max_session_age;
            let tls =
                handshake::server_config(listener, &policy, shadow.as_ref(), sessions, session_age)
                    .map_err(|error| GenerationError::Tls {
                        listener: listener.name.clone(),
                        error,
                    })?;
            services.push(Arc::new(Service {
                config: listener.clone(),
                policy,
                shadow,
                tls,
                signs_by_rsa: listener.signs_by_rsa(),
                quotas: quotas.clone(),
                backend: backends[&listener.backend.name].clone(),
                metrics: counters,
                limits,
                drain_timeout: config.limits.drain_timeout,
                log_connections: config.log.connections,
            }));
        }
        let config = Arc::new(config);
        Ok(Self { number, config, services, stores, candidate_stores, crl_stamps })
    }
}

/// A candidate configuration with its CRLs.
struct Tried<'c> {
    config: &'c Config,
    stores: &'c Stores,
}

impl Tried<'_> {
    /// What it makes of the clients of a listener: those of its own listener of that name.
    fn shadow_of(
        &self,
        listener: &Listener,
        metrics: &Arc<ListenerMetrics>,
    ) -> Result<Shadow, GenerationError> {
        let namesake = self.config.listeners.iter().find(|other| other.name == listener.name);
        let candidate = namesake.map(|other| {
            let policy = Policy::new(other.client_auth, &other.peers, self.stores);
            let policy = policy.map_err(|error| {
                let (file, listener) = (self.config.source.clone(), other.name.clone());
                GenerationError::Candidate { file, listener, error }
            })?;
            Ok(Candidate { client_auth: other.client_auth, policy })
        });
        Ok(Shadow::new(&listener.name, candidate.transpose()?, metrics))
    }
}

/// The stores of a candidate's profiles: a profile that has the CAs of the serving one of that name
/// and says of revocation what that says shares its store, any other has its own. What a store
/// learns of CAs is what the profile that serves decides by.
fn share(
    candidate: &Config,
    own: &Stores,
    serving: &BTreeMap<Arc<str>, Arc<TrustProfile>>,
    stores: &Stores,
) -> Stores {
    let shared = |name: &Arc<str>| {
        let (theirs, ours) = (candidate.trust.get(name)?, serving.get(name)?);
        let is_same = theirs.revocation == ours.revocation && cas_of(theirs) == cas_of(ours);
        is_same.then(|| stores.get(name)).flatten()
    };
    let choose = |(name, store)| (Arc::clone(name), Arc::clone(shared(name).unwrap_or(store)));
    own.iter().map(choose).collect::<BTreeMap<_, _>>().into()
}

fn cas_of(profile: &TrustProfile) -> HashSet<&[u8]> {
    profile.ca.iter().map(|ca| &*ca.der).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tempfile::TempDir;

    use super::*;
    use crate::metrics::CacheMetrics;
    use crate::pki::{Authority, CrlSpec, Spec, Validity};

    const VALIDITY: Duration = Duration::from_secs(3600);

    /// A folder with a CA, our own certificate, and room for configurations.
    fn folder() -> (TempDir, Authority) {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let validity = Validity::from_now(VALIDITY);
        let ca = Authority::root(&Spec::new("Contoso Root", validity)).unwrap();
        let own = ca.issue(&Spec::new("www", validity).dns("www.contoso.test").server()).unwrap();
        own.write(&file("own.pem"), &file("own.key")).unwrap();
        fs::write(file("ca.pem"), ca.pem()).unwrap();
        (folder, ca)
    }

    fn text(ca: &str, revocation: &str) -> String {
        format!(
            "[trust.contoso]\nca = [\"{ca}\"]\nnames = [\"*.contoso.test\"]\n\
             {revocation}\n\
             [peers.clients]\ntrust = \"contoso\"\nnames = [\"fe01.contoso.test\"]\n\
             [backends.app]\nservers = [\"127.0.0.1:1\"]\n\
             [[listener]]\nname = \"main\"\nlisten = [\"127.0.0.1:2\"]\npeers = [\"clients\"]\n\
             client_auth = \"required\"\nbackend = \"app\"\n\
             certificates = [{{ chain = \"own.pem\", key = \"own.key\" }}]\n"
        )
    }

    /// What a configuration with this text is made to, after another generation.
    fn make(folder: &Path, text: &str, old: Option<&Generation>) -> Generation {
        let file = folder.join("countersign.toml");
        fs::write(&file, text).unwrap();
        let config = Config::load(&file).unwrap();
        let (metrics, usage) = (Metrics::new().unwrap(), Usage::new());
        let sessions = SessionStore::new(&config.resumption, &CacheMetrics::new(&metrics)).unwrap();
        let before = crls::Before { stores: old.map(|old| &old.stores), copies: None };
        Generation::new(1, config, &metrics, &sessions, &usage, before).unwrap()
    }

    /// Whether the candidate's profile, whose CA is that of the file, shares the serving one's
    /// store.
    fn is_shared(folder: &Path, ca: &str) -> bool {
        let off = "revocation = \"off\"";
        fs::write(folder.join("candidate.toml"), text(ca, off)).unwrap();
        let serving = format!("shadow = \"candidate.toml\"\n{}", text("ca.pem", off));
        let made = make(folder, &serving, None);
        let ours = made.stores.get("contoso").unwrap();
        Arc::ptr_eq(ours, made.candidate_stores.get("contoso").unwrap())
    }

    /// A policy teaches the store whom its CAs are, and which of them may sign CRLs.
    #[test]
    fn a_candidate_with_other_cas_teaches_the_serving_profile_nothing() {
        let (folder, ca) = folder();
        let other = Spec::new("Other Root", Validity::from_now(VALIDITY));
        let other = Authority::root(&other).unwrap();
        fs::write(folder.path().join("renamed.pem"), ca.pem()).unwrap();
        fs::write(folder.path().join("other.pem"), other.pem()).unwrap();
        assert!(is_shared(folder.path(), "renamed.pem"));
        assert!(!is_shared(folder.path(), "other.pem"));
    }

    /// Who is connected doesn't show its intermediate CA again. The new profile's store has to know
    /// it all the same, or its CRL would wait, and whoever it revokes go on.
    #[test]
    fn a_profile_that_is_renamed_still_knows_the_intermediate_cas_of_its_clients() {
        let (folder, ca) = folder();
        let validity = Validity::from_now(VALIDITY);
        let sub = ca.intermediate(&Spec::new("Contoso Issuing", validity)).unwrap();
        let client = Spec::new("fe01", validity).dns("fe01.contoso.test").client();
        let client = sub.issue(&client).unwrap();
        for (name, of) in [("ca.crl", &ca), ("sub.crl", &sub)] {
            let crl = of.crl(&CrlSpec::from_now(1, VALIDITY)).unwrap();
            fs::write(folder.path().join(name), crl.pem()).unwrap();
        }
        let text = text("ca.pem", "crl = [\"ca.crl\", \"sub.crl\"]");
        let old = make(folder.path(), &text, None);
        let permit = old.services[0].policy.decide(client.chain(), UnixTime::now()).unwrap();
        let text = text
            .replace("[trust.contoso]", "[trust.renamed]")
            .replace("trust = \"contoso\"", "trust = \"renamed\"");
        let new = make(folder.path(), &text, Some(&old));
        let again = new.services[0].policy.decide_again(&permit, UnixTime::now());
        assert_eq!(again.map(drop).map_err(|refused| refused.to_string()), Ok(()));
    }
}
