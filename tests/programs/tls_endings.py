#!/usr/bin/python3
"""Either end of a connection with TLS, by OpenSSL, that says or is told how it ends.

    tls_endings.py serve CERT KEY SAYS_SO      prints its port; answers the first bytes of each connection with `all`,
                                               and ends it, with a closing alert if SAYS_SO is `true`
    tls_endings.py ask CA PORT TEXT            says TEXT, and prints what it hears, and whether the end was `said`
"""

import socket
import ssl
import sys


def serve(cert, key, says_so):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        bare, _ = listener.accept()
        secured = context.wrap_socket(bare, server_side=True)
        secured.recv(4096)
        secured.sendall(b"all")
        if says_so == "true":
            try:
                secured.unwrap()
            except OSError:
                pass
        secured.close()


def ask(ca, port, text):
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    bare = socket.create_connection(("127.0.0.1", int(port)))
    secured = context.wrap_socket(bare, suppress_ragged_eofs=False)
    secured.settimeout(10)
    secured.sendall(text.encode())
    heard = b""
    try:
        while piece := secured.recv(4096):
            heard += piece
        end = "said"
    except ssl.SSLError:
        end = "unsaid"
    print(heard.decode(), end)


if __name__ == "__main__":
    {"serve": serve, "ask": ask}[sys.argv[1]](*sys.argv[2:])
