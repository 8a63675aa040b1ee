//! What is shipped beside the program: the systemd unit, the Prometheus rules, the Grafana
//! dashboard and the list of metrics, each held against the program and against the tool that
//! will read it. A tool that is missing fails the test that needs it.
#![allow(clippy::unwrap_used, reason = "a test that can't set up its scene has failed")]

#[path = "deployment/surface.rs"]
mod surface;
#[path = "deployment/tool.rs"]
mod tool;

#[path = "deployment/documented.rs"]
mod documented;
#[path = "deployment/monitoring.rs"]
mod monitoring;
#[path = "deployment/published.rs"]
mod published;
#[path = "deployment/service.rs"]
mod service;
