//! Messages of gRPC that are too long: the plugin in a whole gateway, grpcio at both ends.

use crate::grpc::{House, house};

fn limit(options: &str) -> String {
    format!(", plugins: [{{kind: grpc-message-limit, options: {{{options}}}}}]")
}

fn limited(options: &str) -> House {
    house(&limit(options), "", "")
}

fn long(length: usize) -> String {
    "x".repeat(length)
}

#[test]
fn a_message_that_is_too_long_does_not_reach_the_endpoint() {
    let house = limited("request: 1KiB");
    assert_eq!(house.status(&format!("Echo 20 {}", long(1024))), "OK");

    let (status, _, said) = house.call(&format!("Echo 20 {}", long(1025)));

    assert_eq!(status, "RESOURCE_EXHAUSTED");
    assert_eq!(said, "received message larger than max (1025 vs. 1024)");
    assert_eq!(house.tell("seen"), "1", "nobody was called with it");
    let line = house.gate.log(2)[1].clone();
    assert_eq!((&line["failure"], &line["ended_by"]), (&"P8".into(), &"grpc-message-limit".into()));
    assert_eq!(line["rpc.grpc.status_code"], 8);
    // As long as no one is too long, there may be any number.
    let many = vec![long(1000); 40].join(" ");
    assert_eq!(house.stream(&format!("Chat 20 {many}")), "OK 40");
}

#[test]
fn a_call_in_both_directions_ends_with_the_status_behind_what_was_answered() {
    let ejects = ", health: {passive: {failures: 2, eject_for: 1m, max_ejected: 100%}}";
    let house = house(&limit("request: 8KiB, response: 1KiB"), ejects, "");

    for _ in 0..3 {
        let told = house.stream(&format!("Chat 20 one two {} four", long(9000)));
        let said = "received message larger than max (9000 vs. 8192)";
        assert_eq!(told, format!("RESOURCE_EXHAUSTED 2 {said}"));
        let told = house.stream(&format!("Spread 20 one|{}", long(5000)));
        assert!(told.starts_with("RESOURCE_EXHAUSTED 1 sent message"), "{told}");
    }

    assert_eq!(house.status("Echo"), "OK", "it is no fault of the endpoint");
    let outcome = "gateway_upstream_attempts_total{outcome=\"P8\",upstream=\"origin\"}";
    assert!(house.gate.metric(outcome) >= 3.0);
}

#[test]
fn an_answer_ends_with_the_status_before_a_message_that_is_too_long() {
    let house = limited("response: 1KiB");
    let said = "sent message larger than max (2000 vs. 1024)";

    for (before, came) in [("", 0), ("one|two|", 2)] {
        let told = house.stream(&format!("Spread 20 {before}{}|four", long(2000)));
        assert_eq!(told, format!("RESOURCE_EXHAUSTED {came} {said}"));
    }

    let (status, _, told) = house.call(&format!("Echo 20 {}", long(2000)));
    assert_eq!((status.as_str(), told.as_str()), ("RESOURCE_EXHAUSTED", said));
    assert_eq!(house.status(&format!("Echo 20 {}", long(1000))), "OK");
    for line in &house.gate.log(4)[..3] {
        assert_eq!((&line["failure"], &line["rpc.grpc.status_code"]), (&"P8".into(), &8.into()));
    }
}
