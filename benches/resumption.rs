//! The cache of sessions, beside the one that rustls brings: `cargo bench --bench resumption`.
//!
//! One operation is what a resumed handshake of TLS 1.3 asks of it: take a session out, put the
//! next one in. The caches are full before it begins, with sessions of the size that a client's
//! certificate of 1 kB leads to; clients come back in any order. Both hand over a session of their
//! own memory, and overwrite it or not as they do. With two threads, each has its own sessions and
//! its own CPU; a figure is the time that an operation of one of them takes.

#![allow(clippy::unwrap_used, reason = "a benchmark that can't set up its scene has failed")]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use countersign::{
    metrics::{CacheMetrics, Metrics},
    resumption::{Kept, SessionCache, Uses},
};
use criterion::{Criterion, criterion_group, criterion_main};
use rustls::server::{ServerSessionMemoryCache, StoresServerSessions};
use zeroize::Zeroizing;

const SESSIONS: usize = 20_000;
const SESSION_BYTES: usize = 1300;
const KEPT: Kept = Kept { uses: Uses::Once, ends_at_s: u64::MAX, came_back: true };

type Id = [u8; 32];

fn id() -> Id {
    let mut id = [0; 32];
    aws_lc_rs::rand::fill(&mut id).unwrap();
    id
}

/// What both caches can do.
trait Cache: Send + Sync + 'static {
    fn put(&self, id: &Id, session: &[u8]);
    fn take(&self, id: &Id) -> Option<Vec<u8>>;
}

impl Cache for SessionCache {
    fn put(&self, id: &Id, session: &[u8]) {
        assert!(SessionCache::put(self, id, Zeroizing::new(session.into()), KEPT, 1));
    }

    fn take(&self, id: &Id) -> Option<Vec<u8>> {
        SessionCache::take(self, id, 1).map(|session| session.to_vec())
    }
}

impl Cache for ServerSessionMemoryCache {
    fn put(&self, id: &Id, session: &[u8]) {
        assert!(StoresServerSessions::put(self, id.to_vec(), session.to_vec()));
    }

    fn take(&self, id: &Id) -> Option<Vec<u8>> {
        StoresServerSessions::take(self, id)
    }
}

/// Sessions of one thread, used in any order.
struct Client {
    cache: Arc<dyn Cache>,
    ids: Vec<Id>,
    /// Of a xorshift generator.
    state: u64,
    session: Vec<u8>,
}

impl Client {
    fn new(cache: &Arc<dyn Cache>) -> Self {
        let client = Self {
            cache: cache.clone(),
            ids: (0..SESSIONS / 2).map(|_| id()).collect(),
            state: 0x9E37_79B9_7F4A_7C15,
            session: vec![7; SESSION_BYTES],
        };
        for id in &client.ids {
            client.cache.put(id, &client.session);
        }
        client
    }

    /// A session comes back, and the next one is kept.
    fn come_back(&mut self) {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let count = self.ids.len();
        let id = &mut self.ids[usize::try_from(self.state).unwrap() % count];
        assert_eq!(self.cache.take(id).map(|session| session.len()), Some(SESSION_BYTES));
        // As random as rustls' ids, without the time that a generator takes.
        id.rotate_left(1);
        id[0] = id[0].wrapping_add(1);
        self.cache.put(id, black_box(&self.session));
    }
}

fn caches(c: &mut Criterion) {
    let ours: Arc<dyn Cache> = {
        let metrics = CacheMetrics::new(&Metrics::new().unwrap());
        Arc::new(SessionCache::new(64 << 20, metrics))
    };
    let theirs: Arc<dyn Cache> = ServerSessionMemoryCache::new(2 * SESSIONS);
    let mut group = c.benchmark_group("come-back");
    for (name, cache) in [("cache", ours), ("rustls", theirs)] {
        let mut client = Client::new(&cache);
        group.bench_function(format!("{name}/1-thread"), |b| b.iter(|| client.come_back()));
        let stop = Arc::new(AtomicBool::new(false));
        let other = {
            let (stop, mut client) = (stop.clone(), Client::new(&cache));
            thread::spawn(move || {
                core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
                while !stop.load(Ordering::Relaxed) {
                    client.come_back();
                }
            })
        };
        group.bench_function(format!("{name}/2-threads"), |b| b.iter(|| client.come_back()));
        stop.store(true, Ordering::Relaxed);
        other.join().unwrap();
    }
    group.finish();
}

criterion_group!(benches, caches);
criterion_main!(benches);
