//! How many requests may be in flight at an upstream, and who waits.

use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Client, Gate, Origin, eventually};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An endpoint that answers a request only when it is told to.
struct Held {
    origin: Origin,
    release: mpsc::Sender<()>,
}

impl Held {
    fn saying(text: &'static str) -> Self {
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let origin = Origin::scripted(move |exchange| {
            {
                let released = released.lock().unwrap_or_else(PoisonError::into_inner);
                // A test that is over releases nobody any more.
                let _ = released.recv_timeout(Duration::from_secs(10));
            }
            exchange.write(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{text}"))
        });
        Self { origin, release }
    }

    fn release(&self) {
        self.release.send(()).expect("the endpoint is there");
    }

    /// That so many requests came, and no more. They count as in flight before they arrive.
    #[track_caller]
    fn has_seen(&self, requests: usize) {
        eventually("the requests arrive", || self.origin.requests().len() >= requests);
        assert_eq!(self.origin.requests().len(), requests);
    }
}

fn config(endpoints: &[&Held], limits: &str) -> String {
    let addresses: Vec<String> =
        endpoints.iter().map(|held| format!("\"{}\"", held.origin.address())).collect();
    format!(
        "version: 1\nserver: {{workers: 1}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: LOG, format: json}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    endpoints: [{}]\n    limits: {limits}\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        addresses.join(", ")
    )
}

fn house(endpoints: &[&Held], limits: &str) -> Gate {
    Gate::yaml(&config(endpoints, limits))
}

const IN_FLIGHT: &str = r#"gateway_upstream_requests_in_flight{upstream="origin"}"#;
const WAITING: &str = r#"gateway_upstream_queue_length{upstream="origin"}"#;

/// Clients whose requests are in flight.
fn in_flight(gate: &Gate, requests: u32) -> Vec<Client> {
    let clients = (0..requests).map(|_| {
        let mut client = gate.client();
        client.send(GET);
        client
    });
    let clients = clients.collect();
    gate.await_metric(IN_FLIGHT, requests.into());
    clients
}

fn overflows(gate: &Gate, reason: &str) -> f64 {
    gate.metric(&format!(
        r#"gateway_upstream_overflows_total{{reason="{reason}",upstream="origin"}}"#
    ))
}

#[test]
fn who_finds_no_room_waits_and_who_finds_no_room_to_wait_is_refused() {
    let held = Held::saying("a");
    let gate = house(&[&held], "{in_flight: 2, queue: 1, queue_timeout: 5s}");
    let mut inside = in_flight(&gate, 2);
    let mut waiting = gate.client();
    waiting.send(GET);
    gate.await_metric(WAITING, 1.0);

    let refused = gate.get("/");
    assert_eq!(refused.status, 503);
    assert_eq!(gate.log(1)[0]["failure"], "U8");
    assert_eq!(overflows(&gate, "queue_full"), 1.0);
    held.has_seen(2);

    held.release();
    held.release();
    held.release();
    assert_eq!(waiting.response().status, 200);
    assert!(inside.iter_mut().all(|client| client.response().status == 200));
    gate.await_metric(IN_FLIGHT, 0.0);
    gate.await_metric(WAITING, 0.0);
}

#[test]
fn who_waits_too_long_is_refused() {
    let held = Held::saying("a");
    let gate = house(&[&held], "{in_flight: 1, queue: 9, queue_timeout: 200ms}");
    let _inside = in_flight(&gate, 1);

    let began = Instant::now();
    let mut client = gate.client();
    assert_eq!(client.send(GET).response().status, 503);

    assert!((200..2000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    assert_eq!(overflows(&gate, "queue_timeout"), 1.0);
    held.release();
    gate.await_metric(IN_FLIGHT, 0.0);
    held.release();
    assert_eq!(client.send(GET).response().status, 200, "the connection has stayed open");
}

#[test]
fn an_endpoint_that_is_full_is_not_chosen() {
    let (a, b) = (Held::saying("a"), Held::saying("b"));
    let gate = house(&[&a, &b], "{endpoint_in_flight: 2}");

    let mut inside = in_flight(&gate, 4);
    a.has_seen(2);
    b.has_seen(2);
    assert_eq!(gate.get("/").status, 503);
    assert_eq!(gate.log(1)[0]["failure"], "U8");

    b.release();
    gate.await_metric(IN_FLIGHT, 3.0);
    inside.push(gate.client());
    inside[4].send(GET);
    gate.await_metric(IN_FLIGHT, 4.0);
    a.has_seen(2);
    b.has_seen(3);
    (0..2).for_each(|_| a.release());
    (0..2).for_each(|_| b.release());
    assert!(inside.iter_mut().all(|client| client.response().status == 200));
}

#[test]
fn a_reload_that_raises_the_limit_lets_in_who_waits_and_forgets_nobody() {
    let held = Held::saying("a");
    let limits =
        |in_flight: u32| format!("{{in_flight: {in_flight}, queue: 9, queue_timeout: 9s}}");
    let gate = house(&[&held], &limits(1));
    let mut inside = in_flight(&gate, 1);
    let mut waiting = gate.client();
    waiting.send(GET);
    gate.await_metric(WAITING, 1.0);

    gate.write(&config(&[&held], &limits(2)));
    gate.running().reload().expect("the config is good");
    gate.await_metric(IN_FLIGHT, 2.0);

    // Both of them count under the new config too.
    let mut third = gate.client();
    third.send(GET);
    gate.await_metric(WAITING, 1.0);
    (0..3).for_each(|_| held.release());
    assert_eq!(third.response().status, 200);
    assert_eq!((waiting.response().status, inside[0].response().status), (200, 200));
}

#[test]
fn what_was_before_a_reload_changes_nothing_any_more() {
    let held = Held::saying("a");
    let gate = house(&[&held], "{in_flight: 1}");
    let mut inside = in_flight(&gate, 1);
    for in_flight in [5, 1, 2] {
        gate.write(&config(&[&held], &format!("{{in_flight: {in_flight}}}")));
        gate.running().reload().expect("the config is good");
    }
    thread::sleep(Duration::from_millis(50));

    let mut second = gate.client();
    second.send(GET);
    gate.await_metric(IN_FLIGHT, 2.0);
    assert_eq!(gate.get("/").status, 503);

    (0..2).for_each(|_| held.release());
    assert_eq!((inside[0].response().status, second.response().status), (200, 200));
}

#[test]
fn a_queue_without_a_limit_is_refused() {
    let held = Held::saying("a");
    let config =
        config(&[&held], "{queue: 9}").replace("access_log: {output: LOG, format: json}\n", "");
    let checked = gateway_core::Gateway::builder().config_text(config).check();
    let text = checked.err().expect("the config is refused").to_string();
    assert!(
        text.contains("upstreams[0].limits.queue: nobody waits where nothing is limited"),
        "{text}"
    );
}

#[test]
fn an_attempt_that_is_repeated_leaves_its_place_first() {
    let origin = Origin::scripted(|exchange| match exchange.number {
        1 => exchange.reset(),
        _ => exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"),
    });
    let gate = Gate::yaml(&format!(
        "version: 1\nlisteners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    endpoints: [\"{}\"]\n    \
         limits: {{endpoint_in_flight: 1}}\n    retry: {{backoff: 1ms}}\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        origin.address()
    ));

    assert_eq!(gate.get("/").status, 200);

    assert_eq!(origin.requests().len(), 2);
}

/// An origin that serves so many requests at a time, each in 10 ms; the others wait inside it.
fn busy(at_a_time: usize) -> Origin {
    let places = Arc::new((Mutex::new(at_a_time), Condvar::new()));
    Origin::scripted(move |exchange| {
        let (free, freed) = &*places;
        let mut left = free.lock().unwrap_or_else(PoisonError::into_inner);
        while *left == 0 {
            left = freed.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
        *left -= 1;
        drop(left);
        exchange.pause(Duration::from_millis(10));
        *free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        freed.notify_one();
        exchange.write("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na")
    })
}

/// What many clients at once meet for a while: the times of good answers, in their order, and how many
/// were refused.
fn crowd(gate: &Gate, clients: usize, time: Duration) -> (Vec<Duration>, usize) {
    let until = Instant::now() + time;
    let crowd: Vec<_> = (0..clients)
        .map(|_| {
            let mut client = gate.client();
            thread::spawn(move || {
                let (mut times, mut refused) = (Vec::new(), 0);
                while Instant::now() < until {
                    let began = Instant::now();
                    match client.send(GET).response().status {
                        200 => times.push(began.elapsed()),
                        _ => {
                            refused += 1;
                            thread::sleep(Duration::from_millis(5));
                        }
                    }
                }
                (times, refused)
            })
        })
        .collect();
    let met = crowd.into_iter().map(|client| client.join().expect("it ends"));
    let (times, refused): (Vec<_>, Vec<usize>) = met.unzip();
    let mut times = times.concat();
    times.sort_unstable();
    (times, refused.iter().sum())
}

#[test]
fn a_limit_that_adapts_keeps_answers_quick_at_an_endpoint_that_is_busy() {
    let limit = |gate: &Gate| gate.metric(r#"gateway_upstream_limit{upstream="origin"}"#);
    let origin = busy(4);
    let config = |limits: &str| {
        gateway_tests::balanced_config(&[format!("\"{}\"", origin.address())], limits)
    };
    let unlimited = Gate::yaml(&config(""));
    let (times, _) = crowd(&unlimited, 48, Duration::from_secs(2));
    let (middle, served) = (times[times.len() / 2], times.len());
    assert!(middle > Duration::from_millis(80), "they wait inside the endpoint: {middle:?}");
    assert_eq!(limit(&unlimited), 0.0);

    let adapting = Gate::yaml(&config("limits: {adaptive: {minimum: 2}}"));
    // What others do on the machine looks like an endpoint that is slow, for as long as they do it.
    let mut told = String::new();
    let adapts = (0..4).any(|_| {
        crowd(&adapting, 48, Duration::from_secs(4));
        let found = limit(&adapting);
        let (times, refused) = crowd(&adapting, 48, Duration::from_secs(2));
        let (quick, count) = (times[times.len() / 2], times.len());
        told += &format!("{found} at a time, {quick:?} of {middle:?}, {count} of {served}; ");
        // Somebody pays for quick answers.
        (3.0..=20.0).contains(&found)
            && quick < middle / 2
            && refused > 0
            && count * 10 > served * 7
    });
    assert!(adapts, "{told}");
    // A reload that leaves it alone does not begin anew.
    adapting.write(&config("limits: {adaptive: {minimum: 2}}\nretry: {}"));
    adapting.running().reload().expect("the config is good");
    assert!(limit(&adapting) >= 3.0);
}

#[test]
fn who_finds_every_endpoint_full_waits_for_the_first_that_has_room() {
    let (a, b) = (Held::saying("a"), Held::saying("b"));
    let limits = "{endpoint_in_flight: 1, queue: 2, queue_timeout: 5s}";
    let gate = house(&[&a, &b], limits);
    let mut inside = in_flight(&gate, 2);
    let mut waiting: Vec<Client> = (0..2)
        .map(|number| {
            let mut client = gate.client();
            client.send(GET);
            gate.await_metric(WAITING, f64::from(number + 1));
            client
        })
        .collect();
    assert_eq!(gate.get("/").status, 503, "and no more may wait");
    assert_eq!(overflows(&gate, "queue_full"), 1.0);

    b.release();
    gate.await_metric(WAITING, 1.0);
    b.has_seen(2);
    b.release();
    assert_eq!(waiting[0].response().text(), "b", "the first in the queue came first");
    gate.await_metric(WAITING, 0.0);
    b.release();
    a.release();
    assert_eq!(waiting[1].response().text(), "b");
    assert!(inside.iter_mut().all(|client| client.response().status == 200));
    gate.await_metric(IN_FLIGHT, 0.0);

    let _busy = in_flight(&gate, 2);
    let gate_late = house(&[&a, &b], "{endpoint_in_flight: 1, queue: 2, queue_timeout: 200ms}");
    let _other = in_flight(&gate_late, 2);
    assert_eq!(gate_late.get("/").status, 503);
    assert_eq!(overflows(&gate_late, "queue_timeout"), 1.0);
}

/// Nobody is forgotten where many wait for few places.
#[test]
fn everybody_gets_an_endpoint_in_the_end() {
    let (a, b) = (busy(50), busy(50));
    let limits = "limits: {endpoint_in_flight: 2, queue: 100, queue_timeout: 20s}";
    let endpoints = [&a, &b].map(|origin| format!("\"{}\"", origin.address()));
    let gate = Gate::yaml(&gateway_tests::balanced_config(&endpoints, limits));

    let (times, refused) = crowd(&gate, 40, Duration::from_secs(2));

    assert_eq!(refused, 0);
    let longest = times[times.len() - 1];
    assert!(longest < Duration::from_secs(2), "{longest:?} of {} answers", times.len());
}

#[test]
fn a_limit_that_adapts_has_bounds() {
    let held = Held::saying("a");
    let gate = house(&[&held], "{in_flight: 3, adaptive: {minimum: 2}}");
    let _inside = in_flight(&gate, 2);
    assert_eq!(gate.get("/").status, 503, "it begins at the least");
    assert_eq!(gate.metric(r#"gateway_upstream_limit{upstream="origin"}"#), 2.0);

    let text = config(&[&held], "{in_flight: 3, adaptive: {minimum: 4}}")
        .replace("access_log: {output: LOG, format: json}\n", "");
    let checked = gateway_core::Gateway::builder().config_text(text).check();
    let text = checked.err().expect("the config is refused").to_string();
    assert!(text.contains("upstreams[0].limits.adaptive.minimum: more than"), "{text}");
}
