//! A request through the whole house: in, routed, up, down, logged once, counted once.

use gateway_tests::{Gate, Origin};

#[test]
fn a_request_is_proxied_logged_once_and_counted_once() {
    let origin = Origin::saying("hello");
    let gate = Gate::proxying(origin.address(), "");

    let response = gate.get("/a?b=c");

    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
    let line = &gate.log(1)[0];
    assert_eq!(line["http.response.status_code"], 200);
    assert_eq!(line["route"], "all");
    assert_eq!(line["upstream"], "origin");
    assert_eq!(line["status_source"], "upstream");
    gate.await_metric(r#"gateway_requests_total{method="GET",route="all",status="2xx"}"#, 1.0);
    gate.await_metric(r#"gateway_upstream_attempts_total{outcome="ok",upstream="origin"}"#, 1.0);
}

#[test]
fn two_requests_share_one_connection_each_way() {
    let origin = Origin::saying("hello");
    let gate = Gate::proxying(origin.address(), "");
    let mut client = gate.client();

    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status, 200);
    }

    assert_eq!(origin.connections(), 1);
    assert_eq!(gate.metric(r#"gateway_connections_total{listener="public"}"#), 1.0);
}
