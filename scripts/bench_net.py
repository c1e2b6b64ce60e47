"""The part `net` of scripts/bench: what an orchestrator changes while guests run, and how their frames travel.

All of it takes place in the lab, with Debian's kernel as guest, or here where this machine's own KVM runs Linux and
taps can be made. Two guests, each with a tap on one bridge, send each other what busybox can send: a TCP stream of
zeroes (time until its end has arrived), and pings, each sent when the one before was answered. Without vhost, and
with it. Then one guest has a disk plugged into a root port: the time from device_add until a loop in the guest has
seen its block device. And one with 100 further devices: what they cost in memory and, while nothing happens, in CPU
time, beside a guest without them. Python's standard library only.
"""

import os
import re
import subprocess
import time

STREAM_MIB = 12
PINGS = 300
DEVICES = 100
IDLE_SECONDS = 5
# Measurement: (what it is, unit, digits, limit of the ratio, limit of the value)
ROWS = {
    "net-tcp": ("two guests, tap and bridge: TCP stream", "MiB/s", 1, 1.1, None),
    "net-ping": ("the same: request and response", "us", 0, 0.9, None),
    "net-vhost-tcp": ("two guests, vhost-net: TCP stream", "MiB/s", 1, 1.0, None),
    "net-vhost-ping": ("the same: request and response", "us", 0, 1.0, None),
    "plug-disk": ("device_add to the block device in the guest", "ms", 0, 1.0, None),
    "idle-cpu": (f"{DEVICES} more devices, idle: CPU", "%", 2, None, 1),
    "idle-memory": (f"{DEVICES} more devices: resident memory of each", "KiB", 1, None, 64),
}
HIGHER = {"net-tcp", "net-vhost-tcp"}
BRIDGE = "qvmdbench"


def run(*words):
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def make_network():
    drop_network()
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    run("ip", "link", "set", BRIDGE, "up")
    for tap in taps():
        run("ip", "tuntap", "add", tap, "mode", "tap", "vnet_hdr")
        run("ip", "link", "set", tap, "master", BRIDGE, "up")


def drop_network():
    for link in [*taps(), BRIDGE]:
        subprocess.run(["ip", "link", "del", link], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def taps():
    return [f"{BRIDGE}{i}" for i in range(2)]


class Guest:
    """A Debian guest with its console."""

    def __init__(self, vmm):
        self.vmm = vmm
        self.said = b""
        self.until(b"QVMD-GUEST-READY")
        self.until(b"guest# ")
        self.run("stty -echo")

    def until(self, words):
        """What comes before these words."""
        while words not in self.said:
            try:
                data = self.vmm.console.recv(65536)
            except OSError:
                data = b""
            if not data:
                self.vmm.fail(f"no {words.decode()!r} on the console, but {self.said[-200:]!r}")
            self.said += data
        before, _, self.said = self.said.partition(words)
        return before

    def send(self, line):
        self.vmm.console.sendall(line.encode() + b"\n")

    def run(self, line):
        """Runs a line in the guest's shell; its output."""
        self.send(line + "; echo END-OF-$((6*7))")
        return self.until(b"END-OF-42").decode(errors="replace")


def options(guest, network, more=()):
    return ["-machine", "q35,accel=kvm", "-cpu", "host", "-m", "512", "-no-reboot", "-kernel", f"{guest}/vmlinux",
            "-initrd", f"{guest}/initrd", "-append", "console=ttyS0 panic=-1 quiet", *network, *more]


def network_options(index, vhost):
    return ["-netdev", f"tap,id=n0,ifname={taps()[index]},script=no,downscript=no,vhost={'on' if vhost else 'off'}",
            "-device", f"virtio-net-pci,netdev=n0,mac=52:54:00:00:be:0{index + 1}"]


def measure_frames(running, program, guest, vhost, note):
    make_network()
    vmms = [running(program, options(guest, network_options(i, vhost)), console=True) for i in range(2)]
    guests = [Guest(vmm) for vmm in vmms]
    for i, each in enumerate(guests):
        each.run(f"ip link set eth0 up; ip addr add 10.9.8.{i + 1}/24 dev eth0")
    first, second = guests
    second.run("ping -c 3 -A 10.9.8.1")
    prefix = "net-vhost" if vhost else "net"
    answer = second.run(f"ping -c {PINGS} -A -q 10.9.8.1")
    found = re.search(r"min/avg/max = [\d.]+/([\d.]+)/", answer)
    if not found:
        vmms[1].fail(f"ping says {answer!r}")
    note(f"{prefix}-ping", float(found.group(1)) * 1000)
    first.send("nc -l -p 5001 | wc -c; echo ARRIVED")
    time.sleep(0.5)
    began = time.perf_counter()
    second.send(f"dd if=/dev/zero bs=64k count={STREAM_MIB * 16} 2>/dev/null | nc 10.9.8.1 5001")
    count = first.until(b"ARRIVED")
    took = time.perf_counter() - began
    if str(STREAM_MIB << 20).encode() not in count:
        vmms[0].fail(f"{count!r} bytes arrived")
    note(f"{prefix}-tcp", STREAM_MIB / took)
    for vmm in vmms:
        vmm.end()
    drop_network()


def measure_plug(running, program, guest, disk, note):
    more = ["-device", "pcie-root-port,id=rp0,chassis=1,slot=1", "-blockdev", f"driver=file,node-name=d,filename={disk}"]
    vmm = running(program, options(guest, [], more), console=True)
    console = Guest(vmm)
    vmm.negotiate()
    console.send("echo WAITING; while [ ! -e /sys/block/vda/size ]; do :; done; echo SEEN")
    console.until(b"WAITING")
    time.sleep(0.5)
    began = time.perf_counter()
    vmm.execute("device_add", driver="virtio-blk-pci", id="b", bus="rp0", drive="d")
    console.until(b"SEEN")
    note("plug-disk", (time.perf_counter() - began) * 1000)
    vmm.end()


def measure_idle(running, program, guest, note):
    resident, busy = [], []
    for count in (0, DEVICES):
        more = []
        for i in range(count):
            slot, function = 4 + i // 8, i % 8
            more += ["-device", f"virtio-rng-pci,addr={slot:x}.{function},multifunction=on"]
        vmm = running(program, options(guest, [], more), console=True)
        Guest(vmm)
        time.sleep(2)
        before = vmm.cpu()
        time.sleep(IDLE_SECONDS)
        busy.append(vmm.cpu() - before)
        resident.append(vmm.beyond_ram())
        vmm.end()
    note("idle-cpu", (busy[1] - busy[0]) / IDLE_SECONDS * 100)
    note("idle-memory", (resident[1] - resident[0]) * 1024 / DEVICES)


def measure(running, programs, results, count, guest, disk):
    """`running` is the class Running of scripts/bench."""
    for vhost in (False, True):
        if vhost and not os.path.exists("/dev/vhost-net"):
            results.absent.append("vhost-net: no /dev/vhost-net")
            continue
        results.in_turn(programs, count, "frames, vhost-net" if vhost else "frames",
                        lambda path, note, _, vhost=vhost: measure_frames(running, path, guest, vhost, note))
    results.in_turn(programs, count, "plug", lambda path, note, _: measure_plug(running, path, guest, disk, note))
    results.in_turn(programs, 0, "idle devices", lambda path, note, _: measure_idle(running, path, guest, note))
