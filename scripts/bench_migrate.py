"""The part `migrate` of scripts/bench: a machine's state on its way, under either program.

A guest without an operating system (tests/guest, its word `halt`) waits in memory that is random throughout but for the few
pages of the guest, or that was never touched. It moves over a unix socket to a second process of the same program, is saved
with a snapshot, into a file, dumped, and restored from a file. Times are taken outside, from the command to the event or answer that says
that it is done, by the clock of the host; the time without a running guest is that between STOP of one process and RESUME of the other. Limits of bandwidth are
off. Python's standard library only.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import bench_disk

MIB, GIB = 1 << 20, 1 << 30
# Name: (what it is, unit, digits, ratio wanted, value wanted); rates where higher is better
RATE = 1 / 1.5
ROWS = {
    "move-random": ("4 GiB of random memory over a unix socket", "MiB/s", 0, 1.5, None),
    "move-random-multifd": ("the same by 4 channels (multifd)", "MiB/s", 0, 1.2, None),
    "move-zero": ("4 GiB of untouched memory over a unix socket", "MiB/s", 0, 1.5, None),
    "downtime": ("an idle guest moves: STOP to RESUME", "ms", 2, 0.5, None),
    "save-snapshot": ("4 GiB of random memory into a qcow2 snapshot", "MiB/s", 0, 1.5, None),
    "save-file": ("4 GiB of random memory into a file", "MiB/s", 0, 1.5, None),
    "save-mapped": ("the same in the layout mapped-ram", "MiB/s", 0, 1.5, None),
    "dump": ("4 GiB of random memory dumped as ELF", "MiB/s", 0, 1.5, None),
    "restore-4": ("exec to RESUME from a file, 4 GiB of random memory", "ms", 1, None, 50),
    "restore-16": ("exec to RESUME from a file, 16 GiB, 4 of them random", "ms", 1, None, 100),
}
HIGHER = {name for name, row in ROWS.items() if row[1] == "MiB/s"}


def say(words):
    if sys.stderr.isatty():
        print(f"\r{words:60}" if words else "\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


class Side:
    """One process, with its events and the times at which they came."""

    def __init__(self, running, program, args):
        self.began = time.time()
        self.vmm = running(program, args)
        self.vmm.negotiate()
        self.events = []
        self.buffer = b""

    def next(self):
        while b"\n" not in self.buffer:
            self.buffer += self.vmm.line()
        line, _, self.buffer = self.buffer.partition(b"\n")
        message = json.loads(line)
        if "event" in message:
            # By the clock of all processes, for it may be read later.
            stamp = message["timestamp"]
            self.events.append((stamp["seconds"] + stamp["microseconds"] / 1e6, message))
        return message

    def execute(self, command, **arguments):
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.vmm.qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = self.next()
            if "error" in message:
                self.vmm.fail(f"{command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def wait(self, name, fits=lambda data: True):
        """When the event came."""
        while True:
            for when, message in self.events:
                if message["event"] == name and fits(message.get("data", {})):
                    return when
            self.next()

    def settings(self, **capabilities):
        states = [{"capability": name.replace("_", "-"), "state": state} for name, state in {"events": True, **capabilities}.items()]
        self.execute("migrate-set-capabilities", capabilities=states)
        channels = {"multifd_channels": 4} if capabilities.get("multifd") else {}
        self.execute("migrate-set-parameters", max_bandwidth=1 << 40, **channels)

    def migrated(self):
        def ended(data):
            if data["status"] == "failed":
                self.vmm.fail(self.execute("query-migrate").get("error-desc", "it failed"))
            return data["status"] == "completed"
        return self.wait("MIGRATION", ended)

    def job(self, name):
        def ended(data):
            return data["id"] == name and data["status"] == "concluded"
        when = self.wait("JOB_STATUS_CHANGE", ended)
        for job in self.execute("query-jobs"):
            if job["id"] == name and "error" in job:
                self.vmm.fail(job["error"])
        self.execute("job-dismiss", id=name)
        return when

    def end(self):
        self.vmm.end()


class Part:
    def __init__(self, running, image, directory):
        self.running, self.image = running, image
        self.at = tempfile.mkdtemp(prefix="bench.migrate.", dir=directory)
        self.memory = tempfile.mkdtemp(prefix="bench.migrate.", dir="/dev/shm")

    def path(self, name):
        return os.path.join(self.at, name)

    def random(self, size):
        """A file in memory, of 4 GiB that are random and zeroes up to the size."""
        path = os.path.join(self.memory, "random")
        if not os.path.exists(path):
            block = os.urandom(64 * MIB)
            with open(path, "wb") as file:
                for number in range(4 * GIB // len(block)):
                    # Each block is another one: nothing is alike.
                    file.write(block[number * 4096:] + block[:number * 4096])
        os.truncate(path, size)
        return path

    def options(self, program, memory, size=4 * GIB, prealloc=False):
        backend = f"memory-backend-file,mem-path={memory},share=off" if memory else "memory-backend-ram"
        backend += ",prealloc=on" if prealloc else ""
        options = ["-machine", "q35,accel=kvm,memory-backend=ram", "-cpu", "qemu64", "-m", str(size // MIB),
                   "-object", f"{backend},id=ram,size={size}", "-kernel", self.image, "-append", "halt"]
        firmware = bench_disk.firmware(program)
        return options + (["-bios", firmware] if firmware else [])

    def source(self, program, memory, more=(), size=4 * GIB):
        side = Side(self.running, program, [*self.options(program, memory, size), *more])
        time.sleep(0.3)
        return side

    def loaded(self, program, path):
        """A machine whose memory is its own, as a guest's is: anonymous, and touched. It comes from a file."""
        side = Side(self.running, program, [*self.options(program, None), "-incoming", "defer"])
        side.execute("migrate-incoming", uri=f"file:{path}")
        side.wait("RESUME")
        time.sleep(0.3)
        return side

    def move(self, program, saved, **capabilities):
        """(seconds of the move, seconds without a running guest); the machine is from the file `saved`, or is new."""
        path = self.path("socket")
        source = self.loaded(program, saved) if saved else self.source(program, None)
        # What the target fills is taken from the host before: a host that is a guest itself takes its time for that,
        # now much and now little.
        target = Side(self.running, program, [*self.options(program, None, prealloc=bool(saved)), "-incoming", "defer"])
        for side in (source, target):
            side.settings(**capabilities)
        target.execute("migrate-incoming", uri=f"unix:{path}")
        began = time.time()
        source.execute("migrate", uri=f"unix:{path}")
        resumed = target.wait("RESUME")
        ended = source.migrated()
        stopped = source.wait("STOP")
        source.end()
        target.end()
        return ended - began, resumed - stopped

    def snapshot(self, program, memory):
        image = self.path("snapshot.qcow2")
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "1G"], check=True)
        node = {"driver": "qcow2", "node-name": "disk", "file": {"driver": "file", "filename": image}}
        side = self.source(program, memory, ["-blockdev", json.dumps(node), "-device", "virtio-blk-pci,drive=disk"])
        began = time.time()
        side.execute("snapshot-save", job_id="save", tag="bench", vmstate="disk", devices=["disk"])
        ended = side.job("save")
        side.end()
        os.unlink(image)
        return ended - began

    def save(self, program, memory, name, size=4 * GIB, saved=None, **capabilities):
        """Into a file, a machine that has memory from `memory`, or its own (see `loaded`)."""
        path = self.path(name)
        if os.path.exists(path):
            os.unlink(path)
        side = self.loaded(program, saved) if saved else self.source(program, memory, size=size)
        side.settings(**capabilities)
        began = time.time()
        side.execute("migrate", uri=f"file:{path}")
        ended = side.migrated()
        side.end()
        return ended - began

    def dump(self, program, memory):
        path = self.path("dump")
        side = self.source(program, memory)
        began = time.time()
        side.execute("dump-guest-memory", paging=False, protocol=f"file:{path}")
        ended = time.time()
        side.end()
        os.unlink(path)
        return ended - began

    def restore(self, program, name, size, mapped):
        """From exec to RESUME; the file is in the host's cache."""
        path = self.path(name)
        options = self.options(program, None, size)
        if mapped:
            side = Side(self.running, program, [*options, "-incoming", f"file:{path},ram-load=map"])
        else:
            side = Side(self.running, program, [*options, "-incoming", "defer"])
            side.settings(mapped_ram=True)
            side.execute("migrate-incoming", uri=f"file:{path}")
        took = side.wait("RESUME") - side.began
        side.end()
        return took

    def end(self):
        shutil.rmtree(self.at)
        shutil.rmtree(self.memory)


def measure_one(part, program, note, mapped):
    rate = lambda seconds: 4096 / seconds
    memory = part.random(4 * GIB)
    part.save(program, memory, "base")
    base = part.path("base")
    for _ in range(3):
        note("move-random", rate(part.move(program, base)[0]))
        note("move-random-multifd", rate(part.move(program, base, multifd=True)[0]))
    for _ in range(2):
        note("save-file", rate(part.save(program, memory, "file", saved=base)))
        os.unlink(part.path("file"))
        note("save-mapped", rate(part.save(program, memory, "mapped", saved=base, mapped_ram=True)))
    os.unlink(base)
    note("move-zero", rate(part.move(program, None)[0]))
    for _ in range(3):
        note("downtime", part.move(program, None)[1] * 1e3)
    note("save-snapshot", rate(part.snapshot(program, memory)))
    for _ in range(3):
        note("restore-4", part.restore(program, "mapped", 4 * GIB, mapped) * 1e3)
    os.unlink(part.path("mapped"))
    note("dump", rate(part.dump(program, memory)))
    memory = part.random(16 * GIB)
    part.save(program, memory, "large", size=16 * GIB, mapped_ram=True)
    for _ in range(3):
        note("restore-16", part.restore(program, "large", 16 * GIB, mapped) * 1e3)
    os.unlink(part.path("large"))


def measure(running, programs, results, count, directory, root, cache):
    """Everything, `count` times, in turn."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return results.absent.append("moves of machines: no /dev/kvm that may be opened")
    image = bench_disk.guest(root, cache)
    if image is None:
        return results.absent.append("moves of machines: the guest cannot be built")
    part = Part(running, image, directory)
    try:
        for number in range(count):
            for name, path in sorted(programs.items(), reverse=number % 2 == 1):
                say(f"migrate {number + 1}/{count} {name}")
                measure_one(part, path, results.note(name), name == "qvmd")
        say("")
    finally:
        part.end()
    return None
