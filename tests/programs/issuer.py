#!/usr/bin/python3
"""An issuer of tokens: PyJWT signs them, and a server gives out the keys.

    issuer.py [CERT KEY]    prints its port, then follows its input, answering each line with one

    token ALGORITHM {...}   a token with these claims, an expiry in ten minutes if they have none
    rotate                  signs with new keys from now on, which are given out besides the old ones
    retire                  gives out only the keys that it signs with
    forge ALGORITHM {...}   a token with the name of a good key, signed with one that nobody has
    stray ALGORITHM {...}   a token signed with a key that is not given out, under its own name
    answer WHAT             what is given out: keys, garbage, huge, slow, error, empty; closing: keys, up to the
                            end of the connection
    fetches                 how often keys were asked for

Its configuration is at /.well-known/openid-configuration, its keys are at /keys.
"""

import base64
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

fetches = 0
answer = "keys"
signing = {}
public = []
serial = 0


def b64(number, length):
    return base64.urlsafe_b64encode(number.to_bytes(length, "big")).rstrip(b"=").decode()


def made(algorithm):
    if algorithm[:2] in ("RS", "PS"):
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key({"ES256": ec.SECP256R1, "ES384": ec.SECP384R1}[algorithm]())


def jwk(algorithm, key, kid):
    numbers = key.public_key()
    if algorithm == "EdDSA":
        raw = numbers.public_bytes_raw() if hasattr(numbers, "public_bytes_raw") else raw_of(numbers)
        parts = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(raw).rstrip(b"=").decode()}
    elif algorithm.startswith("ES"):
        length = {"ES256": 32, "ES384": 48}[algorithm]
        point = numbers.public_numbers()
        curve = {"ES256": "P-256", "ES384": "P-384"}[algorithm]
        parts = {"kty": "EC", "crv": curve, "x": b64(point.x, length), "y": b64(point.y, length)}
    else:
        values = numbers.public_numbers()
        parts = {"kty": "RSA", "n": b64(values.n, 256), "e": b64(values.e, 3)}
    return {**parts, "kid": kid, "use": "sig", "alg": algorithm}


def raw_of(key):
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def rotate():
    global signing, public, serial
    serial += 1
    new = {}
    for algorithm in ("RS256", "PS256", "ES256", "ES384", "EdDSA"):
        key, kid = made(algorithm), f"{algorithm}-{serial}"
        new[algorithm] = (key, kid)
        public = public + [jwk(algorithm, key, kid)]
    signing = new


def signed(algorithm, key, kid, claims):
    claims = {"exp": int(time.time()) + 600, **json.loads(claims)}
    return jwt.encode(claims, key, algorithm=algorithm, headers={"kid": kid})


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global fetches
        here = f"http://{self.headers['Host']}"
        if self.path == "/.well-known/openid-configuration":
            return self.give(json.dumps({"issuer": here, "jwks_uri": f"{here}/keys"}).encode())
        fetches += 1
        if answer == "error":
            return self.give(b"{}", 503)
        if answer == "garbage":
            return self.give(b"<html>")
        if answer == "empty":
            return self.give(b'{"keys": []}')
        if answer == "huge":
            return self.give(b" " * (2 << 20) + json.dumps({"keys": public}).encode())
        if answer == "closing":
            self.close_connection = True
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            return self.wfile.write(json.dumps({"keys": public}).encode())
        if answer == "slow":
            time.sleep(3)
        self.give(json.dumps({"keys": public}).encode())

    def give(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            self.wfile.write(body)
        except ConnectionError:
            pass

    def log_message(self, *_):
        pass


def main():
    global answer, public
    rotate()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if len(sys.argv) == 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # who asked is gone
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for line in sys.stdin:
        word, _, rest = line.strip().partition(" ")
        said = "ok"
        if word in ("token", "forge", "stray"):
            algorithm, _, claims = rest.partition(" ")
            key, kid = signing[algorithm]
            if word != "token":
                key = made(algorithm)
            said = signed(algorithm, key, "stray" if word == "stray" else kid, claims)
        elif word == "rotate":
            rotate()
        elif word == "retire":
            public = public[-len(signing):]
        elif word == "answer":
            answer = rest
        elif word == "fetches":
            said = str(fetches)
        print(said, flush=True)


if __name__ == "__main__":
    main()
