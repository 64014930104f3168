#!/usr/bin/python3
"""Traffic of all kinds at once, by clients of other makes, that counts what it loses.

    traffic.py --http HOST:PORT --tls HOST:PORT --ca FILE --download BYTES --grpc HOST:PORT --turns COUNT

Prints `0`, then follows its input: `report` has it print one line of JSON, `end` has it end everything, print the last
line and stop. What it asks for: /ok, /download, /chat (WebSocket) over HTTP, and the method Chat of gRPC.

kept        HTTP/1.1, one request after the other on a connection
fresh       the same with a connection for each
tls, tls_fresh
            the same over TLS
h2          HTTP/2, one stream after the other on a connection
socket      a WebSocket, a message a second
download    a long body, read slowly
grpc        streams of gRPC, a message a second; each of so many turns, or without an end

Of each kind the line tells how many exchanges there were (`done`), how many connections (`connections`), the longest
time without one in seconds (`gap`), and what was lost (`lost`), which nothing that the protocols allow is: a connection
that was to be closed after its answer, a stream above the last one of a goodbye, a WebSocket closed with 1001.
"""

import argparse
import asyncio
import http.client
import json
import queue
import socket
import ssl
import sys
import threading
import time

import grpc
import h2.config
import h2.connection
import h2.events
import websockets

OVER = threading.Event()


class Kind:
    def __init__(self):
        self.done = 0
        self.connections = 0
        self.lost = []
        self.closed = {}
        self.gap = 0.0
        self.last = time.monotonic()

    def one(self):
        now = time.monotonic()
        self.gap = max(self.gap, now - self.last)
        self.last = now
        self.done += 1

    def lose(self, what):
        if not OVER.is_set():
            self.lost.append(str(what)[:300])
            time.sleep(0.05)

    def told(self):
        gap = max(self.gap, time.monotonic() - self.last)
        told = {"done": self.done, "connections": self.connections, "gap": round(gap, 3)}
        return {**told, "lost": len(self.lost), "first": self.lost[:5], "closed": self.closed}


def http1(kind, connect, keeps):
    """Requests one after the other, on a connection for as long as the server keeps it."""
    connection = None
    while not OVER.is_set():
        try:
            if connection is None:
                connection = connect()
                connection.connect()
                kind.connections += 1
            connection.request("GET", "/ok", headers={"Connection": "keep-alive"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or body != b"ok":
                kind.lose(f"{answer.status} {body[:100]!r}")
            else:
                kind.one()
            if not keeps or answer.will_close:
                connection.close()
                connection = None
        except Exception as error:
            kind.lose(f"{type(error).__name__} {error}")
            connection = None


def http2(kind, host, port):
    """One stream after the other, on a connection until the server says goodbye."""
    while not OVER.is_set():
        try:
            tcp = socket.create_connection((host, port), 10)
            tcp.settimeout(10)
            kind.connections += 1
            session = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
            session.initiate_connection()
            tcp.sendall(session.data_to_send())
            goodbye, held = False, bytearray()
            while not OVER.is_set() and not goodbye:
                goodbye = stream(kind, tcp, session, held)
            tcp.close()
        except Exception as error:
            kind.lose(f"{type(error).__name__} {error}")


def frames(held):
    """The whole frames at the beginning of what came, taken out of it, and whether one is a goodbye, with its last stream.

    The library takes the first goodbye for the end of the connection, and nothing after it."""
    whole, last = b"", None
    while len(held) >= 9 and len(held) >= (size := 9 + int.from_bytes(held[:3], "big")):
        frame = bytes(held[:size])
        del held[:size]
        if frame[3] == 7:
            last = int.from_bytes(frame[9:13], "big") & 0x7FFFFFFF
        else:
            whole += frame
    return whole, last


def stream(kind, tcp, session, held):
    """One exchange; whether the server has said goodbye."""
    number = session.get_next_available_stream_id()
    fields = [(":method", "GET"), (":path", "/ok"), (":scheme", "http"), (":authority", "a")]
    session.send_headers(number, fields, end_stream=True)
    tcp.sendall(session.data_to_send())
    status, body, goodbye = None, b"", False
    while True:
        bytes_in = tcp.recv(65536)
        if not bytes_in:
            kind.lose("the connection ended without an answer")
            return True
        held += bytes_in
        whole, last = frames(held)
        if last is not None:
            goodbye = True
            if last < number:
                # It was not looked at, and may be asked anew.
                return True
        for event in session.receive_data(whole):
            if isinstance(event, h2.events.ResponseReceived):
                status = dict(event.headers)[b":status"]
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
                session.acknowledge_received_data(event.flow_controlled_length, number)
            elif isinstance(event, h2.events.StreamReset):
                kind.lose(f"stream reset with {event.error_code}")
                return True
            elif isinstance(event, h2.events.StreamEnded):
                if (status, body) != (b"200", b"ok"):
                    kind.lose(f"{status} {body[:100]!r}")
                else:
                    kind.one()
                tcp.sendall(session.data_to_send())
                return goodbye
        try:
            tcp.sendall(session.data_to_send())
        except OSError:
            if not goodbye:
                raise


async def chat(kind, uri):
    while not OVER.is_set():
        try:
            async with websockets.connect(uri, open_timeout=10, close_timeout=10) as ws:
                kind.connections += 1
                while not OVER.is_set():
                    await ws.send("hello")
                    if await asyncio.wait_for(ws.recv(), 10) != "hello":
                        kind.lose("another message came back")
                    kind.one()
                    try:
                        # Closed in between it is told, too.
                        await asyncio.wait_for(ws.wait_closed(), 1)
                    except asyncio.TimeoutError:
                        continue
                    break
        except websockets.ConnectionClosed:
            pass
        except Exception as error:
            kind.lose(f"{type(error).__name__} {error}")
            continue
        if not OVER.is_set():
            kind.closed[str(ws.close_code)] = kind.closed.get(str(ws.close_code), 0) + 1
            if ws.close_code != 1001:
                kind.lose(f"closed with {ws.close_code}")


def download(kind, host, port, length):
    """A body of which a piece is read every tenth of a second, so that all of it takes ten."""
    piece = max(length // 100, 1)
    while not OVER.is_set():
        try:
            connection = http.client.HTTPConnection(host, port, timeout=30)
            kind.connections += 1
            connection.request("GET", "/download")
            answer = connection.getresponse()
            came = 0
            while bytes_in := answer.read(piece):
                came += len(bytes_in)
                if OVER.wait(0.1):
                    return
            if (answer.status, came) != (200, length):
                kind.lose(f"{answer.status}, {came} of {length} bytes")
            else:
                kind.one()
            connection.close()
        except Exception as error:
            kind.lose(f"{type(error).__name__} {error}")


def conversation(kind, target, turns_at_most):
    """A stream of gRPC for so many messages, or as long as the server keeps it; then another."""
    channel = grpc.insecure_channel(target)
    call = channel.stream_stream("/test.Test/Chat")
    while not OVER.is_set():
        turns = queue.Queue()
        said = iter(turns.get, None)
        try:
            kind.connections += 1
            answers = call(said, timeout=600)
            left = turns_at_most
            while not OVER.is_set() and left != 0:
                left -= 1
                turns.put(b"hello")
                next(answers)
                kind.one()
                OVER.wait(1)
            turns.put(None)
            for _ in answers:
                kind.lose("more came back than was said")
        except Exception as error:
            kind.lose(f"{type(error).__name__} {error}")
            turns.put(None)


def main():
    parser = argparse.ArgumentParser()
    for name in ("http", "tls", "ca", "grpc"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--download", type=int, default=0)
    parser.add_argument("--turns", type=int, default=-1)
    options = parser.parse_args()
    host, _, port = options.http.rpartition(":")
    port = int(port)
    kinds = {}

    def start(name, run, *arguments):
        kinds[name] = Kind()
        thread = threading.Thread(target=run, args=(kinds[name], *arguments), daemon=True)
        thread.start()

    plain = lambda: http.client.HTTPConnection(host, port, timeout=10)
    start("kept", http1, plain, True)
    start("fresh", http1, plain, False)
    start("h2", http2, host, port)
    start("socket", lambda kind: asyncio.run(chat(kind, f"ws://{host}:{port}/chat")))
    if options.download:
        start("download", download, host, port, options.download)
    if options.tls:
        context = ssl.create_default_context(cafile=options.ca)
        context.check_hostname = False
        tls_host, _, tls_port = options.tls.rpartition(":")
        secured = lambda: http.client.HTTPSConnection(tls_host, int(tls_port), timeout=10, context=context)
        start("tls", http1, secured, True)
        start("tls_fresh", http1, secured, False)
    if options.grpc:
        start("grpc", conversation, options.grpc, options.turns)
    print(0, flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            # What is cut by that is nobody's fault.
            told = {name: kind.told() for name, kind in kinds.items()}
            OVER.set()
            print(json.dumps(told), flush=True)
            return
        print(json.dumps({name: kind.told() for name, kind in kinds.items()}), flush=True)


if __name__ == "__main__":
    main()
