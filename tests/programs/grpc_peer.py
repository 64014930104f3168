#!/usr/bin/python3
"""A server of gRPC, and clients; both are grpcio. Messages are bytes as they are.

    grpc_peer.py            prints its port, then follows its input, answering each line with one

    all TARGET [CA]         calls of all four kinds, with metadata, compression and a message of 4 MiB
    call TARGET METHOD [TIMEOUT] [MESSAGE]
                            one call: the status, what the server said, and how long it took
    stream TARGET METHOD TIMEOUT MESSAGE...
                            one call, each message sent when the one before is answered: the status, how many messages
                            came, and what the server said
    seen                    how many calls the server saw

Methods of the service test.Test: Echo, Collect (stream in), Spread (stream out), Chat (both), Sleep (as many seconds as
the message says), Turns (stream out: one message, and another once Next is called), Next, FailN (with the status N,
without a message), LateN (the same behind a message), OnceN (the same for one call, and the message alone for others).
"""

import sys
import threading
import time
from concurrent import futures

import grpc

seen = 0
lock = threading.Lock()
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CODES = {code.value[0]: code for code in grpc.StatusCode}


def count():
    global seen
    with lock:
        seen += 1


def told(context):
    """Gives back the metadata that a client sent for it, in front and behind."""
    count()
    sent = dict(context.invocation_metadata())
    if "x-front" in sent:
        context.send_initial_metadata((("x-front", sent["x-front"]),))
    behind = [("x-left", f"{context.time_remaining() or 0:.3f}")]
    if "x-behind-bin" in sent:
        behind.append(("x-behind-bin", sent["x-behind-bin"]))
    context.set_trailing_metadata(behind)


class Service(grpc.GenericRpcHandler):
    turn = threading.Event()
    first = True

    def service(self, call):
        name = call.method.rpartition("/")[2]
        one = lambda f: grpc.unary_unary_rpc_method_handler(f)
        if not call.method.startswith("/test.Test/"):
            return None
        if name == "Echo":
            return one(self.echo)
        if name == "Collect":
            return grpc.stream_unary_rpc_method_handler(self.collect)
        if name == "Spread":
            return grpc.unary_stream_rpc_method_handler(self.spread)
        if name == "Chat":
            return grpc.stream_stream_rpc_method_handler(self.chat)
        if name == "Sleep":
            return one(self.sleep)
        if name == "Turns":
            return grpc.unary_stream_rpc_method_handler(self.turns)
        if name == "Next":
            return one(self.next)
        if name.startswith("Fail"):
            return one(lambda message, context: self.fail(int(name[4:]), context))
        if name.startswith("Late"):
            return grpc.unary_stream_rpc_method_handler(
                lambda message, context: self.late(int(name[4:]), message, context)
            )
        if name.startswith("Once"):
            return grpc.unary_stream_rpc_method_handler(
                lambda message, context: self.once(int(name[4:]), message, context)
            )
        return None

    def echo(self, message, context):
        told(context)
        return message

    def collect(self, messages, context):
        told(context)
        return b"|".join(messages)

    def spread(self, message, context):
        told(context)
        for part in message.split(b"|"):
            yield part

    def chat(self, messages, context):
        told(context)
        for message in messages:
            yield message

    def sleep(self, message, context):
        told(context)
        time.sleep(float(message))
        return message

    def turns(self, message, context):
        told(context)
        self.turn.clear()
        yield b"one"
        if self.turn.wait(10):
            yield b"two"

    def next(self, message, context):
        count()
        self.turn.set()
        return message

    def fail(self, code, context):
        count()
        context.abort(CODES[code], "as you like: 100% sûr")

    def late(self, code, message, context):
        count()
        yield message
        context.abort(CODES[code], "too late")

    def once(self, code, message, context):
        count()
        with lock:
            first, self.first = self.first, False
        yield message
        if first:
            context.abort(CODES[code], "too late")


def channel(target, ca=None, **more):
    if ca is None:
        return grpc.insecure_channel(target, options=OPTIONS, **more)
    with open(ca, "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    options = [*OPTIONS, ("grpc.ssl_target_name_override", "a.test")]
    return grpc.secure_channel(target, credentials, options=options, **more)


def every(target, ca=None):
    metadata = (("x-front", "one"), ("x-behind-bin", b"\x00\xff"))
    for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
        with channel(target, ca, compression=compression) as ch:
            echo = ch.unary_unary("/test.Test/Echo")
            for size in (0, 1, 70_000, 4 << 20):
                message = bytes(range(256)) * (size // 256) if size > 1 else b"x" * size
                back, call = echo.with_call(message, metadata=metadata, timeout=20)
                if back != message:
                    return f"another message of {size}"
                if dict(call.initial_metadata()).get("x-front") != "one":
                    return f"metadata {call.initial_metadata()}"
                if dict(call.trailing_metadata()).get("x-behind-bin") != b"\x00\xff":
                    return f"trailers {call.trailing_metadata()}"
            parts = [b"%d" % n for n in range(200)]
            if ch.stream_unary("/test.Test/Collect")(iter(parts), timeout=20) != b"|".join(parts):
                return "collect"
            if list(ch.unary_stream("/test.Test/Spread")(b"|".join(parts), timeout=20)) != parts:
                return "spread"
            # Each is sent when the one before is back.
            turn = threading.Semaphore(1)

            def speak():
                for part in parts:
                    if not turn.acquire(timeout=10):
                        return
                    yield part

            back = []
            for message in ch.stream_stream("/test.Test/Chat")(speak(), timeout=30):
                back.append(message)
                turn.release()
            if back != parts:
                return f"chat {len(back)}"
    return "ok"


def once(target, method, timeout="20", message="x"):
    began = time.monotonic()
    with channel(target) as ch:
        try:
            path, data = f"/test.Test/{method}", message.encode()
            if method.startswith("Late"):
                call = ch.unary_stream(path)(data, timeout=float(timeout))
                list(call)
            else:
                _, call = ch.unary_unary(path).with_call(data, timeout=float(timeout))
            code, details = call.code(), dict(call.trailing_metadata()).get("x-left", "")
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        took = time.monotonic() - began
        return f"{code.name} {took:.2f} {details}"


def streamed(target, method, timeout, *messages):
    turn = threading.Semaphore(1)
    came = 0

    def speak():
        for message in messages:
            if not turn.acquire(timeout=10):
                return
            yield message.encode()

    with channel(target) as ch:
        call = ch.stream_stream(f"/test.Test/{method}")(speak(), timeout=float(timeout))
        try:
            for _ in call:
                came += 1
                turn.release()
        except grpc.RpcError:
            pass
        turn.release()
        return f"{call.code().name} {came} {call.details()}"


def main():
    server = grpc.server(futures.ThreadPoolExecutor(16), options=OPTIONS)
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    for line in sys.stdin:
        words = line.split()
        try:
            said = {"all": every, "call": once, "stream": streamed, "seen": lambda: str(seen)}[words[0]](*words[1:])
        except Exception as error:  # told to who asked
            said = f"{type(error).__name__} {error}"
        print(said.replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
