//! A small ISO 9660 image (ECMA-119), made from nothing.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of a sector.
pub const SECTOR: usize = 2048;

/// Sectors: 16 of nothing, two descriptors, two path tables, the root directory, the file.
const DESCRIPTOR: usize = 16;
const END: usize = 17;
const TABLE_LITTLE: usize = 18;
const TABLE_BIG: usize = 19;
const ROOT: usize = 20;
const FILE: usize = 21;

/// Both byte orders, one behind the other (section 7.3.3).
fn both32(value: usize) -> Vec<u8> {
    let value = value as u32;
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

fn both16(value: u16) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

/// A directory record (section 9.1).
fn record(name: &[u8], sector: usize, len: usize, directory: bool) -> Vec<u8> {
    let mut record = vec![0; 33];
    record[2..10].copy_from_slice(&both32(sector));
    record[10..18].copy_from_slice(&both32(len));
    // The first of January 2020.
    record[18..25].copy_from_slice(&[120, 1, 1, 0, 0, 0, 0]);
    record[25] = if directory { 2 } else { 0 };
    record[28..32].copy_from_slice(&both16(1));
    record[32] = name.len() as u8;
    record.extend(name);
    if record.len() % 2 == 1 {
        record.push(0);
    }
    record[0] = record.len() as u8;
    record
}

fn put(image: &mut [u8], sector: usize, at: usize, bytes: &[u8]) {
    let at = sector * SECTOR + at;
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

/// An image with one file `NAME` (upper case, as `FILE.TXT`) in its root directory, called
/// `volume`.
pub fn image(volume: &str, name: &str, contents: &[u8]) -> Vec<u8> {
    let sectors = FILE + contents.len().div_ceil(SECTOR).max(1);
    let mut image = vec![0; sectors * SECTOR];
    let root = record(&[0], ROOT, SECTOR, true);
    let mut text = |at: usize, len: usize, text: &str| {
        let mut bytes = vec![b' '; len];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        put(&mut image, DESCRIPTOR, at, &bytes);
    };
    text(8, 32, "");
    text(40, 32, volume);
    text(190, 623, "");
    put(&mut image, DESCRIPTOR, 0, b"\x01CD001\x01");
    put(&mut image, DESCRIPTOR, 80, &both32(sectors));
    put(&mut image, DESCRIPTOR, 120, &both16(1));
    put(&mut image, DESCRIPTOR, 124, &both16(1));
    put(&mut image, DESCRIPTOR, 128, &both16(SECTOR as u16));
    put(&mut image, DESCRIPTOR, 132, &both32(10));
    put(
        &mut image,
        DESCRIPTOR,
        140,
        &(TABLE_LITTLE as u32).to_le_bytes(),
    );
    put(
        &mut image,
        DESCRIPTOR,
        148,
        &(TABLE_BIG as u32).to_be_bytes(),
    );
    put(&mut image, DESCRIPTOR, 156, &root);
    put(&mut image, DESCRIPTOR, 881, &[1]);
    put(&mut image, END, 0, b"\xffCD001\x01");
    let table =
        |sector: [u8; 4], parent: [u8; 2]| [&[1, 0][..], &sector, &parent, &[0, 0]].concat();
    let little = table((ROOT as u32).to_le_bytes(), 1u16.to_le_bytes());
    let big = table((ROOT as u32).to_be_bytes(), 1u16.to_be_bytes());
    put(&mut image, TABLE_LITTLE, 0, &little);
    put(&mut image, TABLE_BIG, 0, &big);
    let own = record(&[0], ROOT, SECTOR, true);
    let parent = record(&[1], ROOT, SECTOR, true);
    let file = record(format!("{name};1").as_bytes(), FILE, contents.len(), false);
    put(&mut image, ROOT, 0, &[own, parent, file].concat());
    put(&mut image, FILE, 0, contents);
    image
}

/// The same in a file.
///
/// # Panics
/// When it cannot be written.
pub fn file(directory: &Path, file: &str, volume: &str, name: &str, contents: &[u8]) -> PathBuf {
    let path = directory.join(file);
    fs::write(&path, image(volume, name, contents)).expect("an image");
    path
}
