//! The cache and the tickets, without TLS around them.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    sync::{Arc, Barrier},
    thread,
};

use proptest::{prop_assert, prop_assert_eq, prop_oneof, proptest, strategy::Strategy};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::{
    cache::SessionCache,
    shard::{Gone, Kept, SESSION_ID_LEN, Shard, Uses},
    *,
};
use crate::{
    config::TicketKey,
    metrics::{CacheMetrics, Metrics},
};

const ONCE: Kept = Kept { uses: Uses::Once, ends_at_s: 1000, came_back: false };
const MANY: Kept = Kept { uses: Uses::Many, ..ONCE };
const BACK: Kept = Kept { came_back: true, ..ONCE };

type Id = [u8; SESSION_ID_LEN];

/// An id that looks random, as those of rustls are.
fn id(number: u64) -> Id {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &number.to_be_bytes());
    digest.as_ref().try_into().unwrap()
}

fn session(len: usize) -> Zeroizing<Box<[u8]>> {
    Zeroizing::new(vec![7; len].into())
}

fn metrics() -> (Metrics, CacheMetrics) {
    let metrics = Metrics::new().unwrap();
    let cache = CacheMetrics::new(&metrics);
    (metrics, cache)
}

fn cache(bytes: usize) -> SessionCache {
    SessionCache::new(bytes, metrics().1)
}

/// Puts sessions of 1000 bytes into a shard, and holds it to keep them.
fn fill(shard: &mut Shard, numbers: std::ops::Range<u64>, kept: Kept) -> Gone {
    let mut gone = Gone::default();
    for number in numbers {
        assert!(shard.put(&id(number), session(1000), kept, 1, &mut gone), "{number}");
    }
    gone
}

/// Which of these sessions there are still, by using them up.
fn left(shard: &mut Shard, numbers: std::ops::Range<u64>) -> Vec<u64> {
    numbers.filter(|number| shard.take(&id(*number), 1).is_some()).collect()
}

#[test]
fn a_session_for_one_use_is_there_once() {
    let cache = cache(1 << 20);
    assert!(cache.put(&id(1), session(10), ONCE, 1));
    assert_eq!(cache.get(&id(1), 1), None, "it is not one for many uses");
    assert_eq!(cache.take(&id(1), 1), Some(session(10)));
    assert_eq!(cache.take(&id(1), 1), None);
}

/// The id of a session of TLS 1.2 is sent in the clear. Whoever has seen it can't use it up by
/// offering it as a ticket of TLS 1.3.
#[test]
fn a_session_for_many_uses_stays_and_nobody_takes_it() {
    let cache = cache(1 << 20);
    assert!(cache.put(&id(1), session(10), MANY, 1));
    for _ in 0..3 {
        assert_eq!(cache.take(&id(1), 1), None);
        assert_eq!(cache.get(&id(1), 1), Some(session(10)));
    }
}

#[test]
fn what_is_no_id_of_ours_is_not_found() {
    let cache = cache(1 << 20);
    for len in [0, 1, SESSION_ID_LEN - 1, SESSION_ID_LEN + 1, 9000] {
        assert!(!cache.put(&vec![1; len], session(10), ONCE, 1));
        assert_eq!(cache.take(&vec![1; len], 1), None);
        assert_eq!(cache.get(&vec![1; len], 1), None);
    }
}

#[test]
fn a_session_of_the_same_id_takes_the_place_of_the_one_before() {
    let cache = cache(1 << 20);
    assert!(cache.put(&id(1), session(10), MANY, 1));
    assert!(cache.put(&id(1), session(20), ONCE, 1));
    assert_eq!(cache.size().0, 1);
    assert_eq!(cache.get(&id(1), 1), None);
    assert_eq!(cache.take(&id(1), 1), Some(session(20)));
}

#[test]
fn a_session_ends_after_its_last_second() {
    let cache = cache(1 << 20);
    for (kept, ask) in [
        (ONCE, SessionCache::take as fn(&SessionCache, &[u8], u64) -> _),
        (MANY, SessionCache::get),
    ] {
        assert!(cache.put(&id(1), session(10), kept, 1));
        assert!(ask(&cache, &id(1), 1000).is_some());
        assert!(cache.put(&id(1), session(10), kept, 1));
        assert_eq!(ask(&cache, &id(1), 1001), None);
        assert_eq!(cache.size().0, 0, "it is dropped when it is met");
    }
}

#[test]
fn without_room_the_oldest_session_goes() {
    let mut shard = Shard::new(100_000);
    assert_eq!(fill(&mut shard, 0..50, ONCE), Gone::default());
    let gone = fill(&mut shard, 50..100, ONCE);
    assert_eq!(gone.expired, 0);
    let first = gone.evicted as u64;
    assert!(first > 5, "{first}");
    assert_eq!(left(&mut shard, 0..100), (first..100).collect::<Vec<_>>());
}

#[test]
fn a_session_that_was_used_outlives_those_that_were_not() {
    let mut shard = Shard::new(100_000);
    fill(&mut shard, 0..10, MANY);
    fill(&mut shard, 10..60, ONCE);
    assert!(shard.get(&id(0), 1).is_some());
    fill(&mut shard, 60..140, ONCE);
    assert!(shard.get(&id(0), 1).is_some(), "it was used");
    assert!((1..10).all(|number| shard.get(&id(number), 1).is_none()), "these were not");
}

/// Nobody who makes new sessions without end pushes out those of clients that come back.
#[test]
fn a_flood_of_new_clients_leaves_alone_those_that_came_back() {
    let mut shard = Shard::new(100_000);
    fill(&mut shard, 0..60, BACK);
    fill(&mut shard, 1000..2000, ONCE);
    assert_eq!(left(&mut shard, 0..60), (0..60).collect::<Vec<_>>());
    assert!(!left(&mut shard, 1000..2000).is_empty(), "new clients have some room too");
}

#[test]
fn those_that_came_back_push_out_the_oldest_of_their_own() {
    let mut shard = Shard::new(100_000);
    fill(&mut shard, 0..200, BACK);
    let left = left(&mut shard, 0..200);
    assert!(left.len() > 50);
    assert_eq!(left, ((200 - left.len() as u64)..200).collect::<Vec<_>>());
}

#[test]
fn what_is_over_makes_room_before_what_is_not() {
    let mut shard = Shard::new(100_000);
    fill(&mut shard, 0..40, BACK);
    fill(&mut shard, 100..130, Kept { ends_at_s: 5, ..BACK });
    let mut gone = Gone::default();
    for number in 200..240 {
        assert!(shard.put(&id(number), session(1000), BACK, 6, &mut gone));
    }
    assert_eq!(gone, Gone { expired: 30, evicted: 0 });
    assert_eq!(left(&mut shard, 0..40).len(), 40);
}

#[test]
fn tidying_drops_what_is_over_and_counts_what_is_there() {
    let (metrics, counters) = metrics();
    let cache = SessionCache::new(4 << 20, counters);
    for number in 0..1000 {
        let ends_at_s = if number % 2 == 0 { 10 } else { 1000 };
        assert!(cache.put(&id(number), session(500), Kept { ends_at_s, ..ONCE }, 1));
    }
    cache.tidy(11);
    assert_eq!(cache.size().0, 500);
    let text = metrics.render();
    for wanted in [
        "countersign_resumption_cache_entries 500".to_owned(),
        format!("countersign_resumption_cache_bytes {}", cache.size().1),
        r#"countersign_resumption_cache_evictions_total{reason="expired"} 500"#.to_owned(),
    ] {
        assert!(text.contains(&wanted), "{wanted} is missing in\n{text}");
    }
}

#[test]
fn a_session_larger_than_all_of_the_room_is_not_kept() {
    let mut shard = Shard::new(100_000);
    fill(&mut shard, 0..10, ONCE);
    assert!(!shard.put(&id(99), session(200_000), ONCE, 1, &mut Gone::default()));
    assert!(shard.take(&id(99), 1).is_none());
}

/// What a session of a client with a certificate of 1 kB takes, of which `docs/performance.md`
/// tells.
#[test]
fn a_session_takes_little_more_than_its_own_bytes() {
    const SESSION: usize = 1300;
    let cache = cache(64 << 20);
    let (_, empty) = cache.size();
    for number in 0..10_000 {
        assert!(cache.put(&id(number), session(SESSION), ONCE, 1));
    }
    let (entries, bytes) = cache.size();
    assert_eq!(entries, 10_000);
    assert!((bytes - empty) / entries < SESSION + 400, "{}", (bytes - empty) / entries);
    assert!(empty < 300_000, "{empty}");
}

/// Threads ask for the same sessions at the same time.
#[test]
fn of_many_who_ask_for_a_session_at_once_one_gets_it() {
    const THREADS: usize = 4;
    const SESSIONS: u64 = 2000;
    let cache = Arc::new(cache(64 << 20));
    for number in 0..SESSIONS {
        assert!(cache.put(&id(number), session(8), ONCE, 1));
    }
    let barrier = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (cache, barrier) = (cache.clone(), barrier.clone());
            thread::spawn(move || {
                barrier.wait();
                (0..SESSIONS).filter(|number| cache.take(&id(*number), 1).is_some()).count()
            })
        })
        .collect();
    let got: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert_eq!(got, SESSIONS as usize);
    assert_eq!(cache.size().0, 0);
}

/// What one may do to a shard.
#[derive(Debug, Clone)]
enum Act {
    Put { number: u64, len: usize, kept: Kept },
    Take(u64),
    Get(u64),
    Sweep(usize),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Act> {
    let number = 0_u64..60;
    let kept = (proptest::bool::ANY, proptest::bool::ANY, 0_u64..400).prop_map(
        |(once, came_back, ends_at_s)| Kept {
            uses: if once { Uses::Once } else { Uses::Many },
            ends_at_s,
            came_back,
        },
    );
    let len = prop_oneof![0_usize..200, 1000_usize..8200];
    prop_oneof![
        6 => (number.clone(), len, kept)
            .prop_map(|(number, len, kept)| Act::Put { number, len, kept }),
        3 => number.clone().prop_map(Act::Take),
        3 => number.prop_map(Act::Get),
        1 => (0_usize..100).prop_map(Act::Sweep),
        1 => (0_u64..20).prop_map(Act::Wait),
    ]
}

/// Whether a session of that length may have come out, given what was put in.
fn is_right(got: Option<usize>, known: Option<(usize, Kept)>, now_s: u64) -> bool {
    let fits = |(len, kept): (usize, Kept)| got == Some(len) && kept.ends_at_s >= now_s;
    got.is_none() || known.is_some_and(fits)
}

proptest! {
    /// A map that forgets nothing is the model: what the shard gives is what was put in, not over,
    /// and not used up; and its memory stays within its bounds.
    #[test]
    fn whatever_is_done_memory_is_bounded_and_no_session_is_invented(
        acts in proptest::collection::vec(acts(), 1..400),
    ) {
        const CAPACITY: usize = 40_000;
        let mut shard = Shard::new(CAPACITY);
        let mut model: BTreeMap<u64, (usize, Kept)> = BTreeMap::new();
        let mut now = 0;
        let mut gone = Gone::default();
        for act in acts {
            match act {
                Act::Put { number, len, kept } => {
                    model.remove(&number);
                    if shard.put(&id(number), session(len), kept, now, &mut gone) {
                        model.insert(number, (len, kept));
                    }
                }
                Act::Take(number) => {
                    let fits = |(_, kept): &(usize, Kept)| kept.uses == Uses::Once;
                    let known = model.get(&number).copied().filter(fits);
                    let got = shard.take(&id(number), now).map(|session| session.len());
                    prop_assert!(is_right(got, known, now), "{:?} of {:?}", got, known);
                    if known.is_some() {
                        model.remove(&number);
                    }
                }
                Act::Get(number) => {
                    let fits = |(_, kept): &(usize, Kept)| kept.uses == Uses::Many;
                    let known = model.get(&number).copied().filter(fits);
                    let got = shard.get(&id(number), now).map(|session| session.len());
                    prop_assert!(is_right(got, known, now), "{:?} of {:?}", got, known);
                }
                Act::Sweep(slots) => gone.expired += shard.sweep(now, slots),
                Act::Wait(seconds) => now += seconds,
            }
            prop_assert!(shard.bytes() <= CAPACITY, "{}", shard.bytes());
            prop_assert!(shard.entries() <= model.len());
        }
        let all = shard.entries();
        prop_assert_eq!(shard.sweep(u64::MAX, usize::MAX), all, "the sweep meets every one");
        prop_assert_eq!(shard.entries(), 0);
    }
}

fn key(byte: u8) -> TicketKey {
    TicketKey { file: PathBuf::new(), secret: Arc::new(Zeroizing::new(vec![byte; 64])) }
}

fn shared(bytes: &[u8]) -> Sealing {
    let keys: Vec<_> = bytes.iter().map(|byte| key(*byte)).collect();
    Sealing::by_shared_keys(&keys).unwrap()
}

#[test]
fn processes_with_the_same_keys_open_each_other_s_tickets() {
    let ticket = shared(&[1]).encrypt(b"session").unwrap();
    assert_eq!(shared(&[1]).decrypt(&ticket), Some(b"session".to_vec()));
    assert_eq!(shared(&[2, 1]).decrypt(&ticket), Some(b"session".to_vec()), "while it is listed");
    assert_eq!(shared(&[2]).decrypt(&ticket), None, "and no longer");
}

#[test]
fn the_first_key_seals() {
    let ticket = shared(&[2, 1]).encrypt(b"session").unwrap();
    assert_eq!(shared(&[2]).decrypt(&ticket), Some(b"session".to_vec()));
    assert_eq!(shared(&[1]).decrypt(&ticket), None);
}

#[test]
fn no_two_tickets_of_a_session_have_more_in_common_than_the_key_s_name() {
    let keys = shared(&[1]);
    let tickets: Vec<_> = (0..50).map(|_| keys.encrypt(&[0; 64]).unwrap()).collect();
    assert!(tickets.iter().all(|ticket| ticket[..16] == tickets[0][..16]));
    let rests: HashSet<_> = tickets.iter().flat_map(|ticket| ticket[16..].chunks(16)).collect();
    assert_eq!(rests.len(), 50 * 7, "salt, sealed session and tag, all different");
}

#[test]
fn a_ticket_that_was_changed_anywhere_is_not_opened() {
    let keys = shared(&[1]);
    let ticket = keys.encrypt(b"session").unwrap();
    for at in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[at] ^= 1;
        assert_eq!(keys.decrypt(&changed), None, "{at}");
    }
    for len in 0..ticket.len() {
        assert_eq!(keys.decrypt(&ticket[..len]), None, "{len}");
    }
    assert_eq!(keys.decrypt(&[&ticket[..], b"x"].concat()), None);
}

/// The salt of one ticket with the sealed part of another one.
#[test]
fn parts_of_two_tickets_make_none() {
    let keys = shared(&[1]);
    let (one, other) = (keys.encrypt(b"session").unwrap(), keys.encrypt(b"session").unwrap());
    assert_eq!(keys.decrypt(&[&one[..48], &other[48..]].concat()), None);
}

#[test]
fn keys_that_a_process_makes_are_its_own() {
    let (one, other) = (Sealing::by_own_keys().unwrap(), Sealing::by_own_keys().unwrap());
    let ticket = one.encrypt(b"session").unwrap();
    assert_eq!(one.decrypt(&ticket), Some(b"session".to_vec()));
    assert_eq!(other.decrypt(&ticket), None);
}

#[test]
fn no_debug_text_has_a_secret() {
    let secret: String = format!("{:?}", vec![77_u8; 8]).trim_matches(['[', ']']).to_owned();
    let config = Resumption::Tickets { keys: vec![key(77)] };
    let store = SessionStore::new(&config, &metrics().1).unwrap();
    for text in [format!("{config:?}"), format!("{store:?}")] {
        assert!(!text.contains(&secret), "{text}");
    }
}

/// A reload keeps what it can.
#[test]
fn a_store_goes_on_unless_its_configuration_is_another_one() {
    let (_, counters) = metrics();
    let cached = |bytes| Resumption::Cache { bytes };
    let store = SessionStore::new(&cached(1 << 20), &counters).unwrap();
    let is_same = |config: &Resumption| {
        let next = store.next(config, &counters).unwrap();
        match (store.place(), next.place()) {
            (SessionPlace::Here(one), SessionPlace::Here(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    };
    assert!(is_same(&cached(1 << 20)));
    assert!(!is_same(&cached(2 << 20)));
    assert!(!is_same(&Resumption::Off));
    let own = Resumption::Tickets { keys: Vec::new() };
    let store = SessionStore::new(&own, &counters).unwrap();
    let next = store.next(&own, &counters).unwrap();
    let (SessionPlace::Clients(one), SessionPlace::Clients(other)) = (store.place(), next.place())
    else {
        panic!("tickets")
    };
    assert!(Arc::ptr_eq(one, other), "tickets that were given stay good");
}

/// Connections of before may hold on to where their session was kept, for weeks.
#[test]
fn a_store_that_gives_way_forgets_sessions_and_keys() {
    let (_, counters) = metrics();
    let store = |config: &Resumption| SessionStore::new(config, &counters).unwrap();
    let config = Resumption::Cache { bytes: 1 << 20 };
    let (before, same) = (store(&config), store(&config));
    let SessionPlace::Here(cache) = before.place() else { panic!("a cache") };
    assert!(cache.put(&id(1), session(10), ONCE, 1));
    before.give_way(&same);
    assert_eq!(cache.size().0, 1, "nothing has changed");
    before.give_way(&store(&Resumption::Off));
    assert_eq!(cache.size().0, 0);
    assert!(!cache.put(&id(1), session(10), ONCE, 1));

    let tickets = |bytes: &[u8]| {
        store(&Resumption::Tickets { keys: bytes.iter().map(|byte| key(*byte)).collect() })
    };
    let before = tickets(&[1]);
    let SessionPlace::Clients(sealing) = before.place() else { panic!("tickets") };
    let ticket = sealing.encrypt(b"session").unwrap();
    before.give_way(&tickets(&[2]));
    assert_eq!(sealing.decrypt(&ticket), None);
    assert_eq!(sealing.encrypt(b"session"), None);
}
