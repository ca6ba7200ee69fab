//! Calls that change files in ways that a record has no word for. The server makes none of them; if
//! that changes, the record needs the word.

use crate::{
    about, find,
    log::{Recorder, die},
};
use libc::{c_char, c_int, c_uint, c_void, iovec, loff_t, off64_t, size_t, ssize_t};
use std::{
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};

/// Ends the process if a call is about a file that is recorded.
fn refuse_file(file: c_int, what: &str) {
    if about(file).is_some() {
        die(&format!("{what} to a recorded file has no word in the record"));
    }
}

/// Ends the process if a call is about a path that is recorded.
///
/// # Safety
///
/// `path` is a C string.
unsafe fn refuse_path(directory: c_int, path: *const c_char, what: &str) {
    // SAFETY: the caller vouches for it.
    if unsafe { Recorder::of_path(directory, path) }.is_some() {
        die(&format!("{what} to a recorded path has no word in the record"));
    }
}

type Map = unsafe extern "C" fn(*mut c_void, size_t, c_int, c_int, c_int, off64_t) -> *mut c_void;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    file: c_int,
    at: off64_t,
) -> *mut c_void {
    let real = real!(c"mmap" as Map);
    let shared = flags & (libc::MAP_SHARED | libc::MAP_ANONYMOUS) == libc::MAP_SHARED;
    if shared && protection & libc::PROT_WRITE != 0 {
        refuse_file(file, "mmap");
    }
    // SAFETY: passed on as it came.
    unsafe { real(address, length, protection, flags, file, at) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    address: *mut c_void,
    length: size_t,
    protection: c_int,
    flags: c_int,
    file: c_int,
    at: off64_t,
) -> *mut c_void {
    // SAFETY: the same function under another name.
    unsafe { mmap(address, length, protection, flags, file, at) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(
    file: c_int,
    mode: c_int,
    at: off64_t,
    length: off64_t,
) -> c_int {
    type Allocate = unsafe extern "C" fn(c_int, c_int, off64_t, off64_t) -> c_int;
    let real = real!(c"fallocate" as Allocate);
    refuse_file(file, "fallocate");
    // SAFETY: passed on as it came.
    unsafe { real(file, mode, at, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate64(
    file: c_int,
    mode: c_int,
    at: off64_t,
    length: off64_t,
) -> c_int {
    // SAFETY: the same function under another name.
    unsafe { fallocate(file, mode, at, length) }
}

type AllocatePosix = unsafe extern "C" fn(c_int, off64_t, off64_t) -> c_int;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate(file: c_int, at: off64_t, length: off64_t) -> c_int {
    let real = real!(c"posix_fallocate" as AllocatePosix);
    refuse_file(file, "posix_fallocate");
    // SAFETY: passed on as it came.
    unsafe { real(file, at, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate64(file: c_int, at: off64_t, length: off64_t) -> c_int {
    // SAFETY: the same function under another name.
    unsafe { posix_fallocate(file, at, length) }
}

type TruncatePath = unsafe extern "C" fn(*const c_char, off64_t) -> c_int;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn truncate(path: *const c_char, length: off64_t) -> c_int {
    let real = real!(c"truncate" as TruncatePath);
    // SAFETY: passed on as it came.
    unsafe { refuse_path(libc::AT_FDCWD, path, "truncate") };
    // SAFETY: passed on as it came.
    unsafe { real(path, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn truncate64(path: *const c_char, length: off64_t) -> c_int {
    // SAFETY: the same function under another name.
    unsafe { truncate(path, length) }
}

type WriteFlagged = unsafe extern "C" fn(c_int, *const iovec, c_int, off64_t, c_int) -> ssize_t;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev2(
    file: c_int,
    buffers: *const iovec,
    count: c_int,
    at: off64_t,
    flags: c_int,
) -> ssize_t {
    let real = real!(c"pwritev2" as WriteFlagged);
    refuse_file(file, "pwritev2");
    // SAFETY: passed on as it came.
    unsafe { real(file, buffers, count, at, flags) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn copy_file_range(
    from: c_int,
    from_at: *mut loff_t,
    to: c_int,
    to_at: *mut loff_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    type Copy =
        unsafe extern "C" fn(c_int, *mut loff_t, c_int, *mut loff_t, size_t, c_uint) -> ssize_t;
    let real = real!(c"copy_file_range" as Copy);
    refuse_file(to, "copy_file_range");
    // SAFETY: passed on as it came.
    unsafe { real(from, from_at, to, to_at, length, flags) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn splice(
    from: c_int,
    from_at: *mut loff_t,
    to: c_int,
    to_at: *mut loff_t,
    length: size_t,
    flags: c_uint,
) -> ssize_t {
    type Splice =
        unsafe extern "C" fn(c_int, *mut loff_t, c_int, *mut loff_t, size_t, c_uint) -> ssize_t;
    let real = real!(c"splice" as Splice);
    refuse_file(to, "splice");
    // SAFETY: passed on as it came.
    unsafe { real(from, from_at, to, to_at, length, flags) }
}

type SendFile = unsafe extern "C" fn(c_int, c_int, *mut off64_t, size_t) -> ssize_t;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(
    to: c_int,
    from: c_int,
    from_at: *mut off64_t,
    length: size_t,
) -> ssize_t {
    let real = real!(c"sendfile" as SendFile);
    refuse_file(to, "sendfile");
    // SAFETY: passed on as it came.
    unsafe { real(to, from, from_at, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(
    to: c_int,
    from: c_int,
    from_at: *mut off64_t,
    length: size_t,
) -> ssize_t {
    // SAFETY: the same function under another name.
    unsafe { sendfile(to, from, from_at, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn linkat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_int,
) -> c_int {
    type LinkAt = unsafe extern "C" fn(c_int, *const c_char, c_int, *const c_char, c_int) -> c_int;
    let real = real!(c"linkat" as LinkAt);
    // SAFETY: passed on as it came.
    unsafe { refuse_path(to_directory, to, "linkat") };
    // SAFETY: passed on as it came.
    unsafe { real(from_directory, from, to_directory, to, flags) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn link(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: passed on as it came.
    unsafe { linkat(libc::AT_FDCWD, from, libc::AT_FDCWD, to, 0) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn symlinkat(
    from: *const c_char,
    directory: c_int,
    to: *const c_char,
) -> c_int {
    type SymlinkAt = unsafe extern "C" fn(*const c_char, c_int, *const c_char) -> c_int;
    let real = real!(c"symlinkat" as SymlinkAt);
    // SAFETY: passed on as it came.
    unsafe { refuse_path(directory, to, "symlinkat") };
    // SAFETY: passed on as it came.
    unsafe { real(from, directory, to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn symlink(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: passed on as it came.
    unsafe { symlinkat(from, libc::AT_FDCWD, to) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat2(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
    flags: c_uint,
) -> c_int {
    type RenameAt =
        unsafe extern "C" fn(c_int, *const c_char, c_int, *const c_char, c_uint) -> c_int;
    let real = real!(c"renameat2" as RenameAt);
    // SAFETY: passed on as it came.
    unsafe { refuse_path(to_directory, to, "renameat2") };
    // SAFETY: passed on as it came.
    unsafe { real(from_directory, from, to_directory, to, flags) }
}
