//! When which URL is fetched: a state machine without I/O and without a clock of its own.
//!
//! A CRL that was fetched is asked for again well before it ends, at a random point, so that
//! hosts that started together don't ask together. After a failure the pauses double. Few fetches
//! go on at a time, those that waited longest first.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::config::HttpUrl;

/// Fetches that go on at a time. Each holds at most one CRL's bytes (64 MiB) and a thread.
pub(super) const MAX_FETCHES: usize = 4;

/// Distribution points that are asked for, beside the URLs of the configuration.
pub(super) const MAX_URLS: usize = 256;

/// The shortest pause after a success: a CRL that is about to end, or is over, is not asked for
/// more often than that.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);

/// The pause after a first failure; it doubles with each one that follows.
const FIRST_RETRY: Duration = Duration::from_secs(2);

/// The longest pause after a failure.
const LONGEST_RETRY: Duration = Duration::from_secs(5 * 60);

/// A random number from 0 up to, but not including, 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Jitter(pub(super) f64);

impl Jitter {
    /// A random time between `from` and `to` times `time`.
    fn of(self, time: Duration, from: f64, to: f64) -> Duration {
        time.mul_f64(from + (to - from) * self.0.clamp(0.0, 1.0))
    }
}

/// The URLs, and when each is due.
#[derive(Debug)]
pub(super) struct Schedule {
    urls: BTreeMap<HttpUrl, Turn>,
    /// The longest pause after a success.
    interval: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    state: State,
    failures: u32,
    /// A certificate named it, not the configuration.
    is_point: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Due(Instant),
    InFlight,
}

impl Schedule {
    /// Nothing is asked for yet; a CRL is asked for again after `interval` at the latest.
    pub(super) fn new(interval: Duration) -> Self {
        Self { urls: BTreeMap::new(), interval }
    }

    /// From the next success on, `interval` is the longest pause.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
    }

    /// Asks for a URL of the configuration from now on, at once if it is new.
    pub(super) fn want_configured(&mut self, url: &HttpUrl, now: Instant) {
        let turn = Turn { state: State::Due(now), failures: 0, is_point: false };
        self.urls.entry(url.clone()).or_insert(turn).is_point = false;
    }

    /// Asks for a distribution point from now on, at once if it is new. If there are too many, the
    /// one that failed most often makes room; `false` if none has failed.
    pub(super) fn want_point(&mut self, url: &HttpUrl, now: Instant) -> bool {
        if self.urls.contains_key(url) {
            return true;
        }
        let points = self.urls.iter().filter(|(_, turn)| turn.is_point);
        if points.clone().count() >= MAX_URLS {
            let worst = points.max_by_key(|(_, turn)| turn.failures);
            let Some((worst, _)) = worst.filter(|(_, turn)| turn.failures > 0) else {
                return false;
            };
            let worst = worst.clone();
            self.urls.remove(&worst);
        }
        let turn = Turn { state: State::Due(now), failures: 0, is_point: true };
        self.urls.insert(url.clone(), turn);
        true
    }

    /// Forgets the URLs that `keep` doesn't want. A fetch that goes on still counts as one until
    /// it is told of.
    pub(super) fn retain(&mut self, keep: impl Fn(&HttpUrl) -> bool) {
        self.urls.retain(|url, _| keep(url));
    }

    /// Whether `url` is asked for.
    pub(super) fn has(&self, url: &HttpUrl) -> bool {
        self.urls.contains_key(url)
    }

    /// The URLs to fetch now, beside the `going_on` fetches, the longest due first, but those of the
    /// configuration before others. Each is in flight until [`Schedule::succeeded`] or
    /// [`Schedule::failed`].
    ///
    /// One fetch is for the configuration alone: whoever names distribution points whose servers
    /// never answer must not keep everybody else's CRLs from being fetched.
    pub(super) fn take_due(&mut self, going_on: usize, now: Instant) -> Vec<HttpUrl> {
        let mut due: Vec<(bool, Instant, HttpUrl)> = self
            .urls
            .iter()
            .filter_map(|(url, turn)| match turn.state {
                State::Due(at) if at <= now => Some((turn.is_point, at, url.clone())),
                State::Due(_) | State::InFlight => None,
            })
            .collect();
        due.sort();
        let has_room = |&(started, (is_point, ..)): &(usize, (bool, Instant, HttpUrl))| {
            going_on + started < MAX_FETCHES - usize::from(is_point)
        };
        let now_due = due.into_iter().enumerate().take_while(has_room);
        let urls: Vec<HttpUrl> = now_due.map(|(_, (.., url))| url).collect();
        for url in &urls {
            if let Some(turn) = self.urls.get_mut(url) {
                turn.state = State::InFlight;
            }
        }
        urls
    }

    /// A fetch of `url` brought a CRL, or said that the last one is the newest. `left` is how
    /// long that one is still good for: the next fetch comes when 40 to 60% of it have passed.
    pub(super) fn succeeded(&mut self, url: &HttpUrl, left: Duration, now: Instant, by: Jitter) {
        let refresh = by.of(left, 0.4, 0.6).min(by.of(self.interval, 0.8, 1.0));
        let shortest = by.of(SHORTEST_INTERVAL.min(self.interval), 0.8, 1.0);
        if let Some(turn) = self.urls.get_mut(url) {
            turn.state = State::Due(now + refresh.max(shortest));
            turn.failures = 0;
        }
    }

    /// A fetch of `url` brought nothing that can be used.
    pub(super) fn failed(&mut self, url: &HttpUrl, now: Instant, by: Jitter) {
        if let Some(turn) = self.urls.get_mut(url) {
            let doubled = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(turn.failures));
            // Whoever asks for a CRL every second will not wait for minutes.
            let longest = LONGEST_RETRY.min(self.interval.max(FIRST_RETRY));
            let pause = by.of(doubled.min(longest), 0.5, 1.0);
            turn.state = State::Due(now + pause);
            turn.failures = turn.failures.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn url(number: usize) -> HttpUrl {
        HttpUrl::parse(&format!("http://crl.contoso.test/{number}")).unwrap()
    }

    /// A schedule with one URL that was taken at the returned time.
    fn taken() -> (Schedule, HttpUrl, Instant) {
        let (mut schedule, url, now) = (Schedule::new(HOUR), url(0), Instant::now());
        assert!(schedule.want_point(&url, now));
        assert_eq!(schedule.take_due(0, now), std::slice::from_ref(&url));
        (schedule, url, now)
    }

    /// After how many seconds the URL is due again.
    fn pause_s(schedule: &mut Schedule, now: Instant) -> u64 {
        (0..100_000)
            .find(|&s| !schedule.take_due(0, now + Duration::from_secs(s)).is_empty())
            .expect("it comes up again")
    }

    #[test]
    fn a_url_that_is_new_is_due_at_once_and_only_once() {
        let (mut schedule, url, now) = taken();
        assert!(schedule.want_point(&url, now), "it is known");
        assert!(schedule.take_due(0, now + HOUR).is_empty(), "it is in flight");
    }

    #[test]
    fn a_crl_is_asked_for_again_when_about_half_of_its_time_is_over() {
        for (jitter, expected_s) in [(0.0, 400), (0.5, 500), (0.999_999, 600)] {
            let (mut schedule, url, now) = taken();
            schedule.succeeded(&url, Duration::from_secs(1000), now, Jitter(jitter));
            assert_eq!(pause_s(&mut schedule, now), expected_s);
        }
    }

    #[test]
    fn a_crl_that_is_good_for_long_is_asked_for_once_an_interval() {
        for (jitter, expected_s) in [(0.0, 2880), (0.999_999_9, 3600)] {
            let (mut schedule, url, now) = taken();
            schedule.succeeded(&url, HOUR * 24 * 365, now, Jitter(jitter));
            assert_eq!(pause_s(&mut schedule, now), expected_s);
        }
    }

    #[test]
    fn a_crl_that_is_over_is_not_asked_for_without_a_pause() {
        let (mut schedule, url, now) = taken();
        schedule.succeeded(&url, Duration::ZERO, now, Jitter(0.0));
        assert_eq!(pause_s(&mut schedule, now), 48);
    }

    #[test]
    fn pauses_after_failures_double_up_to_a_limit_and_a_success_forgets_them() {
        let (mut schedule, url, mut now) = taken();
        let mut pauses = Vec::new();
        for _ in 0..10 {
            schedule.failed(&url, now, Jitter(0.999_999_999));
            pauses.push(pause_s(&mut schedule, now));
            now += HOUR;
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        schedule.succeeded(&url, HOUR, now, Jitter(0.5));
        assert_eq!(pause_s(&mut schedule, now), 1800);
        schedule.failed(&url, now, Jitter(0.0));
        assert_eq!(pause_s(&mut schedule, now), 1);
    }

    #[test]
    fn many_failures_overflow_nothing() {
        let (mut schedule, url, now) = taken();
        for _ in 0..200 {
            schedule.failed(&url, now, Jitter(1.0));
        }
        assert_eq!(pause_s(&mut schedule, now), 300);
    }

    #[test]
    fn few_are_fetched_at_a_time_and_those_that_waited_longest_come_first() {
        let (mut schedule, now) = (Schedule::new(HOUR), Instant::now());
        for number in (0..10).rev() {
            assert!(schedule.want_point(&url(number), now - Duration::from_secs(number as u64)));
        }
        let first = schedule.take_due(0, now);
        assert_eq!(first, [url(9), url(8), url(7)]);
        assert!(schedule.take_due(MAX_FETCHES, now).is_empty());
        assert_eq!(schedule.take_due(MAX_FETCHES - 2, now), [url(6)]);
    }

    #[test]
    fn distribution_points_that_never_answer_keep_no_url_of_the_configuration_waiting() {
        let (mut schedule, now) = (Schedule::new(HOUR), Instant::now());
        for number in 0..10 {
            assert!(schedule.want_point(&url(number), now - HOUR));
        }
        let going_on = schedule.take_due(0, now).len();
        schedule.want_configured(&url(1000), now);
        assert_eq!(schedule.take_due(going_on, now), [url(1000)]);
    }

    #[test]
    fn among_too_many_points_the_one_that_failed_most_makes_room() {
        let (mut schedule, now) = (Schedule::new(HOUR), Instant::now());
        schedule.want_configured(&url(1000), now);
        schedule.failed(&url(1000), now, Jitter(0.0));
        assert!((0..MAX_URLS).all(|number| schedule.want_point(&url(number), now)));
        assert!(!schedule.want_point(&url(2000), now), "nothing that works makes room");
        schedule.failed(&url(5), now, Jitter(0.0));
        schedule.failed(&url(6), now, Jitter(0.0));
        schedule.failed(&url(6), now, Jitter(0.0));
        assert!(schedule.want_point(&url(2000), now));
        assert!(schedule.has(&url(5)) && !schedule.has(&url(6)));
        assert!(schedule.has(&url(1000)), "what is configured stays");
    }

    #[test]
    fn there_is_a_limit_of_urls_and_what_is_forgotten_makes_room() {
        let (mut schedule, now) = (Schedule::new(HOUR), Instant::now());
        assert!((0..MAX_URLS).all(|number| schedule.want_point(&url(number), now)));
        assert!(!schedule.want_point(&url(MAX_URLS), now));
        schedule.retain(|known| *known != url(7));
        assert!(!schedule.has(&url(7)) && schedule.has(&url(8)));
        assert!(schedule.want_point(&url(MAX_URLS), now));
        schedule.succeeded(&url(7), HOUR, now, Jitter(0.0));
        assert!(!schedule.has(&url(7)), "what was forgotten doesn't come back with its answer");
    }
}
