#!/usr/bin/python3
"""Calls the standard health service of gRPC through whatever listens there, with grpcio.

    grpc_call.py ADDRESS SERVICE        prints the code of the call, and the status if there is one
"""

import sys

import grpc


def main():
    address, service = sys.argv[1:]
    with grpc.insecure_channel(address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        name = service.encode()
        try:
            answer = check(bytes([0x0A, len(name)]) + name if name else b"", timeout=10)
            print("OK", answer[1])
        except grpc.RpcError as error:
            print(error.code().name, error.details())


if __name__ == "__main__":
    main()
