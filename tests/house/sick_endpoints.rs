//! One of three endpoints falls sick under constant load, and recovers: clients hardly notice.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gateway_tests::{Client, Gate};

const WELL: u8 = 0;
/// Nobody listens any more, and what was open is closed.
const KILLED: u8 = 1;
/// Requests are read and never answered.
const HUNG: u8 = 2;
/// Answers take two seconds.
const SLOW: u8 = 3;
/// Every answer is a 500.
const FAILING: u8 = 4;
/// Closes for writing in place of an answer.
const HALF_CLOSING: u8 = 5;

/// An endpoint that can fall sick.
struct Patient {
    address: SocketAddr,
    state: Arc<AtomicU8>,
    served: Arc<AtomicUsize>,
}

impl Patient {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        let patient = Self { address, state: Arc::default(), served: Arc::default() };
        let (state, served) = (patient.state.clone(), patient.served.clone());
        thread::spawn(move || {
            let mut listener = Some(listener);
            loop {
                thread::sleep(Duration::from_millis(2));
                if state.load(Ordering::Relaxed) == KILLED {
                    listener = None;
                    continue;
                }
                // The port may not be free at once.
                let Some(socket) = listener.take().or_else(|| TcpListener::bind(address).ok())
                else {
                    continue;
                };
                socket.set_nonblocking(true).expect("a socket can be made not to block");
                while let Ok((stream, _)) = socket.accept() {
                    let (state, served) = (state.clone(), served.clone());
                    // A connection's end, however it comes, is no fault of the test.
                    thread::spawn(move || serve(stream, &state, &served));
                }
                listener = Some(socket);
            }
        });
        patient
    }

    fn is(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

fn serve(mut stream: TcpStream, state: &AtomicU8, served: &AtomicUsize) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut head = Vec::new();
    loop {
        let mut bytes = [0; 1024];
        match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(read) => head.extend_from_slice(&bytes[..read]),
            Err(_) if state.load(Ordering::Relaxed) == KILLED => return Ok(()),
            Err(_) => continue,
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let check = head.starts_with(b"GET /healthz ");
        served.fetch_add(usize::from(!check), Ordering::Relaxed);
        head.clear();
        let status = match state.load(Ordering::Relaxed) {
            KILLED => return Ok(()),
            HUNG => {
                while state.load(Ordering::Relaxed) == HUNG {
                    thread::sleep(Duration::from_millis(10));
                }
                return Ok(());
            }
            SLOW => {
                thread::sleep(Duration::from_secs(2));
                200
            }
            FAILING => 500,
            HALF_CLOSING => {
                stream.shutdown(Shutdown::Write)?;
                thread::sleep(Duration::from_secs(1));
                return Ok(());
            }
            _ => 200,
        };
        stream
            .write_all(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nok").as_bytes())?;
    }
}

fn house(patients: &[Patient]) -> Gate {
    let addresses: Vec<String> =
        patients.iter().map(|patient| format!("\"{}\"", patient.address)).collect();
    Gate::yaml(&format!(
        "version: 1\nserver: {{workers: 2}}\nadmin: {{address: \"127.0.0.1:0\"}}\n\
         access_log: {{output: off}}\n\
         listeners: [{{name: public, address: \"127.0.0.1:0\"}}]\n\
         upstreams:\n  - name: origin\n    endpoints: [{}]\n    \
         retry: {{on: [connect_failure, reset, timeout, 500-599], per_try: 250ms}}\n    \
         health:\n      \
         active: {{path: /healthz, interval: 100ms, timeout: 100ms, unhealthy_after: 2}}\n      \
         passive: {{failures: 3, eject_for: 500ms}}\n      slow_start: 1s\n\
         routes: [{{name: all, match: {{path: /}}, upstream: origin}}]\n",
        addresses.join(", ")
    ))
}

/// Clients that ask all the time, each on a connection of its own.
struct Load {
    running: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<(usize, Vec<u16>)>>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let ask = |running: Arc<AtomicBool>| {
            thread::spawn(move || {
                let (mut asked, mut failed) = (0, Vec::new());
                let mut client = Client::connect(address);
                while running.load(Ordering::Relaxed) {
                    asked += 1;
                    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
                    match client.try_response(false) {
                        Ok(response) if response.status == 200 => {}
                        other => {
                            failed.push(other.map_or(0, |response| response.status));
                            client = Client::connect(address);
                        }
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                (asked, failed)
            })
        };
        let threads = (0..8).map(|_| ask(running.clone())).collect();
        Self { running, threads }
    }

    fn end(self) -> (usize, Vec<u16>) {
        self.running.store(false, Ordering::Relaxed);
        let mut all = (0, Vec::new());
        for thread in self.threads {
            let (asked, failed) = thread.join().expect("a client ends");
            all.0 += asked;
            all.1.extend(failed);
        }
        all
    }
}

fn told(gate: &Gate) -> serde_json::Value {
    gate.admin("/upstreams").json()[0]["endpoints"][1].clone()
}

#[track_caller]
fn await_state(gate: &Gate, usable: bool) -> serde_json::Value {
    let began = Instant::now();
    loop {
        let told = told(gate);
        if (told["state"] == "usable") == usable {
            return told;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "still {told}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The second of three endpoints falls sick for two seconds. Fewer than one request in a thousand
/// fails, the gateway says which endpoint it is and why, and its share comes back.
#[track_caller]
#[expect(clippy::print_stdout, reason = "the figures, for who asks with --no-capture")]
fn falls_sick(state: u8) {
    let patients = [Patient::start(), Patient::start(), Patient::start()];
    let gate = house(&patients);
    let load = Load::start(gate.address());
    thread::sleep(Duration::from_millis(500));

    let sick = Instant::now();
    patients[1].is(state);
    let told = await_state(&gate, false);
    let noticed = sick.elapsed();
    thread::sleep(Duration::from_secs(2).saturating_sub(noticed));
    patients[1].is(WELL);
    await_state(&gate, true);
    let back = Instant::now();
    let share = |time: Duration| {
        let before = patients.each_ref().map(Patient::served);
        thread::sleep(time);
        let after = patients.each_ref().map(Patient::served);
        let served: Vec<usize> = after.iter().zip(before).map(|(now, then)| now - then).collect();
        served[1] as f64 / served.iter().sum::<usize>() as f64
    };
    let at_first = share(Duration::from_millis(200));
    thread::sleep(Duration::from_millis(1300).saturating_sub(back.elapsed()));
    let at_last = share(Duration::from_millis(500));
    let (asked, failed) = load.end();

    println!(
        "{} of {asked} requests failed; noticed after {noticed:?}: {} ({}); \
         share at first {at_first:.3}, after the slow start {at_last:.3}",
        failed.len(),
        told["state"],
        told["reason"],
    );
    assert!(asked > 1_500, "the machine is too slow to tell: {asked}");
    assert!(failed.len() * 1000 < asked, "{} of {asked} failed: {failed:?}", failed.len());
    assert!(told["reason"].is_string(), "{told}");
    assert!(at_first < 0.25, "it comes back slowly: {at_first}");
    assert!((0.28..0.38).contains(&at_last), "its share is a third: {at_last}");
}

#[test]
fn an_endpoint_is_killed() {
    falls_sick(KILLED);
}

#[test]
fn an_endpoint_hangs() {
    falls_sick(HUNG);
}

#[test]
fn an_endpoint_takes_two_seconds() {
    falls_sick(SLOW);
}

#[test]
fn an_endpoint_answers_500() {
    falls_sick(FAILING);
}

#[test]
fn an_endpoint_closes_in_place_of_an_answer() {
    falls_sick(HALF_CLOSING);
}
