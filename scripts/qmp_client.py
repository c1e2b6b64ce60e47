"""A QMP client in a page: what a program needs to know to drive qvmd. Python's standard library only.

A connection begins with the server's greeting and the command qmp_capabilities. From then on each command,
{"execute": NAME, "arguments": {...}}, is answered by {"return": ...} or {"error": {"class", "desc"}}, and
events, {"event": NAME, "data": ..., "timestamp": ...}, may come at any time in between.
"""

import json
import socket
import time


class QmpError(Exception):
    """The server refused a command; the text is its own."""


class Qmp:
    def __init__(self, sock, trace=None, patience=60):
        """`trace(direction, text)` sees every message: '->' what is sent, '<-' what comes. An answer is waited for
        `patience` seconds."""
        self.sock = sock
        self.patience = patience
        self.trace = trace or (lambda direction, text: None)
        self.buffer = b""
        self.events = []
        self.greeting = self.message()["QMP"]
        self.execute("qmp_capabilities")

    @classmethod
    def connect(cls, path, trace=None):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(path)
        return cls(sock, trace)

    def message(self, timeout=None):
        """The next message, answer or event; None where the server hung up."""
        deadline = time.monotonic() + (self.patience if timeout is None else timeout)
        while b"\n" not in self.buffer:
            self.sock.settimeout(max(0.001, deadline - time.monotonic()))
            data = self.sock.recv(65536)
            if not data:
                return None
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        self.trace("<-", line.decode().strip())
        return json.loads(line)

    def execute(self, command, **arguments):
        """Runs a command and gives what it returned. A '_' in a key stands for '-'."""
        request = {"execute": command}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        text = json.dumps(request)
        self.trace("->", text)
        self.sock.sendall(text.encode())
        while True:
            message = self.message()
            if message is None:
                raise ConnectionError(f"the server hung up on {command}")
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                raise QmpError(f"{command}: {message['error']['desc']}")
            else:
                return message["return"]

    def wait_event(self, name, timeout=60):
        """The first event of that name that was not yet taken."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events:
                if event["event"] == name:
                    self.events.remove(event)
                    return event
            message = self.message(deadline - time.monotonic())
            if message is None:
                raise ConnectionError(f"the server hung up before the event {name}")
            self.events.append(message)
