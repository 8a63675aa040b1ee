//! countersign terminates TLS and mutual TLS in front of servers that speak plain TCP.
//!
//! Read the modules in the order in which a connection meets them:
//!
//! [`cli`] turns arguments into a command, and `run` hands a [`config::Config`] to [`app`],
//! which holds the order of life: probe, bind, spawn, serve, reload, drain. Each [`worker`] is
//! one pinned thread with one io_uring (behind [`ring`], the only module that names it) and its
//! own listening sockets ([`listener`]). A [`connection`] is the story of one client:
//! [`handshake`] with rustls, the pure decision of [`trust`] about who it is, a dial of its
//! [`backend`] (which takes the [`trust::Permit`]), and the [`relay`], whose bytes pass through
//! our own [`record`] layer. [`sessions`] knows every live connection and ends those whose time
//! is up. [`metrics`] and [`admin`] tell the operator what happened.
//!
//! Imports point one way along this list; stages never import each other, values pass through
//! [`connection`].

pub mod config;
pub mod demo;
pub mod name;
pub mod pki;
pub mod proxy;
pub mod record;
pub mod trust;
