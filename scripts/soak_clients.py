"""What scripts/soak's clients send: words of the program's own schema, whole lives of things, and nonsense."""

import json
import os
import random
import socket
import time

LAB = "QVMD_LAB" in os.environ
ANSWER = 120 if LAB else 30  # seconds a command may take; only query-status is held to less
# What a guest starts anew after. In the lab that takes so long that it would never be at work.
STARTS_ANEW = {"system_reset", "system_powerdown"}
SELDOM = 0.02 if LAB else 1

# What ends the program or what a client could do to the host itself.
LEFT_OUT = {"quit", "set-action", "human-monitor-command", "qmp_capabilities", "getfd", "add-fd",
            # With numbers of any size its series go on for hours, a thread each.
            "announce-self"}
# Ids that clients share, so that they get into each other's way.
IDS = [f"x{number}" for number in range(6)]
HMP = ["info status", "info qtree", "info mtree", "info registers", "info block -v", "info pci", "info network", "help",
       "info jobs", "print 1+1", "x /4x 0", "xp /8x 0x100000", "no such command", "info", "", "sum 0 4096"]
NUMBERS = [0, 1, 2, 3, 7, 64, 511, 512, 4096, 65535, 65536, 1 << 20, -1, (1 << 31) - 1, 1 << 31, 1 << 32, 1 << 62,
           (1 << 63) - 1]
# Of these much would really be taken.
SIZES = [0, 1, 512, 4096, 65536, 1 << 20, 4 << 20, (1 << 63) - 1, -1]
SIZED = ("size", "length", "len", "limit", "prealloc", "bandwidth", "granularity", "buf", "max-", "cache", "val")


def connect(path, alive):
    """A socket, as soon as somebody listens. Raises when nobody will."""
    end = time.monotonic() + (300 if LAB else 30)
    while True:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(path)
            return sock
        except OSError:
            sock.close()
            if not alive() or time.monotonic() > end:
                raise
            time.sleep(0.01)


class Schema:
    """What the program says of itself, made into arguments."""

    def __init__(self, entries, chance, directory):
        self.types = {entry["name"]: entry for entry in entries}
        self.commands = sorted(entry["name"] for entry in entries
                               if entry["meta-type"] == "command" and entry["name"] not in LEFT_OUT)
        self.chance = chance
        self.directory = directory

    def command(self):
        """(name, arguments) of any command."""
        while True:
            name = self.chance.choice(self.commands)
            if name in STARTS_ANEW and self.chance.random() > SELDOM:
                continue
            arguments = self.value(self.types[name]["arg-type"], "", 0)
            # Of networks only those that have nothing to do with the host's: no script of it is run.
            if name != "netdev_add" or arguments.get("type") in ("hubport", "stream", "dgram"):
                return name, arguments

    def value(self, name, member, depth):
        of = self.types[name]
        kind = of["meta-type"]
        if kind == "object":
            return self.object(of, depth)
        if kind == "enum":
            return self.chance.choice([value["name"] for value in of["members"]])
        if kind == "array":
            count = self.chance.choice([0, 1, 1, 2, 5]) if depth < 5 else 0
            return [self.value(of["element-type"], member, depth + 1) for _ in range(count)]
        if kind == "alternate":
            return self.value(self.chance.choice(of["members"])["type"], member, depth + 1)
        return self.plain(of.get("json-type", "value"), member)

    def object(self, of, depth):
        made = {}
        for member in of["members"]:
            wanted = "default" not in member or (depth < 6 and self.chance.random() < 0.15)
            if wanted:
                made[member["name"]] = self.value(member["type"], member["name"], depth + 1)
        tag = of.get("tag")
        if tag in made:
            for variant in of["variants"]:
                if variant["case"] == made[tag] and depth < 8:
                    made.update(self.object(self.types[variant["type"]], depth + 1))
        return made

    def plain(self, kind, member):
        if kind == "int":
            sized = any(word in member for word in SIZED)
            return self.chance.choice(SIZES if sized else NUMBERS)
        if kind == "boolean":
            # Memory that is really taken is for nobody to ask for here.
            return member != "prealloc" and self.chance.random() < 0.5
        if kind == "number":
            return self.chance.choice([0, 0.5, 1, -1, 100])
        if kind == "null":
            return None
        return self.text(member)

    def text(self, member):
        if "file" in member or "path" in member or "target" in member:
            return self.chance.choice([self.file(), self.file(), "/nonexistent/x", "/machine", "/objects"])
        if member in ("uri", "url"):
            return self.nowhere()
        return self.chance.choice([*IDS, *IDS, "", "disk0", "raw", "null-co", "/machine", "x" * 300, "\u00e4\u4e2d", "a=b,c"])

    def file(self):
        return os.path.join(self.directory, f"file-{self.chance.choice(IDS)}")

    def nowhere(self):
        return self.chance.choice(["unix:/nonexistent/x", "tcp:127.0.0.1:1", f"file:{self.file()}", "fd:none", "", "x:y",
                                   "tcp:[::1]:1", f"unix:{self.directory}/nobody.sock"])


class Gone(Exception):
    """The connection is no more."""


class Client:
    def __init__(self, number, seed, path, directory, schema, stop):
        self.number, self.path, self.stop = number, path, stop
        self.chance = random.Random(seed)
        self.schema = Schema(schema, self.chance, directory)
        self.log = open(os.path.join(directory, f"client-{number}.log"), "a", buffering=1)
        self.next = 0
        self.counts = {}
        self.sock = None
        self.greet()

    def greet(self):
        if self.sock is not None:
            self.sock.close()
        self.sock = connect(self.path, lambda: not self.stop.is_set())
        self.buffer = b""
        self.line()
        self.ask("qmp_capabilities", {"enable": ["oob"]} if self.chance.random() < 0.5 else {})

    def write(self, data):
        text = data[:300].decode(errors="replace") if isinstance(data, bytes) else data
        self.log.write(f"{time.time():.3f} {text}\n")
        self.sock.settimeout(ANSWER)
        try:
            self.sock.sendall(data)
        except TimeoutError:
            raise RuntimeError(f"nobody reads what client {self.number} sends") from None
        except OSError as error:
            raise Gone from error

    def line(self):
        end = time.monotonic() + ANSWER
        while b"\n" not in self.buffer:
            self.sock.settimeout(max(0.01, end - time.monotonic()))
            try:
                data = self.sock.recv(1 << 16)
            except TimeoutError:
                raise RuntimeError(f"client {self.number} has no answer") from None
            except OSError as error:
                raise Gone from error
            if not data:
                raise Gone
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return json.loads(line)

    def answer(self, wanted):
        """The answer with this id; events and the errors of nonsense before it are passed over."""
        while True:
            message = self.line()
            if message.get("id") == wanted:
                return message

    def request(self, name, arguments, word="execute"):
        self.next += 1
        request = {word: name, "id": self.next}
        if arguments:
            request["arguments"] = arguments
        return self.next, json.dumps(request).encode() + b"\n"

    def ask(self, name, arguments=None, word="execute"):
        wanted, data = self.request(name, arguments, word)
        self.write(data)
        return self.answer(wanted)

    def turn(self):
        does = self.chance.choices(
            [self.valid, self.life, self.invalid, self.hostile, self.pipeline, self.out_of_band, self.hmp],
            [40, 25, 12, 6, 3, 5, 4])[0]
        self.counts[does.__name__] = self.counts.get(does.__name__, 0) + 1
        does()

    def valid(self):
        self.ask(*self.schema.command())

    def hmp(self):
        self.ask("human-monitor-command", {"command-line": self.chance.choice(HMP)})

    def out_of_band(self):
        name = self.chance.choice(["yank", "migrate-pause", "migrate-recover", "query-status", "no-such"])
        self.ask(name, {"yank": {"instances": []}, "migrate-recover": {"uri": self.schema.nowhere()}}.get(name), "exec-oob")

    def invalid(self):
        name, arguments = self.schema.command()
        how = self.chance.randrange(5)
        if how == 0:
            name = self.chance.choice(["no-such-command", "", "x" * 5000, name + " ", "QUERY-STATUS"])
        elif how == 1:
            arguments["no-such-member"] = self.chance.choice([None, 1, {}, []])
        elif how == 2 and arguments:
            arguments[self.chance.choice(sorted(arguments))] = self.chance.choice([None, 1.5, {}, [], "x", {"a": [1]}, -1])
        elif how == 3 and arguments:
            del arguments[self.chance.choice(sorted(arguments))]
        else:
            wanted = self.next = self.next + 1
            self.write(json.dumps({"execute": name, "arguments": [1], "id": wanted, "control": 1}).encode())
            self.answer(wanted)
            return
        self.ask(name, arguments)

    def hostile(self):
        """Bytes that are no command; then a new connection, or the word that brings a monitor to its senses."""
        how = self.chance.randrange(9)
        if how == 0:
            self.write(self.chance.randbytes(self.chance.randrange(1, 4000)))
        elif how == 1:
            self.write(self.chance.choice([b"[", b'{"a":']) * self.chance.choice([100, 1500, 20000]))
        elif how == 2:
            self.write(b'{"execute":"' + b"x" * self.chance.choice([1000, 100_000, 3_000_000]) + b'"}\n')
        elif how == 3:
            _, data = self.request(*self.schema.command())
            self.write(data[:self.chance.randrange(1, len(data))])
        elif how == 4:
            _, data = self.request(*self.schema.command())
            self.write(data)
            self.greet()  # it vanishes before the answer
            return
        elif how == 5:
            _, data = self.request("query-qmp-schema", {})
            self.write(data * self.chance.choice([1, 5, 20]))
            self.greet()  # and so with much of it on its way
            return
        elif how == 6:
            self.write(b"\xff\xff\n\x00\x00}{][\"\\u\n")
        elif how == 7:
            self.write(b'{"execute":"query-status","id":' + b"[" * 900 + b"]" * 900 + b"}\n")
        else:
            for byte in b'{"execute":"query-status"}':
                self.write(bytes([byte]))
        if self.chance.random() < 0.5:
            self.greet()
            return
        self.next += 1
        self.write(b'\xff\n{"execute":"query-status","id":%d}\n' % self.next)
        self.answer(self.next)

    def pipeline(self):
        """Many at once, whose answers come in order."""
        wanted, all_of_it = [], b""
        for _ in range(self.chance.choice([5, 20, 100])):
            name = self.chance.choice(["query-status", "query-block", "query-chardev", "query-jobs", "query-iothreads"])
            number, data = self.request(name, {})
            wanted.append(number)
            all_of_it += data
        self.write(all_of_it)
        for number in wanted:
            self.answer(number)

    def life(self):
        self.chance.choice([self.disk, self.scsi, self.serial, self.network, self.thread, self.snapshot, self.job,
                            self.migrate, self.medium, self.power, self.memory, self.dump])()

    def id(self):
        return self.chance.choice(IDS)

    def disk(self):
        node, device = self.id(), self.id()
        self.ask("blockdev-add", self.chance.choice([
            {"driver": "null-co", "node-name": node, "size": 1 << 20},
            {"driver": "raw", "node-name": node, "file": {"driver": "null-co", "size": 1 << 20}},
            {"driver": "file", "node-name": node, "filename": self.schema.file()},
            {"driver": "qcow2", "node-name": node, "file": {"driver": "file", "filename": self.schema.file()}}]))
        self.ask("device_add", {"driver": "virtio-blk-pci", "drive": node, "id": device,
                                "bus": self.chance.choice(["rp0", "rp1", "pcie.0"])})
        if self.chance.random() < 0.8:
            self.ask("device_del", {"id": device})
            self.ask("blockdev-del", {"node-name": node})

    def scsi(self):
        node, device = self.id(), self.id()
        self.ask("blockdev-add", {"driver": "null-co", "node-name": node, "size": 1 << 20})
        self.ask("device_add", {"driver": self.chance.choice(["scsi-hd", "scsi-cd"]), "drive": node, "id": device,
                                "bus": "scsi0.0", "lun": self.chance.randrange(8)})
        self.ask("device_del", {"id": device})
        self.ask("blockdev-del", {"node-name": node})

    def serial(self):
        char, port = self.id(), self.id()
        self.ask("chardev-add", {"id": char, "backend": self.chance.choice([
            {"type": "null", "data": {}}, {"type": "ringbuf", "data": {"size": 4096}}, {"type": "pty", "data": {}},
            {"type": "file", "data": {"out": self.schema.file()}},
            {"type": "socket", "data": {"server": True, "wait": False, "addr": {
                "type": "unix", "data": {"path": self.schema.file() + ".chr"}}}},
            {"type": "socket", "data": {"server": False, "reconnect-ms": 10, "addr": {
                "type": "unix", "data": {"path": "/nonexistent/x"}}}}])})
        self.ask("device_add", {"driver": "virtserialport", "chardev": char, "id": port, "bus": "serial1.0"})
        self.ask("ringbuf-write", {"device": char, "data": "words"})
        self.ask("device_del", {"id": port})
        self.ask("chardev-remove", {"id": char})

    def network(self):
        net, nic = self.id(), self.id()
        self.ask("netdev_add", self.chance.choice([
            {"type": "hubport", "id": net, "hubid": self.chance.randrange(3)},
            {"type": "stream", "id": net, "server": True, "addr": {"type": "unix", "path": self.schema.file() + ".net"}},
            {"type": "dgram", "id": net, "local": {"type": "unix", "path": self.schema.file() + ".dgram"},
             "remote": {"type": "unix", "path": "/nonexistent/x"}}]))
        self.ask("device_add", {"driver": "virtio-net-pci", "netdev": net, "id": nic,
                                "bus": self.chance.choice(["rp0", "rp1", "pcie.0"])})
        self.ask("set_link", {"name": net, "up": self.chance.random() < 0.5})
        self.ask("query-rx-filter", {})
        self.ask("announce-self", {"initial": 1, "max": 5, "rounds": 3, "step": 1})
        self.ask("device_del", {"id": nic})
        self.ask("netdev_del", {"id": net})

    def thread(self):
        name = self.id()
        self.ask("object-add", self.chance.choice([
            {"qom-type": "iothread", "id": name}, {"qom-type": "rng-builtin", "id": name},
            {"qom-type": "throttle-group", "id": name}, {"qom-type": "secret", "id": name, "data": "x"}]))
        self.ask("qom-list", {"path": f"/objects/{name}"})
        self.ask("object-del", {"id": name})

    def memory(self):
        name = self.id()
        self.ask("object-add", {"qom-type": self.chance.choice(["memory-backend-ram", "memory-backend-memfd"]),
                                "id": name, "size": self.chance.choice([1 << 20, 8 << 20, 1 << 62, 0])})
        self.ask("object-del", {"id": name})

    def snapshot(self):
        tag = self.id()
        which = self.chance.choice(["snapshot-save", "snapshot-load", "snapshot-delete"])
        arguments = {"job-id": self.id(), "tag": tag, "devices": [self.id()]}
        if which != "snapshot-delete":
            arguments["vmstate"] = self.id()
        self.ask(which, arguments)
        node = self.id()
        self.ask("blockdev-snapshot-sync", {"node-name": node, "snapshot-file": self.schema.file(),
                                            "snapshot-node-name": self.id()})

    def job(self):
        job, node, target = self.id(), self.id(), self.id()
        for name in (node, target):
            self.ask("blockdev-add", {"driver": "null-co", "node-name": name, "size": 4 << 20})
        self.ask(*self.chance.choice([
            ("blockdev-mirror", {"job-id": job, "device": node, "target": target, "sync": "full"}),
            ("blockdev-backup", {"job-id": job, "device": node, "target": target, "sync": "full", "speed": 65536}),
            ("blockdev-create", {"job-id": job, "options": {"driver": "file", "filename": self.schema.file(), "size": 1 << 20}}),
            ("blockdev-create", {"job-id": job, "options": {"driver": "qcow2", "file": node, "size": 1 << 20}})]))
        self.ask("query-jobs")
        self.ask(self.chance.choice(["job-cancel", "job-complete", "job-pause", "job-finalize"]), {"id": job})
        self.ask("job-dismiss", {"id": job})
        for name in (node, target):
            self.ask("blockdev-del", {"node-name": name})

    def migrate(self):
        self.ask("migrate", {"uri": self.schema.nowhere()})
        self.ask("query-migrate")
        if self.chance.random() < 0.7:
            self.ask("migrate_cancel")

    def medium(self):
        device = self.id()
        self.ask("device_add", {"driver": "scsi-cd", "id": device, "bus": "scsi0.0", "lun": 9})
        self.ask("blockdev-change-medium", {"id": device, "filename": self.schema.file(), "format": "raw"})
        self.ask("eject", {"id": device, "force": True})
        self.ask("device_del", {"id": device})

    def power(self):
        name = self.chance.choice(["stop", "cont", "cont", "system_reset", "system_powerdown", "system_wakeup"])
        if name not in STARTS_ANEW or self.chance.random() < SELDOM:
            self.ask(name)

    def dump(self):
        if self.chance.random() < 0.2:
            self.ask("dump-guest-memory", {"paging": False, "protocol": f"file:{self.schema.file()}.dump"})
        self.ask("memsave" if self.chance.random() < 0.5 else "pmemsave",
                 {"val": 1 << 20, "size": 65536, "filename": self.schema.file() + ".mem"})


def run(number, seed, path, directory, schema, stop, rest, resting, results):
    """A client's process."""
    client = None
    if LAB:
        os.nice(10)  # for there is one processor, and the guest is to have some of it
    try:
        while not stop.is_set():
            if rest.is_set():
                resting.set()
                time.sleep(0.05)
                continue
            try:
                if client is None:
                    client = Client(number, seed, path, directory, schema, stop)
                client.turn()
            except Gone:
                if stop.wait(0.2):
                    break
                client.greet()
    except RuntimeError as error:
        results.put(("failure", str(error)))
    except (Gone, OSError, ConnectionError):
        pass  # the program is at its end; who watches it knows whether it may be
    if client is not None:
        results.put(("sent", client.counts))


def last_words(directory, number):
    try:
        with open(os.path.join(directory, f"client-{number}.log"), errors="replace") as file:
            return [line.rstrip("\n")[:300] for line in file.readlines()[-3:]]
    except OSError:
        return []


def tidy(qmp, keep):
    """Takes away what clients made; returns the names of what would not go."""

    def attempt(command, **arguments):
        try:
            return qmp.execute(command, **arguments)
        except Exception as error:  # noqa: BLE001 a refusal; whoever has gone is noticed by the next command
            if not type(error).__name__ == "QmpError":
                raise
            return None

    attempt("migrate_cancel")
    for turn in range(20):
        for job in attempt("query-jobs") or []:
            attempt("job-cancel", id=job["id"])
            attempt("job-finalize", id=job["id"])
            attempt("job-dismiss", id=job["id"])
        devices = [entry["name"] for entry in attempt("qom-list", path="/machine/peripheral") or []
                   if entry["type"].startswith("child<")]
        devices = [name for name in devices if name not in keep and name not in ("rp0", "rp1", "scsi0", "serial1")]
        for name in devices:
            attempt("device_del", id=name)
        if devices and (not LAB or turn > 5):
            attempt("system_reset")
        if devices:
            time.sleep(1 if LAB else 0.1)
        for name in IDS:
            attempt("netdev_del", id=name)
        nodes = [node["node-name"] for node in attempt("query-named-block-nodes", flat=True) or []]
        nodes = [name for name in nodes if name not in keep and not name.startswith("#")]
        for name in nodes:
            attempt("blockdev-del", node_name=name)
        chars = [char["label"] for char in attempt("query-chardev") or []]
        chars = [name for name in chars if name in IDS or name not in keep and not name.startswith("compat_monitor")]
        for name in chars:
            attempt("chardev-remove", id=name)
        objects = [entry["name"] for entry in attempt("qom-list", path="/objects") or []
                   if entry["type"].startswith("child<")]
        objects = [name for name in objects if name not in keep]
        for name in objects:
            attempt("object-del", id=name)
        left = [*devices, *nodes, *chars, *objects]
        if not left:
            break
        attempt("cont")
        time.sleep(0.1)
    attempt("cont")
    qmp.events.clear()
    return left
