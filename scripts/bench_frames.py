"""The local half of the part `net` of scripts/bench: one guest without an operating system (tests/guest, its word `net=`)
drives the queues of a virtio-net device under either program.

The guest keeps 1 or 32 frames in flight and polls for their ends, with interrupts switched off, so that what is compared
is the way of a frame through the program. Behind the device is a tap on a bridge, without vhost, and behind that nobody
but the host's kernel: it answers pings, throws frames away that are for an address nobody has, and sends frames back that
the bridge knows to be for where they came from (hairpin). All of that happens while the program's system call lasts, so
that two processors suffice. Both programs are there at the same time and take turns after each quarter of a second, while
the other one is stopped by a signal and its tap off the bridge. Needs root. Python's standard library only.
"""

import contextlib
import os
import subprocess
import sys

import bench_disk

MIB = 1 << 20
LONG = 64294
MILLISECONDS = 250
# Name: (work of the guest, bytes of a frame, frames in flight, what it is, unit)
WORKS = {
    "echo-1": ("echo", 98, 1, "ping, one by one", "us"),
    "echo-1k-1": ("echo", 1042, 1, "ping of 1000 bytes, one by one", "us"),
    "echo-32": ("echo", 98, 32, "ping, 32 in flight", "per s"),
    "send-64": ("send", 64, 32, "frames of 64 bytes sent", "per s"),
    "send-1514": ("send", 1514, 32, "frames of 1514 bytes sent", "per s"),
    "send-64k": ("send", LONG, 7, "segments of 64 KiB sent", "MiB/s"),
    "mirror-1514": ("mirror", 1514, 32, "frames of 1514 bytes sent and received", "per s"),
    "mirror-64k": ("mirror", LONG, 7, "segments of 64 KiB sent and received", "MiB/s"),
}
ROWS = {f"tap-{name}": (f"tap and bridge: {what}", unit, 2 if unit == "us" else 0, 0.9 if unit == "us" else 1.1, None)
        for name, (_, _, _, what, unit) in WORKS.items()}
HIGHER = {f"tap-{name}" for name, work in WORKS.items() if work[4] != "us"}
BRIDGE = "qvmdframes"
# As tests/guest/src/net.rs has them.
HOST, HOST_MAC, OWN, OWN_MAC, MIRRORED_MAC = "10.9.7.1", "52:54:00:be:0c:01", "10.9.7.2", "52:54:00:be:0c:02", "52:54:00:be:0c:03"


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def setting(path, value):
    """One of the kernel's, where it is there."""
    if os.path.exists(path):
        with open(path, "w") as file:
            file.write(value)


class Network:
    """The bridge, and a tap for each program."""

    def __init__(self, names):
        self.taps = {name: f"{BRIDGE}{i}" for i, name in enumerate(names)}
        self.end()
        run("ip", "link", "add", BRIDGE, "address", HOST_MAC, "type", "bridge", "mcast_snooping", "0")
        setting(f"/proc/sys/net/ipv6/conf/{BRIDGE}/disable_ipv6", "1")
        setting(f"/proc/sys/net/ipv4/conf/{BRIDGE}/forwarding", "0")
        run("ip", "link", "set", BRIDGE, "up")
        run("ip", "address", "add", f"{HOST}/24", "dev", BRIDGE)
        run("ip", "neighbour", "replace", OWN, "lladdr", OWN_MAC, "dev", BRIDGE, "nud", "permanent")
        for tap in self.taps.values():
            run("ip", "tuntap", "add", tap, "mode", "tap", "vnet_hdr")
            setting(f"/proc/sys/net/ipv6/conf/{tap}/disable_ipv6", "1")
            run("ip", "link", "set", tap, "up")

    def plug(self, name):
        tap = self.taps[name]
        run("ip", "link", "set", tap, "master", BRIDGE)
        run("bridge", "link", "set", "dev", tap, "hairpin", "on")
        run("bridge", "fdb", "replace", MIRRORED_MAC, "dev", tap, "master", "static")

    def unplug(self, name):
        run("ip", "link", "set", self.taps[name], "nomaster")

    def end(self):
        for link in [*self.taps.values(), BRIDGE]:
            subprocess.run(["ip", "link", "del", link], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Guest(bench_disk.Guest):
    """The guest under a program, with an interface."""

    def __init__(self, running, program, image, network, name):
        self.network, self.name = network, name
        super().__init__(running, program, image, [], [
            "-netdev", f"tap,id=n0,ifname={network.taps[name]},script=no,downscript=no,vhost=off",
            "-device", f"virtio-net-pci,netdev=n0,mac={OWN_MAC}"])

    def do(self, work, milliseconds):
        """Frames of a second."""
        kind, size, depth, _, _ = WORKS[work]
        self.network.plug(self.name)
        frames, seconds = self.measured(f"net={kind}:{size}:{depth}:{milliseconds}", "frames")
        self.network.unplug(self.name)
        return frames / seconds


def value(work, rate):
    _, size, _, _, unit = WORKS[work]
    return {"us": 1e6 / rate, "MiB/s": rate * size / MIB}.get(unit, rate)


def say(words):
    if sys.stderr.isatty():
        print(f"\r{words:60}" if words else "\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)


def absence():
    """What hinders it."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "no /dev/kvm that may be opened"
    if os.geteuid() != 0 or not os.path.exists("/dev/net/tun"):
        return "no taps (needs root and /dev/net/tun)"
    return None


def measure(running, programs, results, count, milliseconds, root, cache):
    """In each repetition each program does each work, in turn; the first repetition does not count."""
    why = absence()
    image = None if why else bench_disk.guest(root, cache)
    if image is None:
        results.absent.append(f"frames: {why or 'no bare-metal guest (`rustup target add x86_64-unknown-none` may be missing)'}")
        return
    network, guests = Network(programs), {}
    load = os.getloadavg()[0]
    try:
        for name, path in programs.items():
            guests[name] = Guest(running, path, image, network, name)
        for i in range(count + 1):
            for work in WORKS:
                for name in sorted(guests, reverse=i % 2 == 1):
                    say(f"frames {i}/{count} {work} {name}")
                    rate = guests[name].do(work, milliseconds)
                    if i:
                        results.note(name)(f"tap-{work}", value(work, rate))
        say("")
    finally:
        for guest in guests.values():
            # One that failed has ended.
            with contextlib.suppress(OSError):
                guest.end()
        network.end()
    results.notes.append(f"frames: {count} repetitions of {milliseconds} ms each")
    if load > os.cpu_count() / 2:
        results.notes.append(f"frames: the machine was busy before (load {load:.1f}): only the best values say something")
