#!/usr/bin/env python3
"""A monitor over TLS as Python's ssl sees it. Arguments: directory of credentials, port, and a
directory whose client is a stranger. Says what went wrong and exits with status 1."""

import json
import os
import socket
import ssl
import sys
import threading
import time

DIRECTORY, PORT, STRANGERS = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def context(version=None, certificates=DIRECTORY, authority=DIRECTORY):
    made = ssl.create_default_context(cafile=os.path.join(authority, "ca-cert.pem"))
    if version is not None:
        made.minimum_version = made.maximum_version = version
    if certificates is not None:
        made.load_cert_chain(
            os.path.join(certificates, "client-cert.pem"),
            os.path.join(certificates, "client-key.pem"),
        )
    return made


def dial():
    return socket.create_connection(("127.0.0.1", PORT), timeout=20)


class Client:
    def __init__(self, with_context):
        self.socket = with_context.wrap_socket(dial(), server_hostname="localhost")
        self.lines = self.socket.makefile("rb")
        self.greeting = self.read()
        self.execute("qmp_capabilities")

    def read(self):
        line = self.lines.readline()
        if not line:
            raise EOFError
        return json.loads(line)

    def send(self, *commands):
        self.socket.sendall(b"".join(json.dumps(c).encode() + b"\n" for c in commands))

    def execute(self, command, **arguments):
        self.send({"execute": command, "arguments": arguments})
        while True:
            answer = self.read()
            if "event" not in answer:
                return answer

    def close(self):
        """With goodbye on both sides."""
        self.lines.close()
        self.socket.unwrap().close()


def talk(version):
    client = Client(context(version))
    assert "QMP" in client.greeting, client.greeting
    assert client.execute("query-status")["return"]["status"], "no status"
    fd = client.execute("getfd", fdname="x")
    assert "SCM_RIGHTS" in fd["error"]["desc"], fd
    # Big output in a pipeline, read late.
    sent = threading.Thread(
        target=lambda: client.send(*({"execute": "query-qmp-schema", "id": i} for i in range(60)))
    )
    sent.start()
    time.sleep(0.5)
    sizes = set()
    for i in range(60):
        answer = client.read()
        assert answer["id"] == i, answer["id"]
        sizes.add(len(answer["return"]))
    assert len(sizes) == 1, sizes
    sent.join()
    # A big command, in small pieces.
    text = json.dumps({"execute": "query-status", "id": "x" * 100_000}).encode() + b"\n"
    for i in range(0, len(text), 777):
        client.socket.sendall(text[i : i + 777])
    assert len(client.read()["id"]) == 100_000
    client.close()


def refused(with_context, what):
    try:
        client = Client(with_context)
    except (ssl.SSLError, EOFError, ConnectionError):
        return
    sys.exit(f"{what} was let in: {client.greeting}")


def garbage():
    for size in (1, 5, 300, 70_000):
        for _ in range(5):
            with dial() as peer:
                try:
                    peer.sendall(os.urandom(size))
                except OSError:
                    pass
    with dial() as peer:
        peer.sendall(b'{"execute": "qmp_capabilities"}\n')
        peer.settimeout(5)
        answer = peer.recv(1000)
        assert b"QMP" not in answer, answer


def main():
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        talk(version)
    refused(context(certificates=None), "nobody")
    refused(context(certificates=STRANGERS), "a stranger")
    try:
        Client(context(authority=STRANGERS))
        sys.exit("the server passed for another one's")
    except ssl.SSLError:
        pass
    garbage()
    # Half-open handshakes keep nobody out.
    flood = [dial() for _ in range(100)]
    began = time.monotonic()
    client = Client(context())
    assert time.monotonic() - began < 5, "kept out by a flood"
    # A second client waits until the first has left.
    waiting = dial()
    client.close()
    waiting.close()
    for peer in flood:
        peer.close()
    for _ in range(1000):
        dial().close()
    for _ in range(30):
        client = Client(context())
        client.execute("query-status")
        # Without goodbye.
        client.lines.close()
        client.socket.close()
    # One who stalls is gone after a while, and is told so.
    stalled = dial()
    stalled.settimeout(20)
    stalled.recv(100)
    talk(None)


main()
