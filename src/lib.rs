//! countersign terminates TLS and mutual TLS in front of servers that speak plain TCP.
//!
//! Read the modules in the order in which a connection meets them:
//!
//! [`cli`] turns arguments into a command, and `run` hands a configuration file to [`app`],
//! which holds the order of life: load a [`config::Config`], probe, bind, spawn, serve, reload,
//! drain. What a configuration becomes is a [`generation`]. Each [`worker`] is one pinned thread
//! with one io_uring (behind [`ring`], the only module that names it) and its own listening
//! sockets ([`listener`]); [`admission`] says whom there is room for. A [`connection`] is the story
//! of one client: [`handshake`] with rustls, which takes up the sessions that [`resumption`] keeps;
//! the pure decision of [`trust`] about who it is (with the CRLs of [`revocation`]; and, in its
//! [`shadow`], what another configuration would say), a dial of its [`backend`] (which takes the
//! [`trust::Permit`]), and the [`relay`], whose bytes pass through our own [`record`] layer.
//! [`quota`] holds each peer set to its limits, and [`sessions`] knows every live connection and
//! ends those whose time is up. [`crls`] fetches and watches what is revoked, and [`crypto`]
//! computes several operations of handshakes at a time. [`metrics`], the [`journal`] and [`admin`]
//! tell the operator what happened.
//!
//! Imports point one way along this list; the stages (handshake, trust, backend, relay) never
//! import each other's insides, values pass through [`connection`].
//!
//! [`explain`] says why a client would be admitted or refused, by the code that does it.
//! [`demo`] and [`load`] are for trying and for measuring; [`pki`] makes their certificates.

pub mod admin;
pub mod admission;
pub mod app;
pub mod backend;
pub mod cli;
pub mod config;
pub mod connection;
pub mod crls;
pub mod crypto;
pub mod demo;
pub mod explain;
pub mod generation;
pub mod handshake;
pub mod journal;
pub mod listener;
pub mod load;
pub mod logging;
pub mod metrics;
pub mod name;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod quota;
pub mod record;
pub mod relay;
pub mod resumption;
pub mod revocation;
pub mod ring;
pub mod sessions;
pub mod shadow;
pub mod sys;
pub mod trust;
pub mod worker;
