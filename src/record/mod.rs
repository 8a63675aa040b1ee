//! The TLS record layer after the handshake: bytes in, bytes out, in place.
