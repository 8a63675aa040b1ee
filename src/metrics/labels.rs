//! Closed enums: each variant is one label value and one log word.

macro_rules! label {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value, in the order of the enum.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The label value and log word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            pub(super) const fn index(self) -> usize {
                self as usize
            }
        }
    };
}

label! {
    /// How a handshake ended.
    HandshakeResult {
        /// Keys are agreed and the client is who it has to be.
        Accepted = "accepted",
        /// The trust decision refused the client.
        Refused = "refused",
        /// The first bytes were not TLS (plain HTTP, a PROXY header, noise).
        NotTls = "not_tls",
        /// The client broke the protocol, or sent more than a handshake may hold.
        Malformed = "malformed",
        /// No common version, cipher suite, group or application protocol.
        NoCommonParameters = "no_common_parameters",
        /// Its SNI names no certificate of ours, and the listener is strict.
        UnknownServerName = "unknown_server_name",
        /// The client sent a fatal alert.
        ClientAlert = "client_alert",
        /// The client went away.
        ClientClosed = "client_closed",
        /// It took longer than `handshake_timeout`.
        TimedOut = "timed_out",
        /// A limit turned it away; `handshakes_shed_total` says which.
        Shed = "shed",
        /// We were told to stop, or a reload removed the listener.
        Shutdown = "shutdown",
        /// Our own fault; the log has it.
        Internal = "internal",
    }
}

label! {
    /// Whether keys were agreed afresh.
    HandshakeKind {
        /// With certificates.
        Full = "full",
        /// From a session of before.
        Resumed = "resumed",
        /// It ended before that was known.
        None = "none",
    }
}

label! {
    /// The protocol version.
    VersionLabel {
        /// TLS 1.3
        V13 = "1.3",
        /// TLS 1.2
        V12 = "1.2",
        /// It ended before that was known.
        None = "none",
    }
}

label! {
    /// Why a connection ended: the first cause, later ones are its consequences.
    CloseCause {
        /// Both sides ended their streams in order.
        Complete = "complete",
        /// The handshake failed; `handshakes_total` says how.
        HandshakeFailed = "handshake_failed",
        /// The trust decision refused the client.
        Refused = "refused",
        /// A limit turned it away in its handshake; `handshakes_shed_total` says which.
        Shed = "shed",
        /// No server of the backend could be reached.
        BackendUnreachable = "backend_unreachable",
        /// The client's stream ended without a close_notify: perhaps truncated.
        ClientTruncated = "client_truncated",
        /// The client reset the connection, or its network did.
        ClientReset = "client_reset",
        /// The client sent a fatal alert.
        ClientAlert = "client_alert",
        /// A record failed to authenticate or broke the protocol.
        BadRecord = "bad_record",
        /// The backend reset the connection.
        BackendReset = "backend_reset",
        /// No byte for `idle_timeout`.
        IdleTimeout = "idle_timeout",
        /// No byte for `half_open_timeout` after one side had ended its stream.
        HalfOpenTimeout = "half_open_timeout",
        /// Older than `max_lifetime`.
        MaxLifetime = "max_lifetime",
        /// Still open when `drain_timeout` was over.
        Drained = "drained",
        /// The client's certificate, or another one of its path, is past its validity.
        Expired = "expired",
        /// A certificate of the client's path was revoked.
        Revoked = "revoked",
        /// A reload took away the CA that vouched for the client.
        CaRemoved = "ca_removed",
        /// A reload took away the rule that admitted the client.
        RuleRemoved = "rule_removed",
        /// A reload blocked the client.
        Blocked = "blocked",
        /// A reload removed the listener.
        ListenerRemoved = "listener_removed",
        /// TLS 1.2 can't go on: its key has protected as many records as it safely may.
        KeyExhausted = "key_exhausted",
        /// Our own fault; the log has it.
        Internal = "internal",
    }
}

label! {
    /// What a live connection lost its authorisation by.
    Termination {
        /// A certificate of the client's path is outside of its validity.
        Expired = "expired",
        /// A certificate of the client's path was revoked.
        Revoked = "revoked",
        /// The CA that vouched for the client is gone, or may not vouch for its name any more.
        CaRemoved = "ca_removed",
        /// The rule that admitted the client is gone, or asks for more than it has shown.
        RuleRemoved = "rule_removed",
        /// The client is blocked.
        Blocked = "blocked",
        /// The listener is gone.
        ListenerRemoved = "listener_removed",
    }
}

impl Termination {
    /// Why the connection ends then.
    pub const fn cause(self) -> CloseCause {
        match self {
            Self::Expired => CloseCause::Expired,
            Self::Revoked => CloseCause::Revoked,
            Self::CaRemoved => CloseCause::CaRemoved,
            Self::RuleRemoved => CloseCause::RuleRemoved,
            Self::Blocked => CloseCause::Blocked,
            Self::ListenerRemoved => CloseCause::ListenerRemoved,
        }
    }
}

label! {
    /// Which way bytes went.
    Direction {
        /// From the client to the backend.
        Up = "up",
        /// From the backend to the client.
        Down = "down",
    }
}

label! {
    /// How an attempt to reach a backend's server ended.
    BackendResult {
        /// Connected.
        Connected = "connected",
        /// Nobody listens there.
        Refused = "refused",
        /// Not within `connect_timeout`.
        TimedOut = "timed_out",
        /// Any other error.
        Failed = "failed",
    }
}

label! {
    /// How a reload ended.
    ReloadResult {
        /// The new generation serves.
        Applied = "applied",
        /// It was wrong; the old generation goes on.
        Failed = "failed",
    }
}

label! {
    /// Which limit turned a connection away before it had cost any cryptography, or before its
    /// handshake was over.
    ShedReason {
        /// `max_connections`
        Connections = "max_connections",
        /// `max_handshakes_per_address`
        Address = "max_handshakes_per_address",
        /// It would have waited for longer than `max_handshake_wait` to begin.
        Wait = "max_handshake_wait",
        /// `max_handshakes`
        Handshakes = "max_handshakes",
        /// What is left of `max_handshakes` is reserved for addresses that were let in lately.
        Reserved = "reserved_handshakes",
        /// `max_full_handshakes`, or what is left of it is reserved.
        Full = "max_full_handshakes",
        /// Its client kept it waiting while others needed its place.
        Stale = "stale",
    }
}

label! {
    /// What became of a session that a client offered to resume.
    ResumptionOutcome {
        /// The session went on, and its handshake came to its end.
        Resumed = "resumed",
        /// Ours, but past its time, or of another listener, policy, server name or cipher suite.
        Vetoed = "vetoed",
        /// Not ours, used before, no longer kept, or of a key that is gone.
        Unknown = "unknown",
    }
}

label! {
    /// Why a session that is kept was dropped before its client came back.
    EvictionReason {
        /// It was over.
        Expired = "expired",
        /// Others needed the room.
        Room = "room",
    }
}

label! {
    /// Whether a chain had been verified before.
    VerificationOutcome {
        /// Its permit holds still; no signature of its path was verified.
        Hit = "hit",
        /// It was verified from scratch.
        Miss = "miss",
    }
}

label! {
    /// What the candidate configuration would have decided about a client.
    ShadowOutcome {
        /// It admits the client as well, by the same peer set.
        AgreeAdmit = "agree_admit",
        /// It refuses the client as well, whatever for.
        AgreeRefuse = "agree_refuse",
        /// It admits a client that was refused.
        WouldAdmit = "would_admit",
        /// It refuses a client that was admitted.
        WouldRefuse = "would_refuse",
        /// It admits the client as well, but by another peer set.
        DiffersInPeer = "differs_in_peer",
        /// It has no such listener.
        NoListener = "no_listener",
    }
}

label! {
    /// What is computed in handshakes, as far as it can be in batches.
    CryptoOperation {
        /// X25519 key pairs, made ahead.
        X25519KeyPair = "x25519_key_pair",
        /// X25519 key agreements, those inside of X25519MLKEM768 included.
        X25519 = "x25519",
        /// What signatures of P-256 need of their nonces, made ahead.
        P256Nonce = "ecdsa_p256_nonce",
        /// The same for P-384.
        P384Nonce = "ecdsa_p384_nonce",
        /// ECDSA signatures by P-256.
        P256Sign = "ecdsa_p256_sign",
        /// ECDSA signatures by P-384.
        P384Sign = "ecdsa_p384_sign",
        /// Verifications of ECDSA signatures by P-256.
        P256Verify = "ecdsa_p256_verify",
        /// Verifications of ECDSA signatures by P-384.
        P384Verify = "ecdsa_p384_verify",
        /// Signatures by RSA keys of 2048 bits.
        Rsa2048Sign = "rsa_2048_sign",
        /// Signatures by RSA keys of 3072 bits.
        Rsa3072Sign = "rsa_3072_sign",
        /// Signatures by RSA keys of 4096 bits.
        Rsa4096Sign = "rsa_4096_sign",
    }
}

label! {
    /// Who computes it.
    CryptoEngine {
        /// The multi-buffer library, up to eight operations at a time.
        CryptoMb = "crypto_mb",
        /// aws-lc-rs, one at a time.
        AwsLcRs = "aws_lc_rs",
    }
}

label! {
    /// Whose fault a failed accept was.
    AcceptError {
        /// The connection was gone again before we took it.
        Peer = "peer",
        /// Out of descriptors, memory or buffers.
        Resources = "resources",
        /// Any other error.
        Other = "other",
    }
}

label! {
    /// How a fetch of a CRL over HTTP ended. Whatever failed leaves the last good CRL in use.
    CrlFetchResult {
        /// A CRL came, and is in use or waits for its CA.
        Fetched = "fetched",
        /// The server says that the last one is the newest.
        NotModified = "not_modified",
        /// The host isn't known, or doesn't answer there.
        Unreachable = "unreachable",
        /// Not within `fetch_timeout`.
        TimedOut = "timed_out",
        /// The answer ended too early.
        Truncated = "truncated",
        /// More bytes than are read.
        TooLarge = "too_large",
        /// Another status than 200, or no HTTP.
        BadStatus = "bad_status",
        /// What came isn't a CRL that can be used.
        Malformed = "malformed",
        /// Its signature isn't its CA's.
        BadSignature = "bad_signature",
        /// A newer one is in use.
        Older = "older",
        /// There is no room for it.
        Refused = "refused",
    }
}

label! {
    /// What became of a CRL file that was new or had changed. Whatever failed leaves the last
    /// good CRL in use.
    CrlFileResult {
        /// Its CRLs are in use or wait for their CAs.
        Loaded = "loaded",
        /// The system doesn't give it.
        Unreadable = "unreadable",
        /// It is gone.
        Vanished = "vanished",
        /// More bytes than are read.
        TooLarge = "too_large",
        /// What it holds isn't a CRL that can be used.
        Malformed = "malformed",
        /// A signature isn't its CA's.
        BadSignature = "bad_signature",
        /// A newer one is in use.
        Older = "older",
        /// There is no room for it.
        Refused = "refused",
    }
}
