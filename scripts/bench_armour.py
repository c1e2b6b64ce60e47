"""What the armour costs, for `scripts/bench --armour`: qvmd beside itself with `-sandbox off`.

A cost of a percent or two is less than what one measurement differs from the next. So many short ones are made in turn, and
each is compared with the one that was made beside it: what the host did meanwhile hit both alike. A row's ratio is the
geometric mean of these pairs, and beside it stands its standard error. Python's standard library only.
"""

import math
import statistics

# Where system calls are many for what they move; the more bytes in a request, the less of a filter is seen.
BACKINGS = ("raw", "raw-uring", "raw-native")
WORKS = ("randread4k", "randwrite4k", "flush")
DISKS, FRAMES, MILLISECONDS = 40, 40, 60
RATE_GOAL, START_GOAL = 0.98, 5.0
START_ROWS = ("start-none", "start-q35")
GROUPS = {"all block rates": BACKINGS, "all network rates": ("tap",)}


def pairs(values, row, higher):
    """Logarithms of speed with the armour by speed without it, one for each pair."""
    both = zip(values[row]["qvmd"], values[row]["qemu"])
    sign = 1 if row in higher else -1
    return [sign * math.log(on / off) for on, off in both if on > 0 and off > 0]


def estimate(logarithms):
    """(ratio, its standard error)."""
    ratio = math.exp(statistics.fmean(logarithms))
    error = ratio * statistics.stdev(logarithms) / math.sqrt(len(logarithms)) if len(logarithms) > 1 else math.nan
    return ratio, error


def verdict(kept):
    return "kept" if kept else "**missed**"


def print_table(values, titles, higher):
    """Of what Results holds: the program without its armour in the column of QEMU."""
    print("| | unit | without | with | speed with by speed without | goal |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    for row in START_ROWS:
        if row in values:
            off, on = (statistics.median(values[row][name]) for name in ("qemu", "qvmd"))
            print(f"| {titles[row][0]} | ms | {off:.2f} | {on:.2f} | {on - off:+.2f} ms | at most {START_GOAL:g} ms more, {verdict(on - off <= START_GOAL)} |")
    measured = [row for row in values if len(values[row]) == 2 and row not in START_ROWS and not row.startswith(("rss-", "dirty-"))]
    for row in measured:
        title, unit, digits = titles[row][:3]
        off, on = (statistics.median(values[row][name]) for name in ("qemu", "qvmd"))
        ratio, error = estimate(pairs(values, row, higher))
        print(f"| {title} | {unit} | {off:,.{digits}f} | {on:,.{digits}f} | {ratio:.3f} ± {error:.3f} | |")
    for title, names in GROUPS.items():
        all_pairs = [pair for row in measured if row.startswith(names) for pair in pairs(values, row, higher)]
        if all_pairs:
            ratio, error = estimate(all_pairs)
            print(f"| {title} | | | | {ratio:.3f} ± {error:.3f} | at least {RATE_GOAL}, {verdict(ratio >= RATE_GOAL)} |")
