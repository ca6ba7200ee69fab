//! Records what a process does to one directory: preloaded with `LD_PRELOAD`, it takes the place of
//! the functions of libc that change files, calls the real ones, and notes each call in one file.
//!
//! What it promises: one total order. Every call that changes something below the directory is made
//! and noted under one lock. A sync is noted twice, before and after, and runs without the lock, so
//! the reader knows which writes had returned before it began; only those does it cover. Answers
//! through TCP connections are noted in the same order, so that it can be told what was acknowledged
//! when. A call that would change a file in a way that is not recorded (a shared mapping, `sendfile`,
//! `fallocate`, a hard link, ...) ends the process with a message, so nothing is missed in silence.
//!
//! It can also kill its process just before a chosen event, see `log`.
//!
//! What it does not see: system calls that are not made through libc, and other processes. The reader
//! compares the directory that follows from the record with the real one, which would show both.
//!
//! Linux only; elsewhere it is empty.

#![cfg(target_os = "linux")]
#![allow(
    clippy::missing_safety_doc,
    reason = "each is as safe as the function of libc it is named after"
)]
#![allow(unreachable_pub, reason = "the dynamic linker reaches them")]

mod log;
pub mod record;

use libc::{
    c_char, c_int, c_uint, c_void, iovec, mode_t, msghdr, off64_t, size_t, sockaddr, socklen_t,
    ssize_t,
};
use log::{Recorder, Status, Turn, die};
use record::Event;
use std::{
    ffi::CStr,
    ptr::null_mut,
    sync::atomic::{AtomicPtr, Ordering},
};

/// The function that the process would have called without us.
macro_rules! real {
    ($name:literal as $signature:ty) => {{
        static FOUND: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
        let mut found = FOUND.load(Ordering::Relaxed);
        if found.is_null() {
            found = find($name);
            FOUND.store(found, Ordering::Relaxed);
        }
        // SAFETY: this is the address of a function of libc with that signature.
        unsafe { std::mem::transmute::<*mut c_void, $signature>(found) }
    }};
}

mod refused;

fn find(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    if found.is_null() { die("libc lacks a function") } else { found }
}

/// Callers look at `errno` after a call; what we do after it must not change it.
fn keeping_errno(work: impl FnOnce()) {
    // SAFETY: the pointer is valid for as long as the thread lives.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above.
    let kept = unsafe { *errno };
    work();
    // SAFETY: as above.
    unsafe { *errno = kept };
}

type Open = unsafe extern "C" fn(*const c_char, c_int, mode_t) -> c_int;
type OpenAt = unsafe extern "C" fn(c_int, *const c_char, c_int, mode_t) -> c_int;

/// # Safety
///
/// `path` is a C string.
unsafe fn opening(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    call: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: the caller vouches for the path.
    let Some((recorder, below)) = (unsafe { Recorder::of_path(directory, path) }) else {
        return call();
    };
    if flags & libc::O_TMPFILE == libc::O_TMPFILE {
        die("a file without a name is not recorded");
    }
    let mut turn = recorder.turn();
    // SAFETY: the caller vouches for the path.
    let before = unsafe { Status::of_path(directory, path) };
    if before.is_some() || flags & libc::O_CREAT != 0 {
        turn.event_ahead();
    }
    let file = call();
    keeping_errno(|| {
        let Some(status) = (file >= 0).then(|| Status::of_file(file)).flatten() else { return };
        turn.learn(status);
        let (path, inode) = (below.as_slice(), status.inode);
        turn.note(&match before {
            Some(_) => Event::Opened { path, inode },
            None => Event::Created { path, inode },
        });
        let cut = before.is_some_and(|before| before.length > 0) && flags & libc::O_TRUNC != 0;
        if cut {
            turn.note(&Event::Resized { inode, length: 0 });
        }
    });
    file
}

// The real ones take the mode as a variable argument. It is passed in the same register, and where
// there is none the register holds something that the real one does not read.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!(c"open" as Open);
    // SAFETY: passed on as it came.
    unsafe { opening(libc::AT_FDCWD, path, flags, || real(path, flags, mode)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let real = real!(c"open64" as Open);
    // SAFETY: passed on as it came.
    unsafe { opening(libc::AT_FDCWD, path, flags, || real(path, flags, mode)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    let real = real!(c"openat" as OpenAt);
    // SAFETY: passed on as it came.
    unsafe { opening(directory, path, flags, || real(directory, path, flags, mode)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn openat64(
    directory: c_int,
    path: *const c_char,
    flags: c_int,
    mode: mode_t,
) -> c_int {
    let real = real!(c"openat64" as OpenAt);
    // SAFETY: passed on as it came.
    unsafe { opening(directory, path, flags, || real(directory, path, flags, mode)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: passed on as it came.
    unsafe { open(path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn creat64(path: *const c_char, mode: mode_t) -> c_int {
    // SAFETY: passed on as it came.
    unsafe { open64(path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode) }
}

/// Where a write goes.
#[derive(Clone, Copy)]
enum Place {
    /// Where the last one ended.
    Cursor,
    At(off64_t),
}

/// The bytes of several buffers, as many as were written.
///
/// # Safety
///
/// As for `writev`.
unsafe fn gathered(buffers: *const iovec, count: c_int, wrote: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(wrote);
    for index in 0..usize::try_from(count).unwrap_or_default() {
        // SAFETY: the caller vouches for `count` buffers.
        let buffer = unsafe { *buffers.add(index) };
        let length = buffer.iov_len.min(wrote - bytes.len());
        if length > 0 {
            // SAFETY: so many bytes of it were just written.
            bytes.extend(unsafe {
                std::slice::from_raw_parts(buffer.iov_base.cast::<u8>(), length)
            });
        }
    }
    bytes
}

/// Makes a call that writes to a file or a connection, and notes what it wrote.
///
/// # Safety
///
/// `bytes` is called with the result of `call` if that is positive, and must be sound then.
unsafe fn writing(
    file: c_int,
    place: Place,
    call: impl FnOnce() -> ssize_t,
    bytes: impl FnOnce(usize) -> Vec<u8>,
) -> ssize_t {
    let Some((recorder, status)) = Recorder::get().zip(Status::of_file(file)) else {
        return call();
    };
    if status.is_socket() {
        return match connection(file) {
            Some(connection) => {
                let mut turn = recorder.turn();
                turn.event_ahead();
                let sent = call();
                keeping_errno(|| {
                    if let Ok(length @ 1..) = usize::try_from(sent) {
                        turn.note(&Event::Sent { connection, data: &bytes(length) });
                    }
                });
                sent
            }
            None => call(),
        };
    }
    let mut turn = recorder.turn();
    if !turn.knows(status) {
        drop(turn);
        return call();
    }
    turn.event_ahead();
    let wrote = call();
    keeping_errno(|| {
        if let Ok(length @ 1..) = usize::try_from(wrote) {
            let at = match place {
                Place::At(at) => at,
                // SAFETY: moves nothing.
                Place::Cursor => unsafe {
                    libc::lseek64(file, 0, libc::SEEK_CUR) - wrote as off64_t
                },
            };
            let Ok(at) = u64::try_from(at) else { die("a write has no place") };
            turn.note(&Event::Wrote { inode: status.inode, at, data: &bytes(length) });
        }
    });
    wrote
}

/// A number that tells a TCP connection from the others.
fn connection(socket: c_int) -> Option<u64> {
    // SAFETY: zeroes are a valid `sockaddr_storage`.
    let mut address: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_storage>() as socklen_t;
    // SAFETY: both outlive the call.
    let result = unsafe { libc::getpeername(socket, (&raw mut address).cast(), &raw mut length) };
    if result != 0 || c_int::from(address.ss_family) != libc::AF_INET {
        return None;
    }
    // SAFETY: that is what the family says.
    let address = unsafe { *(&raw const address).cast::<libc::sockaddr_in>() };
    Some(u64::from(address.sin_port) << 32 | u64::from(socket.cast_unsigned()))
}

/// # Safety
///
/// As for `write`.
unsafe fn one_buffer(buffer: *const c_void) -> impl FnOnce(usize) -> Vec<u8> {
    // SAFETY: so many bytes of it were just written.
    move |length| unsafe { std::slice::from_raw_parts(buffer.cast::<u8>(), length) }.to_vec()
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(file: c_int, buffer: *const c_void, length: size_t) -> ssize_t {
    let real = real!(c"write" as unsafe extern "C" fn(c_int, *const c_void, size_t) -> ssize_t);
    // SAFETY: passed on as it came.
    unsafe { writing(file, Place::Cursor, || real(file, buffer, length), one_buffer(buffer)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(file: c_int, buffers: *const iovec, count: c_int) -> ssize_t {
    let real = real!(c"writev" as unsafe extern "C" fn(c_int, *const iovec, c_int) -> ssize_t);
    let bytes = |length| {
        // SAFETY: passed on as it came.
        unsafe { gathered(buffers, count, length) }
    };
    // SAFETY: passed on as it came.
    unsafe { writing(file, Place::Cursor, || real(file, buffers, count), bytes) }
}

type WriteAt = unsafe extern "C" fn(c_int, *const c_void, size_t, off64_t) -> ssize_t;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(
    file: c_int,
    buffer: *const c_void,
    length: size_t,
    at: off64_t,
) -> ssize_t {
    let real = real!(c"pwrite" as WriteAt);
    // SAFETY: passed on as it came.
    unsafe { writing(file, Place::At(at), || real(file, buffer, length, at), one_buffer(buffer)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(
    file: c_int,
    buffer: *const c_void,
    length: size_t,
    at: off64_t,
) -> ssize_t {
    let real = real!(c"pwrite64" as WriteAt);
    // SAFETY: passed on as it came.
    unsafe { writing(file, Place::At(at), || real(file, buffer, length, at), one_buffer(buffer)) }
}

type WriteSeveralAt = unsafe extern "C" fn(c_int, *const iovec, c_int, off64_t) -> ssize_t;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev(
    file: c_int,
    buffers: *const iovec,
    count: c_int,
    at: off64_t,
) -> ssize_t {
    let real = real!(c"pwritev" as WriteSeveralAt);
    let bytes = |length| {
        // SAFETY: passed on as it came.
        unsafe { gathered(buffers, count, length) }
    };
    // SAFETY: passed on as it came.
    unsafe { writing(file, Place::At(at), || real(file, buffers, count, at), bytes) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwritev64(
    file: c_int,
    buffers: *const iovec,
    count: c_int,
    at: off64_t,
) -> ssize_t {
    // SAFETY: the same function under another name.
    unsafe { pwritev(file, buffers, count, at) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(
    socket: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
) -> ssize_t {
    let real =
        real!(c"send" as unsafe extern "C" fn(c_int, *const c_void, size_t, c_int) -> ssize_t);
    // SAFETY: passed on as it came.
    unsafe {
        writing(socket, Place::Cursor, || real(socket, buffer, length, flags), one_buffer(buffer))
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendto(
    socket: c_int,
    buffer: *const c_void,
    length: size_t,
    flags: c_int,
    to: *const sockaddr,
    to_length: socklen_t,
) -> ssize_t {
    type SendTo = unsafe extern "C" fn(
        c_int,
        *const c_void,
        size_t,
        c_int,
        *const sockaddr,
        socklen_t,
    ) -> ssize_t;
    let real = real!(c"sendto" as SendTo);
    let call = || {
        // SAFETY: passed on as it came.
        unsafe { real(socket, buffer, length, flags, to, to_length) }
    };
    // SAFETY: passed on as it came.
    unsafe { writing(socket, Place::Cursor, call, one_buffer(buffer)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendmsg(socket: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    let real = real!(c"sendmsg" as unsafe extern "C" fn(c_int, *const msghdr, c_int) -> ssize_t);
    let bytes = |length| {
        // SAFETY: the caller vouches for the message.
        let (buffers, count) = unsafe { ((*message).msg_iov, (*message).msg_iovlen) };
        // SAFETY: passed on as it came.
        unsafe { gathered(buffers, c_int::try_from(count).unwrap_or(c_int::MAX), length) }
    };
    // SAFETY: passed on as it came.
    unsafe { writing(socket, Place::Cursor, || real(socket, message, flags), bytes) }
}

/// Its turn, if a call is about a file that we know.
fn about(file: c_int) -> Option<(Turn<'static>, Status)> {
    let (recorder, status) = Recorder::get().zip(Status::of_file(file))?;
    let turn = recorder.turn();
    turn.knows(status).then_some((turn, status))
}

fn resizing(file: c_int, length: off64_t, call: impl FnOnce() -> c_int) -> c_int {
    let Some((mut turn, status)) = about(file) else { return call() };
    turn.event_ahead();
    let result = call();
    keeping_errno(|| {
        if let (0, Ok(length)) = (result, u64::try_from(length)) {
            turn.note(&Event::Resized { inode: status.inode, length });
        }
    });
    result
}

type Truncate = unsafe extern "C" fn(c_int, off64_t) -> c_int;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(file: c_int, length: off64_t) -> c_int {
    let real = real!(c"ftruncate" as Truncate);
    // SAFETY: passed on as it came.
    resizing(file, length, || unsafe { real(file, length) })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(file: c_int, length: off64_t) -> c_int {
    let real = real!(c"ftruncate64" as Truncate);
    // SAFETY: passed on as it came.
    resizing(file, length, || unsafe { real(file, length) })
}

/// Notes that a sync begins, waits for it without the lock, notes that it ended.
fn syncing(
    file: c_int,
    call: impl FnOnce() -> c_int,
    began: impl FnOnce(u64, u64) -> Event<'static>,
) -> c_int {
    let Some((mut turn, status)) = about(file) else { return call() };
    turn.event_ahead();
    let sync = turn.next_sync();
    turn.note(&began(sync, status.inode));
    let recorder = turn.pass();
    let result = call();
    keeping_errno(|| {
        if result == 0 {
            let mut turn = recorder.turn();
            turn.event_ahead();
            turn.note(&Event::SyncEnded { sync });
        }
    });
    result
}

type Sync = unsafe extern "C" fn(c_int) -> c_int;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(file: c_int) -> c_int {
    let real = real!(c"fsync" as Sync);
    // SAFETY: passed on as it came.
    syncing(file, || unsafe { real(file) }, |sync, inode| Event::SyncBegan { sync, inode })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    let real = real!(c"fdatasync" as Sync);
    // SAFETY: passed on as it came.
    syncing(file, || unsafe { real(file) }, |sync, inode| Event::SyncBegan { sync, inode })
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn sync_file_range(
    file: c_int,
    at: off64_t,
    length: off64_t,
    flags: c_uint,
) -> c_int {
    let real =
        real!(c"sync_file_range" as unsafe extern "C" fn(c_int, off64_t, off64_t, c_uint) -> c_int);
    // SAFETY: passed on as it came.
    let call = || unsafe { real(file, at, length, flags) };
    let whole = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (Ok(from), Ok(length)) = (u64::try_from(at), u64::try_from(length)) else { return call() };
    if flags != whole {
        // It waits for nothing, so it promises nothing.
        return call();
    }
    // 0 is to the end of the file.
    let to = if length == 0 { u64::MAX } else { from + length };
    syncing(file, call, |sync, inode| Event::RangeSyncBegan { sync, inode, from, to })
}

/// # Safety
///
/// Both paths are C strings.
unsafe fn renaming(
    from: (c_int, *const c_char),
    to: (c_int, *const c_char),
    call: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: the caller vouches for the paths.
    let (old, new) = unsafe { (Recorder::of_path(from.0, from.1), Recorder::of_path(to.0, to.1)) };
    match (old, new) {
        (None, None) => call(),
        (Some((recorder, old)), Some((_, new))) => {
            let mut turn = recorder.turn();
            turn.event_ahead();
            let result = call();
            keeping_errno(|| {
                if result == 0 {
                    turn.note(&Event::Renamed { from: &old, to: &new });
                }
            });
            result
        }
        (Some(_), None) | (None, Some(_)) => {
            die("a move into or out of the directory is not recorded")
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let real = real!(c"rename" as unsafe extern "C" fn(*const c_char, *const c_char) -> c_int);
    // SAFETY: passed on as it came.
    unsafe { renaming((libc::AT_FDCWD, from), (libc::AT_FDCWD, to), || real(from, to)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_directory: c_int,
    from: *const c_char,
    to_directory: c_int,
    to: *const c_char,
) -> c_int {
    type RenameAt = unsafe extern "C" fn(c_int, *const c_char, c_int, *const c_char) -> c_int;
    let real = real!(c"renameat" as RenameAt);
    let call = || {
        // SAFETY: passed on as it came.
        unsafe { real(from_directory, from, to_directory, to) }
    };
    // SAFETY: passed on as it came.
    unsafe { renaming((from_directory, from), (to_directory, to), call) }
}

/// # Safety
///
/// `path` is a C string.
unsafe fn removing(directory: c_int, path: *const c_char, call: impl FnOnce() -> c_int) -> c_int {
    // SAFETY: the caller vouches for the path.
    let Some((recorder, below)) = (unsafe { Recorder::of_path(directory, path) }) else {
        return call();
    };
    let mut turn = recorder.turn();
    turn.event_ahead();
    // SAFETY: the caller vouches for the path.
    let status = unsafe { Status::of_path(directory, path) };
    let result = call();
    keeping_errno(|| {
        if let (0, Some(status)) = (result, status) {
            turn.forget(status);
            turn.note(&Event::Removed { path: &below });
        }
    });
    result
}

type Remove = unsafe extern "C" fn(*const c_char) -> c_int;

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    let real = real!(c"unlink" as Remove);
    // SAFETY: passed on as it came.
    unsafe { removing(libc::AT_FDCWD, path, || real(path)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    let real = real!(c"rmdir" as Remove);
    // SAFETY: passed on as it came.
    unsafe { removing(libc::AT_FDCWD, path, || real(path)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(directory: c_int, path: *const c_char, flags: c_int) -> c_int {
    let real = real!(c"unlinkat" as unsafe extern "C" fn(c_int, *const c_char, c_int) -> c_int);
    // SAFETY: passed on as it came.
    unsafe { removing(directory, path, || real(directory, path, flags)) }
}

/// # Safety
///
/// `path` is a C string.
unsafe fn making_directory(
    directory: c_int,
    path: *const c_char,
    call: impl FnOnce() -> c_int,
) -> c_int {
    // SAFETY: the caller vouches for the path.
    let Some((recorder, below)) = (unsafe { Recorder::of_path(directory, path) }) else {
        return call();
    };
    let mut turn = recorder.turn();
    turn.event_ahead();
    let result = call();
    keeping_errno(|| {
        // SAFETY: the caller vouches for the path.
        let status = (result == 0).then(|| unsafe { Status::of_path(directory, path) }).flatten();
        if let Some(status) = status {
            turn.learn(status);
            turn.note(&Event::MadeDirectory { path: &below, inode: status.inode });
        }
    });
    result
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: mode_t) -> c_int {
    let real = real!(c"mkdir" as unsafe extern "C" fn(*const c_char, mode_t) -> c_int);
    // SAFETY: passed on as it came.
    unsafe { making_directory(libc::AT_FDCWD, path, || real(path, mode)) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(directory: c_int, path: *const c_char, mode: mode_t) -> c_int {
    let real = real!(c"mkdirat" as unsafe extern "C" fn(c_int, *const c_char, mode_t) -> c_int);
    // SAFETY: passed on as it came.
    unsafe { making_directory(directory, path, || real(directory, path, mode)) }
}
