//! A page of another origin that calls with the client of gRPC's own project, `grpc-web` of npm.

use std::path::Path;
use std::process::Command;

use gateway_tests::{Gate, Program};
use serde_json::{Value, json};

/// What a browser is asked to do. Each call notes what the script gets to see.
const PAGE: &str = r#"
const api = new URLSearchParams(location.search).get("api");
const told = {};
const encode = text => new TextEncoder().encode(text);
const decode = bytes => new TextDecoder().decode(bytes);
function method(name, kind) {
  return new grpc.MethodDescriptor("/test.Test/" + name, kind, Object, Object, encode, decode);
}
function stream(client, name, text, metadata, seen) {
  const call = client.serverStreaming(api + "/test.Test/" + name, text, metadata, method(name, "server_streaming"));
  const messages = [];
  let error = null;
  return new Promise(resolve => {
    const done = () => setTimeout(() => resolve(error ? [messages, error.code, error.message] : messages), 0);
    call.on("data", message => { messages.push(message); if (seen) seen(); });
    call.on("error", failed => { error = failed; done(); });
    call.on("end", done);
  });
}
(async () => {
  for (const format of ["text", "binary"]) {
    const client = new grpc.GrpcWebClientBase({format});
    const one = (name, text, metadata) =>
      client.unaryCall(api + "/test.Test/" + name, text, metadata || {}, method(name, "unary"))
        .catch(error => [error.code, error.message]);
    told[format] = {
      echo: await one("Echo", "hällo"),
      long: (await one("Echo", "x".repeat(300000))).length,
      fails: await one("Fail5", "x"),
      late: await stream(client, "Late13", "x", {}),
      spread: await stream(client, "Spread", "a|bc||def", {}),
      nothing: await one("../other.Other/Nothing", "x"),
      deadline: await one("Sleep", "5", {deadline: String(Date.now() + 700)}),
      exceeding: await one("Echo", "y".repeat(600000)),
    };
  }
  // The second message comes when the first has been seen.
  const text = new grpc.GrpcWebClientBase({format: "text"});
  const next = () => text.unaryCall(api + "/test.Test/Next", "x", {}, method("Next", "unary"));
  told.turns = await stream(text, "Turns", "x", {}, next);
  document.body.innerText = "told:" + JSON.stringify(told);
})();
"#;

/// The client's source. It is fetched once for all builds of a target folder, and has to be what it was.
fn library() -> String {
    const FILE: &str = "grpc-web-2.1.1.tgz";
    const DIGEST: &str = "fa41fcf66939323cbbe0694371979855586b40e063ca659800339845b29e96f4";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = folder.join(FILE);
    if !file.exists() {
        // Under a name of its own until it is whole.
        let coming = folder.join(format!("{FILE}.{}", std::process::id()));
        let url = format!("https://registry.npmjs.org/grpc-web/-/{FILE}");
        run(Command::new("curl").args(["-sSfL", "--retry", "3", "-o"]).arg(&coming).arg(url));
        std::fs::rename(coming, &file).expect("it is there");
    }
    let digest = run(Command::new("sha256sum").arg(&file));
    assert!(digest.starts_with(DIGEST), "{} is another: {digest}", file.display());
    run(Command::new("tar").arg("-xzOf").arg(&file).arg("package/index.js"))
}

/// What a program says, which must not fail.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it is text")
}

fn house(peer: &Program) -> Gate {
    let library = library();
    let page = format!(
        "<html><body>nothing</body><script>const grpc = {{}}; (exports => {{ {library} }})(grpc);</script>\
         <script>{PAGE}</script></html>"
    );
    // To a config `${` would begin a variable.
    let page = serde_json::to_string(&page.replace("${", "$${")).expect("it is text");
    Gate::yaml(&format!(
        r#"
version: 1
server: {{workers: 1}}
admin: {{address: "127.0.0.1:0"}}
access_log: {{output: LOG}}
listeners:
- {{name: pages, address: "127.0.0.1:0"}}
- name: api
  address: "127.0.0.1:0"
  plugins:
  - kind: cors
    options:
      origins: ["http://localhost:*"]
      headers: [content-type, x-grpc-web, x-user-agent, grpc-timeout]
      expose: [grpc-status, grpc-message]
  - kind: grpc-web
  - kind: grpc-message-limit
    options: {{request: 500KB}}
upstreams: [{{name: origin, endpoints: ["{}"], protocol: http2}}]
routes:
- {{name: page, match: {{path: /page, listeners: [pages]}}, reply: {{headers: {{Content-Type: text/html; charset=utf-8}}, body: {page}}}}}
- {{name: calls, match: {{path: /test.Test, listeners: [api]}}, upstream: origin}}
"#,
        peer.address()
    ))
}

/// What the script told. The browser gets a profile of its own.
fn browse(gate: &Gate) -> Value {
    let (pages, api) = (gate.listener("pages").port(), gate.listener("api").port());
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-extensions"])
        .args(["--virtual-time-budget=60000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", gate.folder().join("profile").display()))
        .arg(format!("http://localhost:{pages}/page?api=http://localhost:{api}"))
        .output()
        .expect("chromium is installed");
    let dom = String::from_utf8_lossy(&output.stdout);
    let told = dom.split("<body>told:").nth(1).and_then(|rest| rest.split("</body>").next());
    let told = told.unwrap_or_else(|| {
        panic!("the page told nothing: {}", &dom[dom.len().saturating_sub(3000)..])
    });
    serde_json::from_str(told.trim()).expect("it is JSON")
}

#[test]
fn a_browser_calls_services() {
    let peer = Program::start("grpc_peer.py", &[]);

    let told = browse(&house(&peer));

    for format in ["text", "binary"] {
        let told = &told[format];
        assert_eq!(told["echo"], "hällo", "{told}");
        assert_eq!(told["long"], 300_000, "{told}");
        assert_eq!(told["fails"], json!([5, "as you like: 100% sûr"]));
        assert_eq!(told["late"], json!([["x"], 13, "too late"]));
        assert_eq!(told["spread"], json!(["a", "bc", "", "def"]));
        assert_eq!(told["nothing"], json!([12, "Not Found"]));
        // The service watches the time as well as the gateway does.
        assert_eq!(told["deadline"][0], 4, "{told}");
        let said = "received message larger than max (600000 vs. 500000)";
        assert_eq!(told["exceeding"], json!([8, said]));
    }
    assert_eq!(told["turns"], json!(["one", "two"]));
}
