//! System calls on a vCPU whose structures have no fixed size, or that kvm-ioctls has not.
#![allow(unsafe_code)] // plain ioctls
// Numbers of requests differ in type between C libraries.
#![allow(clippy::unnecessary_cast)]

use std::io;
use std::os::fd::AsRawFd;

use kvm_bindings::kvm_sregs2;
use kvm_ioctls::VcpuFd;

/// Bytes of `struct kvm_xsave`.
pub const XSAVE_LEN: usize = 4096;
/// `linux/kvm.h`.
pub const KVM_CAP_SREGS2: u32 = 200;
/// Bytes of the head of `struct kvm_nested_state`.
const NESTED_HEAD: usize = 128;

const fn request(direction: u64, number: u64, size: u64) -> libc::Ioctl {
    (direction << 30 | size << 16 | 0xae << 8 | number) as libc::Ioctl
}

const WRITE: u64 = 1;
const READ: u64 = 2;
const KVM_GET_XSAVE: libc::Ioctl = request(READ, 0xa4, XSAVE_LEN as u64);
const KVM_SET_XSAVE: libc::Ioctl = request(WRITE, 0xa5, XSAVE_LEN as u64);
const KVM_GET_XSAVE2: libc::Ioctl = request(READ, 0xcf, XSAVE_LEN as u64);
const KVM_GET_SREGS2: libc::Ioctl = request(READ, 0xcc, size_of::<kvm_sregs2>() as u64);
const KVM_SET_SREGS2: libc::Ioctl = request(WRITE, 0xcd, size_of::<kvm_sregs2>() as u64);
const KVM_GET_NESTED_STATE: libc::Ioctl = request(READ | WRITE, 0xbe, NESTED_HEAD as u64);
const KVM_SET_NESTED_STATE: libc::Ioctl = request(WRITE, 0xbf, NESTED_HEAD as u64);

/// The XSAVE area; `len` is its size as the kernel told it (KVM_CAP_XSAVE2), at least
/// [`XSAVE_LEN`].
pub fn xsave(fd: &VcpuFd, len: usize) -> io::Result<Vec<u8>> {
    let mut area = Area::new(len.max(XSAVE_LEN));
    let get = match len > XSAVE_LEN {
        true => KVM_GET_XSAVE2,
        false => KVM_GET_XSAVE,
    };
    // SAFETY: the kernel writes 4096 bytes, or as many as it told that it would; the area has
    // them.
    unsafe { area.call(fd, get)? };
    Ok(area.0)
}

/// Sets it; the area may come from a host with a larger or smaller one.
pub fn set_xsave(fd: &VcpuFd, len: usize, saved: &[u8]) -> io::Result<()> {
    let len = len.max(XSAVE_LEN);
    let beyond = saved.get(len..).unwrap_or_default();
    if saved.len() < XSAVE_LEN || beyond.iter().any(|byte| *byte != 0) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an area of {} bytes, and of {len} here", saved.len()),
        ));
    }
    let mut area = Area::of(saved, len);
    // SAFETY: the kernel reads as many bytes as it told that it would; the area has them.
    unsafe { area.call(fd, KVM_SET_XSAVE) }
}

/// Segments, tables and control registers, with page directory pointers.
pub fn sregs2(fd: &VcpuFd) -> io::Result<kvm_sregs2> {
    let mut sregs = kvm_sregs2::default();
    // SAFETY: the kernel writes one such structure, which lives across the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), KVM_GET_SREGS2, &raw mut sregs) };
    done(result).map(|()| sregs)
}

/// Sets them.
pub fn set_sregs2(fd: &VcpuFd, sregs: &kvm_sregs2) -> io::Result<()> {
    // SAFETY: the kernel reads one such structure, which lives across the call.
    done(unsafe { libc::ioctl(fd.as_raw_fd(), KVM_SET_SREGS2, std::ptr::from_ref(sregs)) })
}

/// The kernel's record of nested virtualization; `most` is its greatest size (KVM_CAP_NESTED_STATE).
pub fn nested(fd: &VcpuFd, most: usize) -> io::Result<Vec<u8>> {
    let mut area = Area::new(most.max(NESTED_HEAD));
    area.set_nested_size(most.max(NESTED_HEAD));
    // SAFETY: the record says how large it may get, and the area is that large.
    unsafe { area.call(fd, KVM_GET_NESTED_STATE)? };
    let len = area.nested_size();
    let mut bytes = area.0;
    bytes.truncate(len);
    Ok(bytes)
}

/// Sets it.
pub fn set_nested(fd: &VcpuFd, saved: &[u8]) -> io::Result<()> {
    if saved.len() < NESTED_HEAD {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut area = Area::of(saved, saved.len());
    // The kernel goes by what the record says of its size.
    area.set_nested_size(saved.len());
    // SAFETY: the record says how large it is, and the area is that large.
    unsafe { area.call(fd, KVM_SET_NESTED_STATE) }
}

/// Bytes for the kernel, which copies them wherever they are.
struct Area(Vec<u8>);

/// Where `struct kvm_nested_state` has its size.
const NESTED_SIZE: std::ops::Range<usize> = 4..8;

impl Area {
    fn new(len: usize) -> Self {
        Area(vec![0; len])
    }

    /// With these bytes, and zeroes behind them.
    fn of(saved: &[u8], len: usize) -> Self {
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(saved.get(..len).unwrap_or(saved));
        bytes.resize(len, 0);
        Area(bytes)
    }

    fn nested_size(&self) -> usize {
        let size = self
            .0
            .get(NESTED_SIZE)
            .and_then(|size| size.try_into().ok());
        let size = u32::from_le_bytes(size.unwrap_or_default());
        usize::try_from(size).unwrap_or(0).min(self.0.len())
    }

    fn set_nested_size(&mut self, size: usize) {
        let size = u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(place) = self.0.get_mut(NESTED_SIZE) {
            place.copy_from_slice(&size);
        }
    }

    /// # Safety
    /// The kernel reads and writes no more than the area has.
    unsafe fn call(&mut self, fd: &VcpuFd, request: libc::Ioctl) -> io::Result<()> {
        // SAFETY: by the caller; the area lives across the call.
        done(unsafe { libc::ioctl(fd.as_raw_fd(), request, self.0.as_mut_ptr()) })
    }
}

fn done(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
