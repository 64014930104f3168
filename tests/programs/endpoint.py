#!/usr/bin/python3
"""An endpoint that does as the path says, over TCP or TLS, in HTTP/1.1 or HTTP/2.

    endpoint.py [--tls CERT KEY] [--client-ca CA] [--http2] [--alpn NAMES] [--proxy] [--streams N]
                [--requests N]

With `--requests` it says goodbye to a connection of HTTP/2 with its Nth request, and looks at no other.

It prints its port, then follows its input: `delay SECONDS` has plain answers take so long, `break SECONDS` has none come after that time. HTTP/2 is spoken by hyper-h2, TLS by OpenSSL: nothing of the gateway's is in it.
Answers tell what the endpoint saw: the number of the connection, the request's number on it, whether
the TLS session was resumed, the subject of the client's certificate, the name that was asked for, and
the header of the PROXY protocol.
"""

import argparse
import socket
import ssl
import struct
import sys
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import hyperframe.frame

LOCK = threading.Lock()
CONNECTIONS = 0
DELAY = 0.0
BREAKS = False


BIG = b"".join(b"%06d" % number for number in range(100_000))


class Done(Exception):
    """The connection is over."""


def reset(sock):
    """Ends a connection with a reset."""
    raw = sock if not isinstance(sock, ssl.SSLSocket) else sock
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Done


def proxy_header(sock):
    """Reads the header of the PROXY protocol, byte by byte, and tells it as text."""
    head = b""
    while len(head) < 12:
        head += sock.recv(1)
        if not head.startswith(b"\r\n\r\n"[: len(head)]):
            break
    if head == b"\r\n\r\n\x00\r\nQUIT\n":
        version, family, length = struct.unpack("!BBH", sock.recv(4, socket.MSG_WAITALL))
        body = sock.recv(length, socket.MSG_WAITALL) if length else b""
        return f"v2 {version:#x} {family:#x} {body.hex()}"
    while not head.endswith(b"\r\n"):
        head += sock.recv(1)
    return head.decode().strip()


class Connection:
    """What is known of one connection."""

    def __init__(self, sock, number, facts):
        self.sock, self.number, self.facts, self.requests = sock, number, facts, 0

    def fields(self, protocol):
        self.requests += 1
        return [
            ("x-connection", str(self.number)),
            ("x-request", str(self.requests)),
            ("x-protocol", protocol),
            *self.facts,
        ]


def http1(conn):
    """Serves HTTP/1.1 until the connection ends."""
    sock, buffer = conn.sock, b""
    while True:
        while b"\r\n\r\n" not in buffer:
            piece = sock.recv(65536)
            if not piece:
                return
            buffer += piece
        head, buffer = buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        method, path, _ = lines[0].split(" ")
        sent = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            sent[name.lower()] = value.strip()
        path = path.split("?")[0]
        if path == "/unread":
            time.sleep(30)
            return
        length, body = int(sent.get("content-length", 0)), b""
        while len(buffer) < length:
            buffer += sock.recv(65536)
        body, buffer = buffer[:length], buffer[length:]
        fields = conn.fields("http1") + [("x-head", "|".join(lines))]
        told = "".join(f"{name}: {value}\r\n" for name, value in fields)

        def answer(status, content):
            text = f"HTTP/1.1 {status} X\r\n{told}content-length: {len(content)}\r\n\r\n"
            sock.sendall(text.encode("latin-1") + content)

        if path == "/hang":
            time.sleep(30)
        elif path == "/reset":
            reset(sock)
        elif path == "/close":
            return
        elif path == "/truncate":
            sock.sendall(f"HTTP/1.1 200 OK\r\n{told}content-length: 10\r\n\r\nhello".encode())
            return
        elif path == "/stall":
            sock.sendall(f"HTTP/1.1 200 OK\r\n{told}content-length: 10\r\n\r\nhello".encode())
            time.sleep(30)
        elif path == "/drip":
            sock.sendall(f"HTTP/1.1 200 OK\r\n{told}content-length: 10\r\n\r\n".encode())
            for _ in range(10):
                time.sleep(0.05)
                sock.sendall(b"x")
        elif path == "/garbage":
            sock.sendall(b"\x00\x01garbage, not HTTP\r\n\r\n")
            return
        elif path == "/echo":
            answer(200, body)
        elif path.startswith("/status/"):
            answer(int(path[8:]), b"no")
        elif path.startswith("/slow/"):
            time.sleep(float(path[6:]))
            answer(200, b"ok")
        elif path == "/big":
            time.sleep(DELAY)
            answer(200, BIG)
        else:
            time.sleep(DELAY)
            if BREAKS:
                reset(sock)
                return
            answer(200, b"" if method == "HEAD" else b"ok")


class Http2:
    """Serves HTTP/2 on one connection."""

    def __init__(self, conn, streams, most):
        self.conn, self.sock, self.most, self.last = conn, conn.sock, most, None
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.lock = threading.RLock()
        self.requests, self.bodies, self.waiting, self.reading = {}, {}, {}, set()
        codes = h2.settings.SettingCodes
        own = {codes.MAX_CONCURRENT_STREAMS: streams, codes.MAX_HEADER_LIST_SIZE: 65536}
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values=own)

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.sock.sendall(data)

    def serve(self):
        self.h2.initiate_connection()
        self.flush()
        while True:
            data = self.sock.recv(65536)
            if not data:
                return
            with self.lock:
                for event in self.h2.receive_data(data):
                    if self.last and (getattr(event, "stream_id", 0) or 0) > self.last:
                        continue
                    self.handle(event)
                self.flush()
                if self.last and not self.waiting and not self.reading:
                    # Its goodbye is not to be lost with what is unread.
                    self.sock.shutdown(socket.SHUT_WR)
                    while self.sock.recv(65536):
                        pass
                    return

    def handle(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.requests[event.stream_id] = [
                (name if isinstance(name, str) else name.decode(),
                 value if isinstance(value, str) else value.decode("latin-1"))
                for name, value in event.headers
            ]
            self.bodies[event.stream_id] = b""
            self.reading.add(event.stream_id)
            if self.most and len(self.requests) == self.most:
                self.last = event.stream_id
                goodbye = hyperframe.frame.GoAwayFrame(0, last_stream_id=self.last)
                self.flush()
                self.sock.sendall(goodbye.serialize())
            if event.stream_ended is None and self.path(event.stream_id) in ("/early",):
                self.answer(event.stream_id)
        elif isinstance(event, h2.events.DataReceived):
            if self.path(event.stream_id) != "/unread":
                self.bodies[event.stream_id] += event.data
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.reading.discard(event.stream_id)
            if self.path(event.stream_id) != "/early":
                self.answer(event.stream_id)
        elif isinstance(event, h2.events.WindowUpdated):
            for stream in list(self.waiting):
                self.pump(stream)

    def path(self, stream):
        return dict(self.requests[stream])[":path"].split("?")[0]

    def pump(self, stream):
        """Sends what the windows let through."""
        data = self.waiting[stream]
        while data:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room <= 0:
                break
            piece, data = data[:room], data[room:]
            self.h2.send_data(stream, piece, end_stream=not data)
        self.waiting[stream] = data
        if not data:
            del self.waiting[stream]

    def answer(self, stream):
        path, body = self.path(stream), self.bodies[stream]
        head = "|".join(f"{name}: {value}" for name, value in self.requests[stream])
        fields = self.conn.fields("http2") + [("x-head", head)]

        def send(status, content, length=None):
            length = len(content) if length is None else length
            told = [(":status", str(status)), ("content-length", str(length)), *fields]
            self.h2.send_headers(stream, told, end_stream=length == 0)
            if content and length == len(content):
                self.waiting[stream] = content
                self.pump(stream)
            elif content:
                self.h2.send_data(stream, content)

        if path == "/hang" or path == "/unread":
            pass
        elif path == "/reset":
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
        elif path == "/close":
            self.flush()
            raise Done
        elif path == "/refuse":
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        elif path == "/refuse-first" and self.conn.requests == 1:
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        elif path == "/goaway" and self.conn.number == 1:
            self.h2.close_connection(last_stream_id=0)
            self.flush()
            time.sleep(0.1)
            raise Done
        elif path == "/truncate":
            send(200, b"hello", 10)
            self.h2.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
        elif path == "/short":
            send(200, b"hello", 10)
            self.h2.end_stream(stream)
        elif path == "/stall":
            send(200, b"hello", 10)
        elif path == "/drip":
            threading.Thread(target=self.drip, args=(stream, fields), daemon=True).start()
        elif path == "/garbage":
            self.flush()
            self.sock.sendall(b"\xff" * 64)
            raise Done
        elif path == "/trailers":
            self.h2.send_headers(stream, [(":status", "200"), *fields])
            self.h2.send_data(stream, b"ok")
            self.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        elif path == "/echo":
            send(200, body)
        elif path.startswith("/status/"):
            send(int(path[8:]), b"no")
        elif path.startswith("/slow/"):
            args = (float(path[6:]), stream, send)
            threading.Thread(target=self.later, args=args, daemon=True).start()
        else:
            method = dict(self.requests[stream])[":method"]
            content = BIG if path == "/big" else b"" if method == "HEAD" else b"ok"
            if DELAY:
                args = (DELAY, stream, send, content)
                threading.Thread(target=self.later, args=args, daemon=True).start()
            else:
                send(200, content)

    def later(self, seconds, stream, send, content=b"ok"):
        time.sleep(seconds)
        with self.lock:
            try:
                if BREAKS:
                    self.h2.reset_stream(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
                else:
                    send(200, content)
                self.flush()
            except Exception:
                pass  # The stream was reset meanwhile.

    def drip(self, stream, fields):
        with self.lock:
            self.h2.send_headers(stream, [(":status", "200"), ("content-length", "10"), *fields])
            self.flush()
        for number in range(10):
            time.sleep(0.05)
            with self.lock:
                self.h2.send_data(stream, b"x", end_stream=number == 9)
                self.flush()


def follow():
    """Does what its input says."""
    global DELAY, BREAKS
    for line in sys.stdin:
        word, value = line.split()
        assert word in ("delay", "break"), line
        DELAY, BREAKS = float(value), word == "break"
        print("done", flush=True)


def serve(sock, options, tls):
    global CONNECTIONS
    with LOCK:
        CONNECTIONS += 1
        number = CONNECTIONS
    facts, names = [], []
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if options.proxy:
            facts.append(("x-proxy", proxy_header(sock)))
        http2_spoken = options.http2
        if tls:
            tls.sni_callback = lambda _sock, name, _context: names.append(name)
            sock = tls.wrap_socket(sock, server_side=True)
            peer = sock.getpeercert() or {}
            subject = [value for part in peer.get("subject", ()) for _, value in part]
            facts.append(("x-resumed", str(sock.session_reused)))
            facts.append(("x-client", ",".join(subject)))
            facts.append(("x-name", str(names[-1] if names else None)))
            http2_spoken = sock.selected_alpn_protocol() == "h2"
        conn = Connection(sock, number, facts)
        if http2_spoken:
            Http2(conn, options.streams, options.requests).serve()
        else:
            http1(conn)
    except (Done, OSError, ssl.SSLError):
        pass
    finally:
        sock.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", nargs=2)
    parser.add_argument("--client-ca")
    parser.add_argument("--http2", action="store_true")
    parser.add_argument("--alpn", default="http/1.1")
    parser.add_argument("--proxy", action="store_true")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--requests", type=int, default=0)
    options = parser.parse_args()
    tls = None
    if options.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*options.tls)
        tls.set_alpn_protocols(options.alpn.split(","))
        if options.client_ca:
            tls.load_verify_locations(options.client_ca)
            tls.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(listener.getsockname()[1], flush=True)
    threading.Thread(target=follow, daemon=True).start()
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(sock, options, tls), daemon=True).start()


if __name__ == "__main__":
    main()
