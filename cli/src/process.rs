//! What a server's process asks of the system before it begins.

use rustix::{
    fs::Mode,
    process::{DumpableBehavior, Resource, getrlimit, set_dumpable_behavior, setrlimit, umask},
    thread::disable_transparent_huge_pages,
};

/// Whether a crash may leave the memory of the process in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoreFiles {
    /// As the system is set up.
    Allowed,
    /// Never: tokens and keys are in that memory.
    Never,
}

/// Files of the process are the owner's alone, it has as many sockets as the system grants, its memory
/// stays where it is and comes in small pages. What the system refuses is logged; the server starts all the same.
pub(crate) fn prepare(core_files: CoreFiles) {
    // Of this process only, so nothing that runs beside it is touched.
    umask(Mode::RWXG | Mode::RWXO);
    // The soft limit is 1024 almost everywhere, for the sake of programs that use select(2).
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::warn!(%error, "the limit of open files stays where it is");
    }
    if core_files == CoreFiles::Never
        && let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "a crash may write a core file, with credentials in it");
    }
    // The allocator asks for pages of 2 MiB wherever the kernel has them to give on demand. The kernel then
    // puts whole ones where a few KiB are in use, and has everything else wait meanwhile.
    if let Err(error) = disable_transparent_huge_pages(true) {
        tracing::warn!(%error, "more memory is taken than is used");
    }
}
