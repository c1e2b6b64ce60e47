//! The parameters of migration, with QEMU's defaults and bounds.

use api_spec::decode::Size;
use api_spec::{
    BitmapMigrationNodeAlias, MigMode, MigrateSetParameters, MigrationParameters,
    MultiFDCompression, QmpError, QmpResult, StrOrNull, ZeroPageDetection,
};

/// All of them. Sizes are bytes, bandwidths bytes in a second, times milliseconds, the rest as
/// the schema says.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // the schema says what each is
pub struct Parameters {
    pub announce_initial: u64,
    pub announce_max: u64,
    pub announce_rounds: u64,
    pub announce_step: u64,
    pub throttle_trigger_threshold: u8,
    pub cpu_throttle_initial: u8,
    pub cpu_throttle_increment: u8,
    pub cpu_throttle_tailslow: bool,
    pub tls_creds: String,
    pub tls_hostname: String,
    pub tls_authz: String,
    pub max_bandwidth: u64,
    pub avail_switchover_bandwidth: u64,
    pub downtime_limit: u64,
    pub x_checkpoint_delay: u32,
    pub multifd_channels: u8,
    pub xbzrle_cache_size: u64,
    pub max_postcopy_bandwidth: u64,
    pub max_cpu_throttle: u8,
    pub multifd_compression: MultiFDCompression,
    pub multifd_zlib_level: u8,
    pub multifd_qatzip_level: u8,
    pub multifd_zstd_level: u8,
    pub block_bitmap_mapping: Option<Vec<BitmapMigrationNodeAlias>>,
    pub x_vcpu_dirty_limit_period: u64,
    pub vcpu_dirty_limit: u64,
    pub mode: MigMode,
    pub zero_page_detection: ZeroPageDetection,
    pub direct_io: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Parameters {
            announce_initial: 50,
            announce_max: 550,
            announce_rounds: 5,
            announce_step: 100,
            throttle_trigger_threshold: 50,
            cpu_throttle_initial: 20,
            cpu_throttle_increment: 10,
            cpu_throttle_tailslow: false,
            tls_creds: String::new(),
            tls_hostname: String::new(),
            tls_authz: String::new(),
            max_bandwidth: 128 << 20,
            avail_switchover_bandwidth: 0,
            downtime_limit: 300,
            x_checkpoint_delay: 20_000,
            multifd_channels: 2,
            xbzrle_cache_size: 64 << 20,
            max_postcopy_bandwidth: 0,
            max_cpu_throttle: 99,
            multifd_compression: MultiFDCompression::None,
            multifd_zlib_level: 1,
            multifd_qatzip_level: 1,
            multifd_zstd_level: 1,
            block_bitmap_mapping: None,
            x_vcpu_dirty_limit_period: 1000,
            vcpu_dirty_limit: 1,
            mode: MigMode::Normal,
            zero_page_detection: ZeroPageDetection::Multifd,
            direct_io: false,
        }
    }
}

impl Parameters {
    /// These with changes.
    ///
    /// # Errors
    /// When one is out of bounds, or is for what does not work here.
    pub fn with(&self, changes: MigrateSetParameters) -> QmpResult<Self> {
        let mut new = self.clone();
        new.merge(changes);
        new.check()?;
        Ok(new)
    }

    fn merge(&mut self, changes: MigrateSetParameters) {
        let MigrateSetParameters {
            announce_initial,
            announce_max,
            announce_rounds,
            announce_step,
            throttle_trigger_threshold,
            cpu_throttle_initial,
            cpu_throttle_increment,
            cpu_throttle_tailslow,
            tls_creds,
            tls_hostname,
            tls_authz,
            max_bandwidth,
            avail_switchover_bandwidth,
            downtime_limit,
            x_checkpoint_delay,
            multifd_channels,
            xbzrle_cache_size,
            max_postcopy_bandwidth,
            max_cpu_throttle,
            multifd_compression,
            multifd_zlib_level,
            multifd_qatzip_level,
            multifd_zstd_level,
            block_bitmap_mapping,
            x_vcpu_dirty_limit_period,
            vcpu_dirty_limit,
            mode,
            zero_page_detection,
            direct_io,
        } = changes;
        set_size(&mut self.announce_initial, announce_initial);
        set_size(&mut self.announce_max, announce_max);
        set_size(&mut self.announce_rounds, announce_rounds);
        set_size(&mut self.announce_step, announce_step);
        set(
            &mut self.throttle_trigger_threshold,
            throttle_trigger_threshold,
        );
        set(&mut self.cpu_throttle_initial, cpu_throttle_initial);
        set(&mut self.cpu_throttle_increment, cpu_throttle_increment);
        set(&mut self.cpu_throttle_tailslow, cpu_throttle_tailslow);
        set_text(&mut self.tls_creds, tls_creds);
        set_text(&mut self.tls_hostname, tls_hostname);
        set_text(&mut self.tls_authz, tls_authz);
        set_size(&mut self.max_bandwidth, max_bandwidth);
        set_size(
            &mut self.avail_switchover_bandwidth,
            avail_switchover_bandwidth,
        );
        set(&mut self.downtime_limit, downtime_limit);
        set(&mut self.x_checkpoint_delay, x_checkpoint_delay);
        set(&mut self.multifd_channels, multifd_channels);
        set_size(&mut self.xbzrle_cache_size, xbzrle_cache_size);
        set_size(&mut self.max_postcopy_bandwidth, max_postcopy_bandwidth);
        set(&mut self.max_cpu_throttle, max_cpu_throttle);
        set(&mut self.multifd_compression, multifd_compression);
        set(&mut self.multifd_zlib_level, multifd_zlib_level);
        set(&mut self.multifd_qatzip_level, multifd_qatzip_level);
        set(&mut self.multifd_zstd_level, multifd_zstd_level);
        set(
            &mut self.block_bitmap_mapping,
            block_bitmap_mapping.map(Some),
        );
        set(
            &mut self.x_vcpu_dirty_limit_period,
            x_vcpu_dirty_limit_period,
        );
        set(&mut self.vcpu_dirty_limit, vcpu_dirty_limit);
        set(&mut self.mode, mode);
        set(&mut self.zero_page_detection, zero_page_detection);
        set(&mut self.direct_io, direct_io);
    }

    fn check(&self) -> QmpResult<()> {
        let percent = |name, value: u8, most| {
            let fine = (1..=most).contains(&value);
            expect(name, fine, || {
                format!("an integer in the range of 1 to {most}")
            })
        };
        percent(
            "throttle_trigger_threshold",
            self.throttle_trigger_threshold,
            100,
        )?;
        percent("cpu_throttle_initial", self.cpu_throttle_initial, 99)?;
        percent("cpu_throttle_increment", self.cpu_throttle_increment, 99)?;
        expect("downtime_limit", self.downtime_limit <= 2_000_000, || {
            "an integer in the range of 0 to (2000 * 1000) ms".to_owned()
        })?;
        let between = |name, value: u64, least: u64, most: u64| {
            let fine = (least..=most).contains(&value);
            expect(name, fine, || format!("a value between {least} and {most}"))
        };
        between("multifd_channels", self.multifd_channels.into(), 1, 255)?;
        between("multifd_zlib_level", self.multifd_zlib_level.into(), 0, 9)?;
        between(
            "multifd_qatzip_level",
            self.multifd_qatzip_level.into(),
            1,
            9,
        )?;
        between("multifd_zstd_level", self.multifd_zstd_level.into(), 0, 20)?;
        let cache = self.xbzrle_cache_size;
        let fine = cache >= crate::migration::ram::PAGE && cache.is_power_of_two();
        expect("xbzrle_cache_size", fine, || {
            "a power of two no less than the target page size".to_owned()
        })?;
        let fine = (self.cpu_throttle_initial..=99).contains(&self.max_cpu_throttle);
        expect("max_cpu_throttle", fine, || {
            "an integer in the range of cpu_throttle_initial to 99".to_owned()
        })?;
        between("announce_initial", self.announce_initial, 0, 100_000)?;
        between("announce_max", self.announce_max, 0, 100_000)?;
        between("announce_rounds", self.announce_rounds, 0, 1000)?;
        between("announce_step", self.announce_step, 1, 10_000)?;
        between(
            "x-vcpu-dirty-limit-period",
            self.x_vcpu_dirty_limit_period,
            1,
            1000,
        )?;
        if self.vcpu_dirty_limit < 1 {
            let text = "Parameter 'vcpu_dirty_limit' must be greater than 1 MB/s";
            return Err(QmpError::generic(text));
        }
        self.check_support()
    }

    /// What is known and does not work here.
    fn check_support(&self) -> QmpResult<()> {
        let unsupported = |name: &str, value: &str| {
            let text = format!("Migration parameter '{name}' does not support '{value}'");
            Err(QmpError::generic(text))
        };
        if self.multifd_compression == MultiFDCompression::Zlib {
            return unsupported("multifd-compression", self.multifd_compression.name());
        }
        if self.mode != MigMode::Normal {
            return unsupported("mode", self.mode.name());
        }
        if !self.tls_creds.is_empty() {
            return unsupported("tls-creds", &self.tls_creds);
        }
        Ok(())
    }

    /// query-migrate-parameters.
    pub fn list(&self) -> MigrationParameters {
        MigrationParameters {
            announce_initial: Some(Size(self.announce_initial)),
            announce_max: Some(Size(self.announce_max)),
            announce_rounds: Some(Size(self.announce_rounds)),
            announce_step: Some(Size(self.announce_step)),
            throttle_trigger_threshold: Some(self.throttle_trigger_threshold),
            cpu_throttle_initial: Some(self.cpu_throttle_initial),
            cpu_throttle_increment: Some(self.cpu_throttle_increment),
            cpu_throttle_tailslow: Some(self.cpu_throttle_tailslow),
            tls_creds: Some(self.tls_creds.clone()),
            tls_hostname: Some(self.tls_hostname.clone()),
            tls_authz: Some(self.tls_authz.clone()),
            max_bandwidth: Some(Size(self.max_bandwidth)),
            avail_switchover_bandwidth: Some(Size(self.avail_switchover_bandwidth)),
            downtime_limit: Some(self.downtime_limit),
            x_checkpoint_delay: Some(self.x_checkpoint_delay),
            multifd_channels: Some(self.multifd_channels),
            xbzrle_cache_size: Some(Size(self.xbzrle_cache_size)),
            max_postcopy_bandwidth: Some(Size(self.max_postcopy_bandwidth)),
            max_cpu_throttle: Some(self.max_cpu_throttle),
            multifd_compression: Some(self.multifd_compression),
            multifd_zlib_level: Some(self.multifd_zlib_level),
            multifd_qatzip_level: Some(self.multifd_qatzip_level),
            multifd_zstd_level: Some(self.multifd_zstd_level),
            block_bitmap_mapping: self.block_bitmap_mapping.clone(),
            x_vcpu_dirty_limit_period: Some(self.x_vcpu_dirty_limit_period),
            vcpu_dirty_limit: Some(self.vcpu_dirty_limit),
            mode: Some(self.mode),
            zero_page_detection: Some(self.zero_page_detection),
            direct_io: Some(self.direct_io),
        }
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

fn set_size(place: &mut u64, value: Option<Size>) {
    set(place, value.map(|size| size.0));
}

/// `null` is as good as an empty text.
fn set_text(place: &mut String, value: Option<StrOrNull>) {
    set(
        place,
        value.map(|text| match text {
            StrOrNull::S(text) => text,
            StrOrNull::N => String::new(),
        }),
    );
}

fn expect(name: &str, fine: bool, expected: impl FnOnce() -> String) -> QmpResult<()> {
    match fine {
        true => Ok(()),
        false => Err(QmpError::wrong_value(name, &expected())),
    }
}
