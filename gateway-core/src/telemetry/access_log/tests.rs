//! The access log as a whole: what is kept, what is dropped, and that no line is lost or torn.

use super::*;
use crate::telemetry::failure::FailureCode;
use std::fs;
use std::path::PathBuf;

const LONG: Duration = Duration::from_secs(20);

/// A folder of its own for one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("access-log-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn options(&self) -> AccessLogOptions {
        AccessLogOptions {
            output: Output::File(self.0.join("access.log")),
            fields: Some(vec![Field::Status, Field::Revision]),
            ..AccessLogOptions::default()
        }
    }

    fn lines(&self, file: &str) -> Vec<String> {
        let content = fs::read_to_string(self.0.join(file)).unwrap();
        assert!(content.is_empty() || content.ends_with('\n'));
        content.lines().map(str::to_owned).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(options: AccessLogOptions) -> AccessLog {
    AccessLog::start(options, Arc::new(Redactor::default()), Losses::default()).unwrap()
}

#[test]
fn errors_and_slow_requests_are_kept_and_good_ones_by_their_share() {
    let folder = Folder::new("sample");
    let slower_than = Some(Duration::from_secs(1));
    let log = start(AccessLogOptions {
        sample_ok: 0.1,
        slower_than,
        queue_lines: 50_000,
        ..folder.options()
    });

    let good = RequestRecord::sample();
    for _ in 0..10_000 {
        log.write(&good);
    }
    log.write(&RequestRecord { status: Some(503), ..good.clone() });
    log.write(&RequestRecord { failure: Some(FailureCode::D1), status: Some(499), ..good.clone() });
    log.write(&RequestRecord { duration: Duration::from_secs(2), revision: 8, ..good });
    assert!(log.shutdown(LONG));

    let lines = folder.lines("access.log");
    let sampled = lines.iter().filter(|line| line.ends_with(r#","sample":0.1}"#)).count();
    assert!((900..1100).contains(&sampled), "{sampled}");
    assert_eq!(lines.len(), sampled + 3);
    assert_eq!(lines.last().unwrap(), r#"{"http.response.status_code":200,"revision":8}"#);
}

#[test]
fn a_share_of_zero_keeps_no_good_line() {
    let folder = Folder::new("zero");
    let log = start(AccessLogOptions { sample_ok: 0.0, ..folder.options() });

    for _ in 0..1000 {
        log.write(&RequestRecord::sample());
    }

    assert!(log.shutdown(LONG));
    assert!(folder.lines("access.log").is_empty());
}

#[test]
fn lines_of_many_workers_arrive_whole_each_once_across_rotations() {
    let folder = Folder::new("rotate");
    let log = start(AccessLogOptions { queue_lines: 1_000_000, ..folder.options() });

    std::thread::scope(|scope| {
        for worker in 0..4 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..5000 {
                    log.write(&RequestRecord {
                        revision: worker * 5000 + number,
                        ..RequestRecord::sample()
                    });
                }
            });
        }
        for rotation in 0..20 {
            let moved = folder.0.join(format!("access.log.{rotation}"));
            fs::rename(folder.0.join("access.log"), moved).unwrap();
            log.reopen().unwrap();
        }
    });
    assert!(log.shutdown(LONG));

    let mut revisions: Vec<u64> = fs::read_dir(&folder.0)
        .unwrap()
        .flat_map(|file| folder.lines(file.unwrap().file_name().to_str().unwrap()))
        .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["revision"].as_u64())
        .map(Option::unwrap)
        .collect();
    revisions.sort_unstable();
    assert_eq!(log.dropped(), 0);
    assert_eq!(revisions, (0..20_000).collect::<Vec<u64>>());
}

#[test]
fn a_full_queue_drops_and_counts() {
    let folder = Folder::new("full");
    let log = start(AccessLogOptions { queue_lines: 8, ..folder.options() });

    for _ in 0..20_000 {
        log.write(&RequestRecord::sample());
    }
    assert!(log.flush(LONG));

    assert!(log.dropped() > 0);
    assert_eq!(folder.lines("access.log").len() as u64 + log.dropped(), 20_000);
}

#[test]
fn lines_after_a_shutdown_count_as_dropped() {
    let folder = Folder::new("closed");
    let log = start(folder.options());
    log.write(&RequestRecord::sample());
    assert!(log.shutdown(LONG));

    log.write(&RequestRecord::sample());

    assert_eq!(log.dropped(), 1);
    assert_eq!(folder.lines("access.log").len(), 1);
    assert!(log.shutdown(LONG));
}

#[test]
fn an_output_that_refuses_is_counted_and_stops_nothing() {
    let folder = Folder::new("refuses");
    let losses = Losses::default();
    let options = AccessLogOptions { output: Output::File("/dev/full".into()), ..folder.options() };
    let log = AccessLog::start(options, Arc::new(Redactor::default()), losses.clone()).unwrap();

    for _ in 0..100 {
        log.write(&RequestRecord::sample());
        assert!(log.flush(LONG));
    }

    assert_eq!(losses.failed.get(), 100);
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_file_that_cannot_be_opened_again_leaves_the_old_one_in_use() {
    let folder = Folder::new("keep");
    let log = start(folder.options());
    fs::rename(folder.0.join("access.log"), folder.0.join("old")).unwrap();
    fs::create_dir(folder.0.join("access.log")).unwrap();

    assert!(log.reopen().is_err());
    log.write(&RequestRecord::sample());

    assert!(log.shutdown(LONG));
    assert_eq!(folder.lines("old").len(), 1);
}

#[test]
fn options_out_of_range_are_refused() {
    let folder = Folder::new("options");
    for options in [
        AccessLogOptions { sample_ok: 1.1, ..folder.options() },
        AccessLogOptions { sample_ok: f64::NAN, ..folder.options() },
        AccessLogOptions { queue_lines: 0, ..folder.options() },
        AccessLogOptions { fields: Some(Vec::new()), ..folder.options() },
        AccessLogOptions { output: Output::File(folder.0.clone()), ..folder.options() },
    ] {
        assert!(AccessLog::start(options, Arc::default(), Losses::default()).is_err());
    }
}

#[test]
#[ignore = "a measurement, meaningful in release mode only"]
fn cost_of_a_written_line() {
    let options = AccessLogOptions {
        output: Output::File("/dev/null".into()),
        queue_lines: 1 << 20,
        ..AccessLogOptions::default()
    };
    let log = start(options);
    let start = std::time::Instant::now();
    for _ in 0..1_000_000 {
        log.write(std::hint::black_box(&RequestRecord::sample()));
    }
    let nanos = start.elapsed().as_nanos() / 1_000_000;
    println!("{nanos} ns a line, {} dropped", log.dropped());
}
