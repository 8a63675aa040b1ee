//! The PROXY protocol header, version 2.
