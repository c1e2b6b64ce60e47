//! What `info` tells about migration. QEMU's layout, without the switches of its stream.

use std::fmt::Write;

use api_spec::{
    MigrationCapabilityStatus, MigrationInfo, MigrationStats, SocketAddress, SocketAddressBranch,
};

use super::settings::Parameters;

/// `info migrate`.
pub fn info(info: &MigrationInfo) -> String {
    let mut text = String::new();
    if let Some(reasons) = &info.blocked_reasons {
        text.push_str("Outgoing migration blocked:\n");
        for reason in reasons {
            let _ = writeln!(text, "  {reason}");
        }
    }
    let Some(status) = info.status else {
        return text;
    };
    let _ = match &info.error_desc {
        Some(error) => writeln!(text, "Migration status: {} ({error})", status.name()),
        None => writeln!(text, "Migration status: {}", status.name()),
    };
    let _ = writeln!(text, "total time: {} ms", info.total_time.unwrap_or(0));
    for (name, time) in [
        ("expected downtime", info.expected_downtime),
        ("downtime", info.downtime),
        ("setup", info.setup_time),
    ] {
        if let Some(time) = time {
            let _ = writeln!(text, "{name}: {time} ms");
        }
    }
    if let Some(ram) = &info.ram {
        tell_ram(&mut text, ram);
    }
    if let Some(percent) = info.cpu_throttle_percentage {
        let _ = writeln!(text, "cpu throttle percentage: {percent}");
    }
    if let Some(addresses) = &info.socket_address {
        text.push_str("socket address: [\n");
        for address in addresses {
            let _ = writeln!(text, "\t{}", uri(address));
        }
        text.push_str("]\n");
    }
    text
}

fn tell_ram(text: &mut String, ram: &MigrationStats) {
    let kib = |bytes: i64| bytes >> 10;
    let _ = writeln!(text, "transferred ram: {} kbytes", kib(ram.transferred));
    let _ = writeln!(text, "throughput: {:.2} mbps", ram.mbps);
    let _ = writeln!(text, "remaining ram: {} kbytes", kib(ram.remaining));
    let _ = writeln!(text, "total ram: {} kbytes", kib(ram.total));
    let _ = writeln!(text, "duplicate: {} pages", ram.duplicate);
    let _ = writeln!(text, "normal: {} pages", ram.normal);
    let _ = writeln!(text, "normal bytes: {} kbytes", kib(ram.normal_bytes));
    let _ = writeln!(text, "dirty sync count: {}", ram.dirty_sync_count);
    let _ = writeln!(text, "page size: {} kbytes", kib(ram.page_size));
    let _ = writeln!(text, "multifd bytes: {} kbytes", ram.multifd_bytes >> 10);
    let _ = writeln!(text, "pages-per-second: {}", ram.pages_per_second);
    if ram.dirty_pages_rate != 0 {
        let _ = writeln!(text, "dirty pages rate: {} pages", ram.dirty_pages_rate);
    }
    for (name, bytes) in [
        ("precopy ram", ram.precopy_bytes),
        ("downtime ram", ram.downtime_bytes),
    ] {
        if bytes != 0 {
            let _ = writeln!(text, "{name}: {} kbytes", bytes >> 10);
        }
    }
}

fn uri(address: &SocketAddress) -> String {
    match &address.r#type {
        SocketAddressBranch::Inet(inet) if inet.host.contains(':') => {
            format!("tcp:[{}]:{}", inet.host, inet.port)
        }
        SocketAddressBranch::Inet(inet) => format!("tcp:{}:{}", inet.host, inet.port),
        SocketAddressBranch::Unix(unix) => format!("unix:{}", unix.path),
        SocketAddressBranch::Fd(fd) => format!("fd:{}", fd.str),
    }
}

/// `info migrate_capabilities`.
pub fn capabilities(list: &[MigrationCapabilityStatus]) -> String {
    let line = |status: &MigrationCapabilityStatus| {
        format!("{}: {}\n", status.capability.name(), on_off(status.state))
    };
    list.iter().map(line).collect()
}

/// `info migrate_parameters`.
pub fn parameters(p: &Parameters) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &dyn std::fmt::Display| {
        let _ = writeln!(text, "{name}: {value}");
    };
    let ms = |value: u64| format!("{value} ms");
    let rate = |value: u64| format!("{value} bytes/second");
    line("announce-initial", &ms(p.announce_initial));
    line("announce-max", &ms(p.announce_max));
    line("announce-rounds", &p.announce_rounds);
    line("announce-step", &ms(p.announce_step));
    line("throttle-trigger-threshold", &p.throttle_trigger_threshold);
    line("cpu-throttle-initial", &p.cpu_throttle_initial);
    line("cpu-throttle-increment", &p.cpu_throttle_increment);
    line("cpu-throttle-tailslow", &on_off(p.cpu_throttle_tailslow));
    line("max-cpu-throttle", &p.max_cpu_throttle);
    line("tls-creds", &format!("'{}'", p.tls_creds));
    line("tls-hostname", &format!("'{}'", p.tls_hostname));
    line("max-bandwidth", &rate(p.max_bandwidth));
    line(
        "avail-switchover-bandwidth",
        &rate(p.avail_switchover_bandwidth),
    );
    line("downtime-limit", &ms(p.downtime_limit));
    line("x-checkpoint-delay", &ms(p.x_checkpoint_delay.into()));
    line("multifd-channels", &p.multifd_channels);
    line("multifd-compression", &p.multifd_compression.name());
    line("zero-page-detection", &p.zero_page_detection.name());
    line(
        "xbzrle-cache-size",
        &format!("{} bytes", p.xbzrle_cache_size),
    );
    line("max-postcopy-bandwidth", &p.max_postcopy_bandwidth);
    line("tls-authz", &format!("'{}'", p.tls_authz));
    if let Some(mapping) = &p.block_bitmap_mapping {
        text.push_str("block-bitmap-mapping:\n");
        for node in mapping {
            let _ = writeln!(text, "  '{}' -> '{}'", node.node_name, node.alias);
            for bitmap in &node.bitmaps {
                let _ = writeln!(text, "    '{}' -> '{}'", bitmap.name, bitmap.alias);
            }
        }
    }
    let period = p.x_vcpu_dirty_limit_period;
    let _ = writeln!(text, "x-vcpu-dirty-limit-period: {period} ms");
    let _ = writeln!(text, "vcpu-dirty-limit: {} MB/s", p.vcpu_dirty_limit);
    let _ = writeln!(text, "mode: {}", p.mode.name());
    let _ = writeln!(text, "direct-io: {}", on_off(p.direct_io));
    text
}

/// `info migrate_cache_size`.
pub fn cache_size(p: &Parameters) -> String {
    format!("xbzrel cache size: {} kbytes\n", p.xbzrle_cache_size >> 10)
}

const fn on_off(state: bool) -> &'static str {
    if state { "on" } else { "off" }
}

#[cfg(test)]
#[path = "text_test.rs"]
mod tests;
