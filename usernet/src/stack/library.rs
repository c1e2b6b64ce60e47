//! libslirp's interface, as far as it is used: shapes and names after its public header, checked
//! against version 4.7 (configuration of version 1, which every 4.x takes).
//!
//! The library is looked up when the program starts, so that building it needs no header and a
//! host without the library is told so in words.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

/// The library's own value; only ever behind a pointer.
#[repr(C)]
pub struct Slirp {
    _opaque: [u8; 0],
}

/// Events of a descriptor (SLIRP_POLL_*).
pub mod event {
    use std::ffi::c_int;

    pub const IN: c_int = 1;
    pub const OUT: c_int = 2;
    pub const PRI: c_int = 4;
    pub const ERR: c_int = 8;
    pub const HUP: c_int = 16;
}

/// The version of [`Options`] that is filled in.
pub const OPTIONS_VERSION: u32 = 1;

/// `SlirpConfig`. Members after `enable_emu` are not read with version 1; they are here for
/// libraries that copy the whole.
#[repr(C)]
pub struct Options {
    pub version: u32,
    pub restricted: c_int,
    pub in_enabled: bool,
    pub vnetwork: libc::in_addr,
    pub vnetmask: libc::in_addr,
    pub vhost: libc::in_addr,
    pub in6_enabled: bool,
    pub vprefix_addr6: libc::in6_addr,
    pub vprefix_len: u8,
    pub vhost6: libc::in6_addr,
    pub vhostname: *const c_char,
    pub tftp_server_name: *const c_char,
    pub tftp_path: *const c_char,
    pub bootfile: *const c_char,
    pub vdhcp_start: libc::in_addr,
    pub vnameserver: libc::in_addr,
    pub vnameserver6: libc::in6_addr,
    pub vdnssearch: *const *const c_char,
    pub vdomainname: *const c_char,
    pub if_mtu: usize,
    pub if_mru: usize,
    pub disable_host_loopback: bool,
    pub enable_emu: bool,
    pub outbound_addr: *const c_void,
    pub outbound_addr6: *const c_void,
    pub disable_dns: bool,
    pub disable_dhcp: bool,
    pub later: [u64; 8],
}

/// A timer's body.
pub type TimerBody = unsafe extern "C" fn(*mut c_void);
/// Takes bytes.
pub type WriteCall = unsafe extern "C" fn(*const c_void, usize, *mut c_void) -> isize;

/// `SlirpCb`.
#[repr(C)]
pub struct Callbacks {
    pub send_packet: WriteCall,
    pub guest_error: unsafe extern "C" fn(*const c_char, *mut c_void),
    pub clock_get_ns: unsafe extern "C" fn(*mut c_void) -> i64,
    pub timer_new: unsafe extern "C" fn(TimerBody, *mut c_void, *mut c_void) -> *mut c_void,
    pub timer_free: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub timer_mod: unsafe extern "C" fn(*mut c_void, i64, *mut c_void),
    pub register_poll_fd: unsafe extern "C" fn(c_int, *mut c_void),
    pub unregister_poll_fd: unsafe extern "C" fn(c_int, *mut c_void),
    pub notify: unsafe extern "C" fn(*mut c_void),
    /// Not called with version 1.
    pub later: [usize; 8],
}

type AddPoll = unsafe extern "C" fn(c_int, c_int, *mut c_void) -> c_int;
type GetEvents = unsafe extern "C" fn(c_int, *mut c_void) -> c_int;

macro_rules! functions {
    ($($field:ident = $name:literal: fn($($arg:ty),*) $(-> $ret:ty)?;)*) => {
        /// The library's functions.
        #[derive(Clone, Copy)]
        pub struct Library {
            $(pub $field: unsafe extern "C" fn($($arg),*) $(-> $ret)?,)*
        }

        impl Library {
            fn find(handle: *mut c_void) -> Result<Self, String> {
                $(let $field = symbol(handle, $name)?;)*
                // SAFETY: each symbol has the type that the library's header gives it.
                Ok(unsafe { Library { $($field: std::mem::transmute::<*mut c_void,
                    unsafe extern "C" fn($($arg),*) $(-> $ret)?>($field),)* } })
            }
        }
    };
}

functions! {
    new = "slirp_new": fn(*const Options, *const Callbacks, *mut c_void) -> *mut Slirp;
    cleanup = "slirp_cleanup": fn(*mut Slirp);
    fill = "slirp_pollfds_fill": fn(*mut Slirp, *mut u32, AddPoll, *mut c_void);
    poll = "slirp_pollfds_poll": fn(*mut Slirp, c_int, GetEvents, *mut c_void);
    input = "slirp_input": fn(*mut Slirp, *const u8, c_int);
    add_hostfwd = "slirp_add_hostfwd":
        fn(*mut Slirp, c_int, libc::in_addr, c_int, libc::in_addr, c_int) -> c_int;
    remove_hostfwd = "slirp_remove_hostfwd": fn(*mut Slirp, c_int, libc::in_addr, c_int) -> c_int;
    add_unix = "slirp_add_unix": fn(*mut Slirp, *const c_char, *mut libc::in_addr, c_int) -> c_int;
    add_guestfwd = "slirp_add_guestfwd":
        fn(*mut Slirp, WriteCall, *mut c_void, *mut libc::in_addr, c_int) -> c_int;
    can_receive = "slirp_socket_can_recv": fn(*mut Slirp, libc::in_addr, c_int) -> usize;
    receive = "slirp_socket_recv": fn(*mut Slirp, libc::in_addr, c_int, *const u8, c_int);
    info = "slirp_connection_info": fn(*mut Slirp) -> *mut c_char;
}

/// Its name on every distribution: the interface's version has been 0 since it became a library.
const FILE: &str = "libslirp.so.0";

impl Library {
    /// Loads the library.
    ///
    /// # Errors
    /// When it is not installed, or too old.
    pub fn load() -> Result<Self, String> {
        let file = CString::new(FILE).map_err(|error| error.to_string())?;
        // SAFETY: a name that ends; libslirp and what it needs (GLib) are made to be loaded.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() {
            return Err(format!("Cannot load {FILE} ({})", last_words()));
        }
        Library::find(handle)
    }
}

fn symbol(handle: *mut c_void, name: &str) -> Result<*mut c_void, String> {
    let c_name = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: the handle is of a library that stays loaded; the name ends.
    let found = unsafe { libc::dlsym(handle, c_name.as_ptr()) };
    match found.is_null() {
        true => Err(format!("{FILE} is too old: it has no {name}")),
        false => Ok(found),
    }
}

fn last_words() -> String {
    // SAFETY: no arguments.
    let words = unsafe { libc::dlerror() };
    match words.is_null() {
        true => "for no known reason".to_owned(),
        // SAFETY: not null, so text that ends, valid until the next call.
        false => unsafe { CStr::from_ptr(words) }
            .to_string_lossy()
            .into_owned(),
    }
}
