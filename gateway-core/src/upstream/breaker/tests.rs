use super::*;
use crate::carried::Carried;
use crate::telemetry::FailureCode;

const GOOD: Ending = Ending::Answered(200, Duration::from_millis(1));
const FAILED: Ending = Ending::Failed(FailureCode::U3, Duration::from_millis(1));

fn breaker(change: impl FnOnce(&mut BreakerOptions)) -> Arc<Breaker> {
    let mut options = BreakerOptions {
        window: Duration::from_secs(10),
        minimum: 10,
        open_for: Duration::from_secs(5),
        open_at_most: Duration::from_secs(12),
        probes: 2,
        ..BreakerOptions::default()
    };
    change(&mut options);
    let metrics = crate::telemetry::Metrics::new("0").unwrap().upstream("users");
    let who = Who { plugin: "fuse".into(), upstream: "users".into(), of: None, metrics };
    Arc::new(Breaker::new(options, who))
}

fn tell(breaker: &Arc<Breaker>, endings: &[Ending], now: u64) {
    for ending in endings {
        breaker.ask(now).unwrap().tell(*ending, now);
    }
}

#[test]
fn it_opens_when_half_of_enough_requests_failed() {
    let breaker = breaker(|_| {});
    tell(&breaker, &[FAILED; 4], 1_000);
    tell(&breaker, &[GOOD; 5], 1_500);
    assert_eq!(breaker.state(1_500), BreakerState::Closed, "nine are not enough");
    tell(&breaker, &[FAILED], 2_000);
    assert_eq!(breaker.state(2_000), BreakerState::Open);
    assert_eq!(breaker.ask(3_000).unwrap_err(), Duration::from_secs(4));
}

#[test]
fn what_is_long_ago_counts_no_more() {
    let breaker = breaker(|_| {});
    tell(&breaker, &[FAILED; 9], 1_000);
    tell(&breaker, &[GOOD; 9], 12_000);
    tell(&breaker, &[FAILED; 8], 12_000);
    assert_eq!(breaker.state(12_000), BreakerState::Closed);
    tell(&breaker, &[FAILED], 12_000);
    assert_eq!(breaker.state(12_000), BreakerState::Open);
}

#[test]
fn probes_close_it_or_open_it_for_longer() {
    let breaker = breaker(|_| {});
    tell(&breaker, &[FAILED; 10], 1_000);
    assert!(breaker.ask(5_999).is_err());

    // Two probes at a time and no more.
    let mut probes = [breaker.ask(6_000).unwrap(), breaker.ask(6_000).unwrap()];
    assert!(breaker.ask(6_000).is_err());
    probes[0].tell(GOOD, 6_100);
    probes[1].tell(FAILED, 6_100);
    assert_eq!(breaker.ask(6_100).unwrap_err(), Duration::from_secs(10), "twice as long");

    tell(&breaker, &[FAILED], 16_100);
    assert_eq!(breaker.ask(16_100).unwrap_err(), Duration::from_secs(12), "no longer than that");
    tell(&breaker, &[GOOD; 2], 28_100);
    assert_eq!(breaker.state(28_100), BreakerState::Closed);
    // It begins anew, in its counts and in its times.
    tell(&breaker, &[FAILED; 9], 28_200);
    assert_eq!(breaker.state(28_200), BreakerState::Closed);
    tell(&breaker, &[FAILED], 28_200);
    assert_eq!(breaker.ask(28_200).unwrap_err(), Duration::from_secs(5));
}

#[test]
fn a_probe_that_nothing_became_of_makes_room_for_another() {
    let breaker = breaker(|options| options.probes = 1);
    tell(&breaker, &[FAILED; 10], 1_000);
    let probe = breaker.ask(6_000).unwrap();
    assert!(breaker.ask(6_000).is_err());
    drop(probe);
    tell(&breaker, &[GOOD], 6_000);
    assert_eq!(breaker.state(6_000), BreakerState::Closed);
}

#[test]
fn who_came_through_before_it_opened_says_nothing_any_more() {
    let breaker = breaker(|_| {});
    let mut early = breaker.ask(1_000).unwrap();
    tell(&breaker, &[FAILED; 10], 1_000);
    let mut probe = breaker.ask(6_000).unwrap();
    early.tell(FAILED, 6_000);
    assert_eq!(breaker.state(6_000), BreakerState::HalfOpen);
    probe.tell(GOOD, 6_000);
    tell(&breaker, &[GOOD], 6_000);
    assert_eq!(breaker.state(6_000), BreakerState::Closed);
}

#[test]
fn an_answer_counts_when_it_begins_and_once() {
    let breaker = breaker(|options| options.minimum = 4);
    let mut passes = [(); 4].map(|()| breaker.ask(1_000).unwrap());
    for pass in &mut passes[..2] {
        pass.answered(200, Duration::ZERO, 1_000);
    }
    passes[2].answered(503, Duration::ZERO, 1_000);
    let broken = Ending::Failed(FailureCode::X2, Duration::from_secs(1));
    // It has failed already.
    passes[2].tell(broken, 1_500);
    passes[0].tell(GOOD, 1_500);
    assert_eq!(breaker.state(1_500), BreakerState::Closed, "three are not enough");
    passes[3].answered(200, Duration::ZERO, 1_500);
    passes[3].tell(GOOD, 1_500);
    assert_eq!(breaker.state(1_500), BreakerState::Closed, "one of four");
    // One that began well breaks off: two of four.
    passes[1].tell(broken, 1_500);
    assert_eq!(breaker.state(1_500), BreakerState::Open);
}

#[test]
fn what_breaks_off_when_its_beginning_is_forgotten_is_a_request_of_its_own() {
    let breaker = breaker(|options| options.minimum = 2);
    let mut passes = [(); 2].map(|()| breaker.ask(1_000).unwrap());
    passes.iter_mut().for_each(|pass| pass.answered(200, Duration::ZERO, 1_000));
    let broken = Ending::Failed(FailureCode::X2, Duration::from_secs(20));
    passes[0].tell(broken, 21_000);
    assert_eq!(breaker.state(21_000), BreakerState::Closed, "one is not enough");
    passes[1].tell(broken, 21_000);
    assert_eq!(breaker.state(21_000), BreakerState::Open);
}

#[test]
fn slow_answers_count_where_they_matter() {
    let slow = Ending::Answered(200, Duration::from_secs(2));
    let indifferent = breaker(|_| {});
    tell(&indifferent, &[slow; 20], 1_000);
    assert_eq!(indifferent.state(1_000), BreakerState::Closed);

    let breaker = breaker(|options| {
        options.failure_ratio = None;
        options.slow_ratio = Some(0.3);
    });
    tell(&breaker, &[FAILED; 20], 1_000);
    assert_eq!(breaker.state(1_000), BreakerState::Closed);
    tell(&breaker, &[slow; 9], 1_000);
    assert_eq!(breaker.state(1_000), BreakerState::Open);
}

#[test]
fn what_the_client_did_says_nothing_of_the_upstream() {
    let breaker = breaker(|options| options.slow_ratio = Some(0.1));
    let theirs = [
        Ending::Failed(FailureCode::D1, Duration::from_secs(9)),
        Ending::Failed(FailureCode::X7, Duration::from_secs(9)),
        Ending::Lost(Duration::from_secs(9)),
    ];
    tell(&breaker, &theirs.repeat(20), 1_000);
    tell(&breaker, &[Ending::Answered(404, Duration::ZERO); 9], 1_000);
    assert_eq!(breaker.state(1_000), BreakerState::Closed);
    tell(&breaker, &[Ending::Answered(503, Duration::ZERO); 9], 1_000);
    assert_eq!(breaker.state(1_000), BreakerState::Open);
}

#[test]
fn a_probe_that_is_late_says_nothing_of_the_next_phase() {
    let breaker = breaker(|options| options.probes = 2);
    tell(&breaker, &[FAILED; 10], 1_000);
    let mut late = breaker.ask(6_000).unwrap();
    breaker.ask(6_000).unwrap().tell(FAILED, 6_000);
    let dropped = breaker.ask(16_000).unwrap();
    let mut second = breaker.ask(16_000).unwrap();

    late.tell(GOOD, 16_000);
    drop(late);
    second.tell(GOOD, 16_000);

    assert_eq!(breaker.state(16_000), BreakerState::HalfOpen, "one of two probes has told");
    drop((dropped, second));
    let mut third = breaker.ask(16_000).unwrap();
    third.tell(GOOD, 16_000);
    assert_eq!(breaker.state(16_000), BreakerState::Closed);
}

#[test]
fn leave_of_one_that_was_told_to_be_closed_is_good_for_more_attempts() {
    let breaker = breaker(|_| {});
    tell(&breaker, &[FAILED; 10], 1_000);
    breaker.tell(Told::Closed);

    assert!(!breaker.ask(1_000).unwrap().is_used());
}

/// Many threads at the moment it half opens: no more probes than may be.
#[test]
fn no_more_probes_than_may_be_whoever_asks() {
    for round in 0..50 {
        let breaker = breaker(|options| options.probes = 3);
        tell(&breaker, &[FAILED; 10], 1_000);
        let passes: Vec<_> = std::thread::scope(|scope| {
            let ask = || (0..10).filter_map(|_| breaker.ask(6_000).ok()).collect::<Vec<_>>();
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(passes.len(), 3, "round {round}");
    }
}

#[test]
fn it_does_what_it_is_told_and_goes_on_from_what_it_found() {
    let breaker = breaker(|_| {});
    breaker.tell(Told::Open);
    assert_eq!(breaker.state(1_000), BreakerState::Open);
    assert!(breaker.ask(1_000).is_err());
    breaker.tell(Told::Closed);
    tell(&breaker, &[FAILED; 10], 1_000);
    assert_eq!(breaker.state(1_000), BreakerState::Closed);
    tell(&breaker, &[FAILED; 10], 1_000);
    breaker.tell(Told::Auto);
    assert_eq!(breaker.state(1_000), BreakerState::Open, "what it found meanwhile");
}

#[test]
fn only_listed_codes_and_statuses_are_failures() {
    let breaker = breaker(|options| {
        options.codes = vec![FailureCode::X3];
        options.status = vec!["429".parse().unwrap()];
    });
    tell(&breaker, &[FAILED; 20], 1_000);
    tell(&breaker, &[Ending::Answered(503, Duration::ZERO); 5], 1_000);
    tell(&breaker, &[Ending::Answered(429, Duration::ZERO); 2], 1_000);
    tell(&breaker, &[Ending::Failed(FailureCode::X3, Duration::ZERO); 2], 1_000);
    assert_eq!(breaker.state(1_000), BreakerState::Closed);
    tell(&breaker, &[Ending::Failed(FailureCode::X3, Duration::ZERO)], 1_000);
    assert_eq!(breaker.state(1_000), BreakerState::Open);
}

/// A breaker as the process that follows has it.
fn handed_on(before: &Breaker, change: impl FnOnce(&mut BreakerOptions)) -> Arc<Breaker> {
    let after = breaker(change);
    after.take_over(&before.carry()).unwrap();
    after
}

#[test]
fn it_is_the_same_after_it_was_handed_on() {
    let before = breaker(|_| {});
    tell(&before, &[FAILED; 4], 1_000);
    tell(&before, &[GOOD; 5], 2_500);
    let after = handed_on(&before, |_| {});
    assert_eq!(after.state(2_500), BreakerState::Closed);
    tell(&after, &[FAILED], 2_500);
    assert_eq!(
        after.ask(2_500).unwrap_err(),
        Duration::from_secs(5),
        "the tenth, of which half failed"
    );

    let after = handed_on(&after, |_| {});
    assert_eq!(after.ask(3_500).unwrap_err(), Duration::from_secs(4));
    // A probe that is under way in the process before says nothing here.
    let _probe = after.ask(7_500).unwrap();
    let half = handed_on(&after, |_| {});
    assert_eq!(half.state(7_500), BreakerState::HalfOpen);
    let mut probes = [half.ask(7_500).unwrap(), half.ask(7_500).unwrap()];
    assert!(half.ask(7_500).is_err());
    probes[0].tell(FAILED, 7_500);
    assert_eq!(half.ask(7_500).unwrap_err(), Duration::from_secs(10), "twice as long as before");

    half.tell(Told::Closed);
    assert_eq!(handed_on(&half, |_| {}).state(7_500), BreakerState::Closed);
    assert!(half.take_over(b"{").is_err());
}
