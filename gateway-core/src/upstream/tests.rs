//! What a choice costs, and what it needs.

use std::hint::black_box;
use std::pin::Pin;
use std::task::Poll;

use futures_util::future::{MaybeDone, join_all, maybe_done};

use super::*;
use crate::telemetry::Metrics;

fn upstream(endpoints: usize, balance: &str) -> Arc<Upstream> {
    upstream_with(&Arc::default(), endpoints, balance)
}

fn upstream_with(states: &Arc<EndpointStates>, endpoints: usize, balance: &str) -> Arc<Upstream> {
    let list: Vec<String> = (0..endpoints)
        .map(|place| format!("\"10.0.{}.{}:80\"", place / 256, place % 256))
        .collect();
    let config = format!("{{name: a, endpoints: [{}], balance: {balance}}}", list.join(", "));
    let config: UpstreamConfig = serde_yaml::from_str(&config).unwrap();
    let metrics = Metrics::new("1.0.0").unwrap().upstream("a");
    let key = balance.contains("hash").then_some(Attribute::ClientIp);
    let transport = Arc::new(Transport::new(&config, None));
    Arc::new(Upstream::new(&config, transport, 2, key, metrics, states.clone()))
}

fn choice(worker: usize, key: u64) -> Choice<'static> {
    Choice { worker, first: true, now: 5, key: Some(key), cookie: None, avoid: &[] }
}

#[test]
fn what_is_chosen_is_in_flight_until_it_is_left() {
    for way in ["round_robin", "least_requests", "{hash: client.ip}"] {
        let upstream = upstream(1, way);
        let place = upstream.choose(choice(0, 1)).unwrap();
        let second = upstream.choose(choice(1, 2)).unwrap();
        assert_eq!(upstream.endpoints()[0].in_flight(), 2);

        drop((place, second));

        assert_eq!(upstream.endpoints()[0].in_flight(), 0);
        assert!(upstream.total.iter().all(|total| total.get() == 0));
    }
}

#[test]
fn what_is_in_flight_outlives_the_roster_and_the_config_it_was_chosen_with() {
    let before = upstream(2, "round_robin");
    let place = before.choose(choice(1, 0)).unwrap();

    before.make_roster(Instant::now());
    let again = before.choose(choice(1, 0)).unwrap();
    let after = upstream_with(&before.states, 2, "least_requests");
    let other = [after.choose(choice(0, 0)).unwrap(), after.choose(choice(1, 0)).unwrap()];

    let in_flight = || after.endpoints().iter().map(|one| one.in_flight()).sum::<u32>();
    assert_eq!(in_flight(), 4);
    drop((place, again));
    assert_eq!(in_flight(), 2);
    drop(other);
    assert_eq!(in_flight(), 0);
}

#[test]
fn each_worker_takes_its_own_turns() {
    let upstream = upstream(2, "round_robin");
    let chosen = |worker| upstream.choose(choice(worker, 0)).unwrap().address.ip().to_string();

    assert_eq!([chosen(0), chosen(1)], ["10.0.0.0", "10.0.0.0"]);
    assert_eq!([chosen(0), chosen(1)], ["10.0.0.1", "10.0.0.1"]);
}

#[test]
fn another_attempt_takes_no_turn_whatever_it_is_made_for() {
    let upstream = upstream(2, "round_robin");
    let choose = |first| {
        let choice = Choice { first, ..choice(0, 0) };
        upstream.choose(choice).unwrap().address.ip().to_string()
    };

    // Made for a connection that had died unseen, it has nothing to avoid.
    assert_eq!([choose(true), choose(false), choose(false)], ["10.0.0.0", "10.0.0.1", "10.0.0.1"]);
    assert_eq!([choose(true), choose(true)], ["10.0.0.1", "10.0.0.0"]);
}

#[test]
fn an_upstream_of_a_config_that_may_be_refused_changes_nothing() {
    let upstream = upstream(2, "round_robin");
    upstream.states.settle();
    let state = upstream.states.of(([10, 9, 9, 9], 80).into(), true, 2);

    upstream.make_roster(Instant::now());

    assert!(!state.standing().was_usable, "it has not come yet");
    for endpoint in upstream.endpoints().iter() {
        assert!(endpoint.live.standing().since.is_none());
    }
}

#[tokio::test]
async fn all_who_leave_in_one_moment_make_room_for_as_many() {
    let config = "{name: a, endpoints: ['10.0.0.1:80'], limits: {endpoint_in_flight: 10, queue: 50, queue_timeout: 10s}}";
    let config: UpstreamConfig = serde_yaml::from_str(config).unwrap();
    let metrics = Metrics::new("1.0.0").unwrap().upstream("a");
    let transport = Arc::new(Transport::new(&config, None));
    let upstream = Arc::new(Upstream::new(&config, transport, 1, None, metrics, Arc::default()));
    let taken: Vec<Place> = (0..10).map(|_| upstream.choose(choice(0, 0)).unwrap()).collect();
    let one = || Box::pin(maybe_done(upstream.choose_soon(choice(0, 0), None)));
    let mut all: Vec<_> = (0..10).map(|_| one()).collect();
    let begin = async |one: &mut Pin<Box<MaybeDone<_>>>| {
        std::future::poll_fn(|cx| Poll::Ready(one.as_mut().poll(cx).is_ready())).await
    };

    assert!(!begin(&mut all[0]).await, "there is no room");
    drop(taken);
    // They come before the first one, who has been told, has looked again.
    for one in &mut all[1..] {
        begin(one).await;
    }
    let ended = join_all(all.iter_mut().map(Pin::as_mut));
    tokio::time::timeout(Duration::from_secs(1), ended).await.expect("there is room for all");
    let places = all.iter_mut().map(|one| one.as_mut().take_output().and_then(Result::ok));
    let places: Vec<Option<Place>> = places.collect();

    assert!(places.iter().all(Option::is_some));
    assert_eq!(upstream.endpoints()[0].in_flight(), 10);
}

#[test]
#[ignore = "a measurement, meaningful in release mode only"]
fn cost_of_a_choice() {
    const CHOICES: u64 = 3_000_000;
    for way in ["round_robin", "random", "least_requests", "ewma", "{hash: client.ip}"] {
        let upstream = upstream(100, way);
        for endpoint in upstream.endpoints().iter() {
            endpoint.live.note_for_tests();
        }
        for threads in [1, 2] {
            let began = Instant::now();
            std::thread::scope(|scope| {
                for worker in 0..threads {
                    let upstream = &upstream;
                    scope.spawn(move || {
                        for number in 0..CHOICES {
                            let key = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                            black_box(upstream.choose(black_box(choice(worker, key))));
                        }
                    });
                }
            });
            let nanos = began.elapsed().as_nanos() as f64 / CHOICES as f64;
            println!("{way}, {threads} threads: {nanos:.0} ns");
        }
    }
}
