//! The tables by which a kernel is told about the machine.

use super::RangeKind;

/// What every kernel is told.
pub struct Told<'a> {
    /// Address of the command line.
    pub cmdline: u64,
    /// Its bytes, with the end mark.
    pub cmdline_len: usize,
    /// Address and bytes of the initrd; zero bytes for none.
    pub initrd: (u64, u64),
    /// Address of the ACPI root pointer.
    pub rsdp: u64,
    /// Address ranges.
    pub map: &'a [(u64, u64, RangeKind)],
}

/// Table entries as bytes.
pub fn bytes_of(entries: &[u64]) -> Vec<u8> {
    entries
        .iter()
        .flat_map(|entry| entry.to_le_bytes())
        .collect()
}

/// A page with numbers in it.
struct Page(Vec<u8>);

impl Page {
    fn new() -> Self {
        Page(vec![0; 4096])
    }
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let place = at
            .checked_add(bytes.len())
            .and_then(|end| self.0.get_mut(at..end));
        if let Some(place) = place {
            place.copy_from_slice(bytes);
        }
    }
    fn u8(&mut self, at: usize, value: u8) {
        self.put(at, &[value]);
    }
    fn u16(&mut self, at: usize, value: u16) {
        self.put(at, &value.to_le_bytes());
    }
    /// The low half of `value`.
    fn u32(&mut self, at: usize, value: u64) {
        self.put(at, value.to_le_bytes().get(..4).unwrap_or_default());
    }
    fn u64(&mut self, at: usize, value: u64) {
        self.put(at, &value.to_le_bytes());
    }
}

/// Linux's zero page (Documentation/arch/x86/zero-page.rst), with the kernel's own setup header
/// where it has one.
pub fn zero_page(told: &Told, header: Option<&[u8]>) -> Vec<u8> {
    const SETUP_HEADER: usize = 0x1f1;
    const E820_COUNT: usize = 0x1e8;
    const E820_TABLE: usize = 0x2d0;
    const CAN_USE_HEAP: u8 = 0x80;
    let mut page = Page::new();
    match header {
        Some(header) => page.put(SETUP_HEADER, header),
        None => {
            page.u16(0x1fe, 0xaa55); // boot_flag
            page.u32(0x202, 0x5372_6448); // header
            page.u16(0x206, 0x20f); // version
            page.u8(0x211, 1); // loadflags: loaded high
            page.u32(0x230, 0x100_0000); // kernel_alignment
        }
    }
    page.u64(0x70, told.rsdp); // acpi_rsdp_addr
    page.u8(0x210, 0xff); // type_of_loader: none of the registered ones
    let flags = page.0.get(0x211).copied().unwrap_or(0);
    page.u8(0x211, flags | CAN_USE_HEAP);
    page.u16(0x224, 0xfe00); // heap_end_ptr
    page.u32(0x228, told.cmdline); // cmd_line_ptr
    page.u32(0x238, told.cmdline_len as u64); // cmdline_size
    let (addr, len) = told.initrd;
    page.u32(0x218, addr); // ramdisk_image
    page.u32(0x21c, len); // ramdisk_size
    page.u32(0xc0, addr >> 32); // ext_ramdisk_image
    page.u32(0xc4, len >> 32); // ext_ramdisk_size
    let mut at = E820_TABLE;
    for (base, bytes, kind) in told.map {
        page.u64(at, *base);
        page.u64(at.saturating_add(8), *bytes);
        page.u32(at.saturating_add(16), *kind as u64);
        at = at.saturating_add(20);
    }
    page.u8(E820_COUNT, u8::try_from(told.map.len()).unwrap_or(0));
    page.0
}

/// The PVH start info (Xen, public/arch-x86/hvm/start_info.h) and, for `tables`, the memory map
/// and module list that it points to.
pub fn start_info(told: &Told, tables: u64) -> (Vec<u8>, Vec<u8>) {
    const MAGIC: u64 = 0x336e_c578;
    let mut map = Vec::new();
    for (base, bytes, kind) in told.map {
        map.extend_from_slice(&base.to_le_bytes());
        map.extend_from_slice(&bytes.to_le_bytes());
        map.extend_from_slice(&(*kind as u64).to_le_bytes());
    }
    let modules = tables.saturating_add(map.len() as u64);
    let (addr, len) = told.initrd;
    for number in [addr, len, 0, 0] {
        map.extend_from_slice(&number.to_le_bytes());
    }
    let mut info = Page::new();
    info.u32(0, MAGIC);
    info.u32(4, 1); // version: with a memory map
    info.u32(12, u64::from(len > 0)); // nr_modules
    info.u64(16, if len > 0 { modules } else { 0 });
    info.u64(24, told.cmdline);
    info.u64(32, told.rsdp);
    info.u64(40, tables);
    info.u32(48, told.map.len() as u64);
    info.0.truncate(56);
    (info.0, map)
}

/// Three pages of page tables at `base` that map the first gibibyte to itself in pieces of 2 MiB
/// (Intel SDM 3A, section 4.5).
pub fn page_tables(base: u64) -> Vec<u8> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 0x80;
    let mut tables = vec![0u64; 3 * 512];
    let mut put = |index: usize, value: u64| {
        if let Some(place) = tables.get_mut(index) {
            *place = value;
        }
    };
    put(0, base.saturating_add(0x1000) | PRESENT_WRITABLE);
    put(512, base.saturating_add(0x2000) | PRESENT_WRITABLE);
    for (index, page) in (1024..1536).zip(0u64..) {
        put(index, page << 21 | LARGE | PRESENT_WRITABLE);
    }
    bytes_of(&tables)
}
