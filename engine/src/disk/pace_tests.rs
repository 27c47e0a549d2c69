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
