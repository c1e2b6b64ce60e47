"""The part `disk` of scripts/bench: one guest without an operating system (tests/guest, its word `disk=`)
drives the queue of a virtio-blk device under either program.

The guest keeps 1 or 32 requests in flight and polls for their ends, with interrupts switched off, so that
what is compared is the way of a request through the program. It writes its requests in advance, and its
clock runs only while some are in flight: of its own instructions a dozen count for each kick, even where
KVM needs a microsecond for one. Images are files of 1 GiB, full of data and read once before (so warm in the
host's cache), in a directory that is not a memory file system. Both programs are there at the same time and
take turns after each quarter of a second, while the other one is stopped by a signal: what else the host does
hits both alike. Python's standard library only.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

GIB = 1 << 30
MIB = 1 << 20
CLUSTER = 64 << 10
HUGE = 10 << 40
TMPFS = ("tmpfs", "ramfs", "hugetlbfs")

# Name of a work of the guest: (what it is, depths, unit, what a request is in that unit)
WORKS = {
    "randread4k": ("4 KiB random read", (1, 32), "per s", 1),
    "randwrite4k": ("4 KiB random write", (1, 32), "per s", 1),
    "seqread1m": ("1 MiB sequential read", (1, 32), "MiB/s", 1),
    "seqwrite1m": ("1 MiB sequential write", (1, 32), "MiB/s", 1),
    "flush": ("4 KiB written and flushed", (1,), "per s", 0.5),
}
# Backing: (what it is, format, options of its file, ratio that is wanted; a flush has to be as fast as QEMU's)
BACKINGS = {
    "raw": ("raw", "raw", {"aio": "threads"}, 1.0),
    "raw-uring": ("raw, io_uring direct", "raw", {"aio": "io_uring", "cache": {"direct": True}}, 1.0),
    "raw-native": ("raw, native direct", "raw", {"aio": "native", "cache": {"direct": True}}, 1.0),
    "qcow2": ("qcow2", "qcow2", {"aio": "threads"}, 1.2),
}
# Writes into what is not allocated: name -> (word of the guest, what it is, unit)
ALLOCATING = {
    "alloc-seq": ("seqwrite1m:32:512", "1 MiB sequential write, new", "MiB/s"),
    "alloc-rand": ("alloc4k:32:8192", "4 KiB random write, new", "per s"),
}


def rows():
    """Measurement: (what it is, unit, digits, limit of the ratio, limit of the value), as in ROWS of scripts/bench;
    and the names of those that are better the higher they are."""
    found = {}
    for backing, (title, _, _, goal) in BACKINGS.items():
        for work, (what, depths, unit, _) in WORKS.items():
            for depth in depths:
                wanted = 1.0 if work == "flush" else goal
                found[f"{backing}-{work}-{depth}"] = (f"{title}: {what}, depth {depth}", unit, 0, wanted, None)
    for name, (_, what, unit) in ALLOCATING.items():
        for format in ("raw", "qcow2"):
            found[f"{format}-{name}"] = (f"{format}: {what}, depth 32", unit, 0, None, None)
        found[f"share-{name}"] = (f"qcow2 of raw: {what}", "", 2, None, 0.8)
    higher = set(found)
    found["open-10t"] = ("blockdev-add of a sparse qcow2 of 10 TiB", "ms", 2, None, 10)
    found["open-10t-rss"] = ("resident memory that it takes", "MiB", 2, None, 4)
    return found, higher


def command(*words):
    return subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def file_system(path):
    """(type, what is mounted) of the file system a path is on."""
    best = ("", "", "")
    path = os.path.realpath(path)
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            point, kind, source = left.split()[4], *right.split()[:2]
            if os.path.commonpath((point, path)) == point and len(point) >= len(best[0]):
                best = (point, kind, source)
    return best[1:]


def guest(root, cache):
    """The guest's image, built where QVMD_BAREMETAL does not name one; None where it cannot be."""
    named = os.environ.get("QVMD_BAREMETAL")
    if named:
        return named
    target = os.path.join(cache, "baremetal-guest")
    unwanted = ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET")
    env = {name: value for name, value in os.environ.items() if name not in unwanted}
    built = subprocess.run(["cargo", "build", "--locked", "--release", "--quiet"], cwd=os.path.join(root, "tests/guest"),
                           env={**env, "CARGO_TARGET_DIR": target}).returncode == 0
    return os.path.join(target, "x86_64-unknown-none/release/baremetal-guest") if built else None


class Images:
    """Files of one run of the bench."""

    def __init__(self, directory):
        self.directory = tempfile.mkdtemp(prefix="bench.disk.", dir=directory)
        self.tool = shutil.which("qemu-img")

    def path(self, name):
        return os.path.join(self.directory, name)

    def full(self, format, name):
        """A GiB of data, every cluster allocated. None without the tool that makes the format. All programs
        share one that is raw: no file lies better on the disk than another."""
        raw = self.path("full.raw")
        path = raw if format == "raw" else self.path(f"full.{name}.{format}")
        if os.path.exists(path):
            return path
        if format == "raw":
            block = os.urandom(4 * MIB)
            with open(path, "wb") as file:
                for _ in range(GIB // len(block)):
                    file.write(block)
        elif not self.made(format, path, GIB, "preallocation=metadata") \
                or command(self.tool, "convert", "-n", "-f", "raw", "-O", format, raw, path).returncode != 0:
            return None
        self.warm(path)
        return path

    def made(self, format, path, size, *options):
        options = ",".join((f"cluster_size={CLUSTER}", *options))
        return bool(self.tool) and command(self.tool, "create", "-q", "-f", format, "-o", options, path, str(size)).returncode == 0

    def fresh(self, format, name):
        """A GiB of nothing, and nothing that waits to be written back."""
        path = self.path(f"fresh.{name}.{format}")
        if os.path.exists(path):
            os.unlink(path)
        os.sync()
        if format == "raw":
            with open(path, "wb") as file:
                file.truncate(GIB)
        elif not self.made(format, path, GIB):
            return None
        return path

    def forget(self):
        """The full ones go, with what of them is not yet written back."""
        for name in os.listdir(self.directory):
            os.unlink(self.path(name))

    @staticmethod
    def warm(path):
        """On the disk, and in the host's cache."""
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            while file.read(16 * MIB):
                pass

    def end(self):
        shutil.rmtree(self.directory)


def node(format, path, options):
    file = {"driver": "file", "filename": path, "locking": "off" if format == "raw" else "auto", **options}
    return file if format == "raw" else {"driver": format, "file": file}


class Guest:
    """The guest under a program, with disks; stopped, by a signal, but for its measurements."""

    def __init__(self, running, program, image, nodes, more=()):
        args = ["-machine", "q35,accel=kvm", "-cpu", "qemu64", "-m", "64", "-no-reboot", "-S", "-kernel", image,
                "-append", "serve", *more]
        if firmware(program):
            args += ["-bios", firmware(program)]
        for i, node in enumerate(nodes):
            args += ["-blockdev", json.dumps({"node-name": f"disk{i}", **node}),
                     "-device", f"virtio-blk-pci,drive=disk{i},queue-size=1024"]
        self.vmm = running(program, args, console=True)
        self.vmm.negotiate()
        self.vmm.execute("cont")
        self.wait(rb"^serving()()")

    def wait(self, words):
        """Up to a line that matches; its two groups."""
        said = b""
        while not (found := re.search(words + rb"\r?\n", said, re.M)):
            try:
                data = self.vmm.console.recv(65536)
            except OSError:
                data = b""
            if not data or b"panicked" in said:
                self.vmm.fail(f"the guest did not get through: {said[-300:].decode(errors='replace')!r}")
            said += data
        os.kill(self.vmm.pid, signal.SIGSTOP)
        return found.groups()

    def do(self, word):
        """(requests, seconds) of a measurement."""
        return self.measured(f"disk={word}", "requests")

    def measured(self, word, unit):
        """(how many of its unit, seconds) of what a word measures."""
        os.kill(self.vmm.pid, signal.SIGCONT)
        self.vmm.console.sendall(f"{word}\n".encode())
        said = word.replace("=", " ", 1)
        number, nanoseconds = self.wait(rb"^end %s %s (\d+) ns (\d+)" % (said.encode(), unit.encode()))
        return int(number), int(nanoseconds) / 1e9

    def end(self):
        self.vmm.end()


FIRMWARE = {}


def firmware(program):
    """The short firmware that QEMU brings along for such kernels, where it does; qvmd needs none."""
    if program not in FIRMWARE:
        listed = command(program, "-L", "help").stdout.split("\n") if "qemu" in os.path.basename(program) else []
        there = [path for path in (os.path.join(at.strip(), "qboot.rom") for at in listed if at.startswith("/")) if os.path.exists(path)]
        FIRMWARE[program] = there[0] if there else None
    return FIRMWARE[program]


def refusal(running, program, node):
    """Why a program does not open a node; None where it does."""
    vmm = running(program, ["-machine", "none"])
    vmm.negotiate()
    answer = vmm.execute("blockdev-add", **{"node-name": "probe", **node})
    vmm.end()
    return answer.get("error", {}).get("desc")


class Part:
    """What is measured, and what is absent."""

    def __init__(self, running, programs, image, images, results, milliseconds):
        self.running, self.programs, self.image, self.images = running, programs, image, images
        self.results, self.milliseconds = results, milliseconds
        self.absent = results.absent

    def probe(self, title, format, options):
        """The programs that open an image; notes why others do not."""
        path = self.images.fresh(format, "probe")
        if path is None:
            self.absent.append(f"{title}: no qemu-img that makes it")
            return {}
        able = {}
        for name, program in self.programs.items():
            why = refusal(self.running, program, node(format, path, options))
            if why is None:
                able[name] = program
            else:
                self.absent.append(f"{title} of {name}: {why}")
        return able

    def all(self, count):
        """In each repetition each program does each thing, in turn; who goes first changes."""
        self.full(count, BACKINGS, WORKS)
        self.images.forget()
        able = {format: self.probe(f"{format}, new", format, {}) for format in ("raw", "qcow2")}
        huge = self.images.path("huge.qcow2")
        opens = able["qcow2"] if self.images.made("qcow2", huge, HUGE) else {}
        for i in range(count):
            for name in sorted(self.programs, reverse=i % 2 == 1):
                self.say(f"disk new {i + 1}/{count} {name}")
                formats = sorted((format for format in able if name in able[format]), reverse=i % 2 == 1)
                self.measure_fresh(self.programs[name], formats, self.results.note(name))
                if name in opens:
                    self.measure_open(opens[name], huge, self.results.note(name))
        self.say("")

    def full(self, count, backings, works):
        """Works on images that are full."""
        for backing in backings:
            title, format, options, _ = BACKINGS[backing]
            able = self.probe(title, format, options)
            if able:
                self.measure_full(able, backing, works, count)

    def say(self, words):
        if sys.stderr.isatty():
            print(f"\r{words:60}" if words else "\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)

    def measure_full(self, able, backing, works, count):
        """The works in turn, after some requests of each that do not count."""
        _, format, options, _ = BACKINGS[backing]
        guests = {}
        for name, program in able.items():
            self.images.full("raw", name)
            path = self.images.full(format, name)
            guests[name] = Guest(self.running, program, self.image, [node(format, path, options)])
        steps = [(work, depth) for work in works for depth in WORKS[work][1]]
        for i in range(count + 1):
            for work, depth in steps:
                for name in sorted(guests, reverse=i % 2 == 1):
                    self.say(f"disk {backing} {i}/{count} {work} {depth} {name}")
                    # What one work has written is not to be written back while another is measured.
                    guests[name].do("0:sync:1:8")
                    requests, seconds = guests[name].do(f"0:{work}:{depth}:{f'{self.milliseconds}ms' if i else 256}")
                    if i:
                        self.results.note(name)(f"{backing}-{work}-{depth}", requests * WORKS[work][3] / seconds)
        for guest in guests.values():
            guest.end()

    def measure_fresh(self, program, formats, note):
        """A new image for each work and format, and the rates of qcow2 as part of those of raw."""
        for row, (word, _, _) in ALLOCATING.items():
            rates = {}
            for format in formats:
                path = self.images.fresh(format, row)
                guest = Guest(self.running, program, self.image, [node(format, path, {})])
                requests, seconds = guest.do(f"0:{word}")
                guest.end()
                os.unlink(path)
                rates[format] = requests / seconds
                note(f"{format}-{row}", rates[format])
            if len(rates) == 2:
                note(f"share-{row}", rates["qcow2"] / rates["raw"])

    def measure_open(self, program, path, note):
        """Time of the command, and what resident memory grows by it, on a machine that has nothing else."""
        vmm = self.running(program, ["-machine", "none"])
        vmm.negotiate()
        vmm.execute("query-status")
        before = vmm.memory()[0]
        begin = time.perf_counter()
        vmm.execute("blockdev-add", **{"node-name": "huge", **node("qcow2", path, {})})
        note("open-10t", (time.perf_counter() - begin) * 1000)
        note("open-10t-rss", vmm.memory()[0] - before)
        vmm.end()


def measure(running, programs, results, options, root, cache, only=None):
    """All of it, or works on full images only: (names of BACKINGS, names of WORKS). Says, in the end, where images were
    and what is absent."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        results.absent.append("disk: no /dev/kvm that may be opened")
        return
    image = guest(root, cache)
    if image is None:
        results.absent.append("disk: no bare-metal guest (`rustup target add x86_64-unknown-none` may be missing)")
        return
    directory = options.disk_dir or tempfile.gettempdir()
    if file_system(directory)[0] in TMPFS and not options.disk_dir:
        directory = cache
    kind, source = file_system(directory)
    if kind in TMPFS:
        print(f"bench: {directory} is a memory file system ({kind}): its figures say nothing of disks", file=sys.stderr)
    load = os.getloadavg()[0]
    images = Images(directory)
    begun = time.monotonic()
    try:
        part = Part(running, programs, image, images, results, options.disk_ms)
        if only:
            part.full(options.disks, *only)
        else:
            part.all(options.disks)
    finally:
        images.end()
    took = time.monotonic() - begun
    results.notes.append(f"disk: images of 1 GiB in {directory} ({kind} on {source}), {options.disks} repetitions of "
                         f"{options.disk_ms} ms each; {took:.0f} s in all")
    if load > os.cpu_count() / 2:
        results.notes.append(f"disk: the machine was busy before (load {load:.1f}): these figures say little")
