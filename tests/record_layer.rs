//! The record layer against rustls, against a sender that forges anything, and against itself.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]

#[path = "record_layer/offline.rs"]
mod offline;
#[path = "record_layer/rustls_peer.rs"]
mod rustls_peer;

#[path = "record_layer/interop.rs"]
mod interop;
#[path = "record_layer/limits.rs"]
mod limits;
#[path = "record_layer/properties.rs"]
mod properties;
#[path = "record_layer/refusals.rs"]
mod refusals;
