#!/usr/bin/python3
"""A gRPC server with the standard health service, written by hand over grpcio's raw handlers.

    grpc_health.py          prints its port, then follows its input: a line `serving` or `not_serving`

It knows the server as a whole and the service `users`; of any other it knows nothing.
"""

import sys
from concurrent import futures

import grpc

SERVING, NOT_SERVING = 1, 2
status = SERVING


def check(request, context):
    """HealthCheckRequest has the service in field 1, HealthCheckResponse the status."""
    service = request[2:].decode() if request else ""
    if service not in ("", "users"):
        context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
    return bytes([0x08, status])


def main():
    global status
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    handler = grpc.unary_unary_rpc_method_handler(check)
    handlers = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})
    server.add_generic_rpc_handlers((handlers,))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    for line in sys.stdin:
        status = SERVING if line.strip() == "serving" else NOT_SERVING
    server.stop(0)


if __name__ == "__main__":
    main()
