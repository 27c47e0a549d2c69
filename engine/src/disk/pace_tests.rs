use super::*;
use proptest::prelude::*;

/// A device that does `bytes_a_ms`, and each request in `least_ms` at best; kept as busy as the limits of `class` allow for
/// `seconds`. Returns what is allowed in the end.
fn keep_busy(pace: &mut Pace, bytes_a_ms: u64, request_bytes: u64, now_ms: &mut u64, seconds: u64) -> Limits {
    let most = Limits::default();
    let mut limits = most;
    let end = *now_ms + seconds * 1000;
    let mut waiting = std::collections::VecDeque::new();
    let mut head_left = 0;
    while *now_ms < end {
        let cap = limits.sector_write;
        let in_flight = |count: usize| (count as u64 + 1) * request_bytes;
        while waiting.is_empty() || waiting.len() < cap.requests && in_flight(waiting.len()) <= cap.bytes {
            pace.began(*now_ms);
            waiting.push_back(request_bytes);
        }
        *now_ms += 1;
        let mut done = bytes_a_ms;
        while done > 0 && !waiting.is_empty() {
            if head_left == 0 {
                head_left = request_bytes;
            }
            let step = done.min(head_left);
            (done, head_left) = (done - step, head_left - step);
            if head_left == 0 {
                waiting.pop_front();
                if let Some(rate) = pace.ended(*now_ms, request_bytes) {
                    limits = rate.applied_to(&most);
                }
            }
        }
    }
    for _ in waiting {
        pace.ended(*now_ms, request_bytes);
    }
    limits
}

#[test]
fn what_is_allowed_is_what_the_device_does_in_four_milliseconds() {
    // Hard disk, SATA, NVMe; requests of 1 MiB.
    for (mib_a_second, expected) in [(100, 1), (500, 2), (1000, 4), (2000, 8)] {
        let (mut pace, mut now) = (Pace::default(), 0);
        let limits = keep_busy(&mut pace, mib_a_second * 1024 * 1024 / 1000, 1 << 20, &mut now, 20);
        // As many whole requests as fit in it, and one more that is being done.
        let ahead = limits.sector_write.bytes.max(1 << 20) >> 20;
        assert!((expected..=expected + 1).contains(&ahead), "{mib_a_second} MiB/s: {limits:?}");
    }
}

#[test]
fn a_device_that_becomes_slow_is_given_less_and_later_more() {
    let (mut pace, mut now) = (Pace::default(), 0);
    let fast = keep_busy(&mut pace, 2 << 20, 1 << 20, &mut now, 10).sector_write.bytes;
    let slow = keep_busy(&mut pace, 1 << 17, 1 << 20, &mut now, 10).sector_write.bytes;
    let again = keep_busy(&mut pace, 2 << 20, 1 << 20, &mut now, 10).sector_write.bytes;
    assert!(slow * 4 <= fast && again * 10 >= fast * 9, "{fast}, {slow}, {again}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn limits_lie_between_one_request_and_the_most(
        steps in prop::collection::vec((0u64..200, any::<bool>(), 0u64..64 << 20), 0..300),
        serving in 1u64..1000, requests in 1..64usize,
    ) {
        let most = Limits { serving: Cap { bytes: serving << 16, requests }, ..Limits::default() };
        let (mut pace, mut now, mut in_flight) = (Pace::default(), 0u64, 0);
        for (passed, begins, bytes) in steps {
            now += passed;
            if begins {
                pace.began(now);
                in_flight += 1;
            } else if in_flight > 0 {
                in_flight -= 1;
                let Some(rate) = pace.ended(now, bytes) else { continue };
                let limits = rate.applied_to(&most);
                prop_assert_eq!(limits.depth, most.depth);
                for (cap, most) in [
                    (limits.serving, most.serving),
                    (limits.sector_write, most.sector_write),
                    (limits.scrub, most.scrub),
                ] {
                    prop_assert!(cap.bytes <= most.bytes && cap.bytes >= most.bytes.min(FLOOR.bytes));
                    prop_assert!(cap.requests <= most.requests && cap.requests >= 1);
                }
            }
        }
    }
}

/// A device that does any number of requests of 64 KiB at once, each within ten milliseconds; from `alone_at_ms` on one after the
/// other. Returns what is allowed after `seconds` of it.
fn keep_parallel_busy(pace: &mut Pace, now_ms: &mut u64, is_alone: bool, seconds: u64) -> usize {
    const TAKES_MS: u64 = 10;
    let most = Limits::default();
    let mut limits = Limits { serving: Cap { bytes: 1 << 20, requests: 1 }, ..most };
    let mut done_at = std::collections::VecDeque::new();
    let end = *now_ms + seconds * 1000;
    while *now_ms < end {
        while done_at.len() < limits.serving.requests {
            pace.began(*now_ms);
            let from = if is_alone { done_at.back().copied().unwrap_or(*now_ms) } else { *now_ms };
            done_at.push_back(from + TAKES_MS);
        }
        *now_ms += 1;
        while done_at.pop_front_if(|done| *done <= *now_ms).is_some() {
            if let Some(rate) = pace.ended(*now_ms, 64 << 10) {
                limits = rate.applied_to(&most);
            }
        }
    }
    for _ in done_at {
        pace.ended(*now_ms, 64 << 10);
    }
    limits.serving.requests
}

#[test]
fn slow_requests_that_are_done_at_once_are_given_more_and_none_that_wait_for_each_other() {
    let (mut pace, mut now) = (Pace::default(), 0);
    let first = keep_parallel_busy(&mut pace, &mut now, false, 20);
    let parallel = keep_parallel_busy(&mut pace, &mut now, false, 300);
    let alone = keep_parallel_busy(&mut pace, &mut now, true, 300);
    assert!(first == 1 && parallel >= 16 && alone <= 2, "{first}, {parallel}, {alone}");
}

proptest! {
    #[test]
    fn trials_end_and_limits_stay_within_bounds(
        windows in prop::collection::vec((0.0..1e12f64, 0.0..1e9f64), 1..3000),
    ) {
        let mut pace = Pace::default();
        let most = Limits::default();
        for (bytes, requests) in windows {
            let rate = pace.seen(bytes, requests);
            prop_assert!((1..=MOST_TIMES).contains(&rate.times) && rate.times.is_power_of_two());
            let limits = rate.applied_to(&most);
            for (cap, most) in [(limits.serving, most.serving), (limits.sector_write, most.sector_write)] {
                prop_assert!((1..=most.requests).contains(&cap.requests) && (1..=most.bytes).contains(&cap.bytes));
            }
        }
    }
}
