"""Types lines into qmp-shell of qemu.qmp. Argument: the path of a stopped machine's monitor."""

import os
import subprocess
import sys

LINES = [
    ("query-status", "'status': 'prelaunch'|\"status\": \"prelaunch\""),
    ("query-version", "qemu"),
    ("blockdev-add driver=null-co node-name=n0 size=4096", "return"),
    ("query-named-block-nodes flat=true", "n0"),
    ("object-add qom-type=iothread id=io0", "return"),
    ("query-iothreads", "io0"),
    ("cont", "return"),
    ("no-such-command", "CommandNotFound"),
]

shell = os.path.join(os.path.dirname(sys.executable), "qmp-shell")
typed = "".join(line + "\n" for line, _ in LINES) + "quit\n"
done = subprocess.run(
    [shell, sys.argv[1]], input=typed, capture_output=True, text=True, timeout=60, check=False
)
output = done.stdout + done.stderr
at = 0
for line, words in LINES:
    places = [output.find(word, at) for word in words.split("|")]
    found = [place for place in places if place >= 0]
    assert found, f"{line}: no {words} in {output[at:]}"
    at = min(found)
assert "Connected to QEMU 10.0" in output, output
print("all fine")
