//! Metrics, failure codes and the fields of the access log.

use gateway_core::failure_status;
use gateway_core::telemetry::FailureCode;
use gateway_core::telemetry::access_log::{DEFAULT_FIELDS, Field};
use gateway_core::telemetry::metrics::{DOCUMENTED, series_bound};

use super::{Page, read, table};

pub(super) fn pages() -> [Page; 3] {
    [metrics(), failure_codes(), access_log()]
}

fn metrics() -> Page {
    let rows = DOCUMENTED.iter().map(|metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        vec![
            format!("`{}`", metric.name),
            format!("{:?}", metric.kind).to_lowercase(),
            metric.unit.to_owned(),
            labels.join(", "),
            metric.meaning.to_owned(),
        ]
    });
    let text = format!(
        "# Metrics\n\nPrometheus text at the admin address, `/metrics`. Labels are configured names and \
         fixed words: nothing that a client sends becomes one. Series appear when they first count, go \
         when a reload removes their name, and are bounded: {} for ten routes, two listeners, five \
         upstreams and four plugins.\n\n{}",
        series_bound(10, 2, 5, 4),
        table(&["name", "kind", "unit", "labels", "meaning"], rows)
    );
    Page::generated(
        "reference/metrics.md",
        "gateway-core/src/telemetry/metrics/documented.rs",
        &text,
    )
}

fn failure_codes() -> Page {
    let source = "gateway-core/src/telemetry/failure.rs";
    let text = read(source);
    let rows = FailureCode::ALL.iter().map(|code| {
        let start = format!("//! | `{code}` |");
        let row =
            text.lines().find(|line| line.starts_with(&start)).expect("a test holds the table");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let status =
            failure_status(*code).map_or("–".to_owned(), |status| status.as_u16().to_string());
        vec![
            format!("[`{code}`](../runbooks/failure-codes.md#{})", code.code().to_lowercase()),
            code.meaning().to_owned(),
            status,
            cells[3].to_owned(),
            cells[4].to_owned(),
        ]
    });
    let text = format!(
        "# Failure codes\n\nWho ended a request, and in which phase. The first event that ended it wins. A \
         record without a code means that the upstream itself said it.\n\n`D` is the client's side, `P` \
         policy, `U` reaching the upstream, `X` the exchange with it, `G` the gateway itself. The status \
         is what the client gets if no response has begun; a plugin may choose another. A client that left \
         before its response is logged as 499. `P8` is 413 or 431 where a size was the reason.\n\nThe last \
         two columns hold the nearest response flag of Envoy and the first two letters of the nearest \
         termination state of HAProxy; – means that there is none.\n\n{}",
        table(&["code", "meaning", "status", "Envoy", "HAProxy"], rows)
    );
    Page::generated("reference/failure-codes.md", source, &text)
}

fn access_log() -> Page {
    let source = "gateway-core/src/telemetry/access_log/field.rs";
    let meanings = meanings(&read(source));
    assert_eq!(meanings.len(), Field::ALL.len(), "each field is documented where it is declared");
    let rows = Field::ALL.iter().zip(meanings).map(|(field, meaning)| {
        let default = if DEFAULT_FIELDS.contains(field) { "yes" } else { "" };
        vec![format!("`{}`", field.name()), default.to_owned(), meaning]
    });
    let text = format!(
        "# Access log\n\nOne line a finished request: JSON, or text on a terminal. `access_log.fields` \
         chooses the fields and their order; without it a line has those marked here. Names follow the \
         OpenTelemetry semantic conventions where one exists. Values that a client sends are redacted.\n\n\
         Lines are written off the request's path. A full queue drops lines and counts them \
         (`gateway_access_log_dropped_total`). A file is opened again on SIGUSR1.\n\n{}",
        table(&["field", "by default", "meaning"], rows)
    );
    Page::generated("reference/access-log.md", source, &text)
}

/// The comments on the variants of the first enum in a source, in order.
fn meanings(source: &str) -> Vec<String> {
    let body = source.split_once("pub enum Field {").expect("the enum is there").1;
    let body = body.split_once("\n}").expect("the enum ends").0;
    let comments = body.lines().filter_map(|line| line.trim().strip_prefix("/// "));
    comments.map(str::to_owned).collect()
}
