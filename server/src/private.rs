//! Whether a file is its reader's alone.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

/// True if nobody else can read or write a file. One of root's may be readable for a group: so clusters and
/// service managers hand secrets to a process that is not root, which cannot own them. It has to be let in
/// somehow, and only root puts others into that group.
pub(crate) fn is_private(file: &Metadata) -> bool {
    let reader = rustix::process::geteuid().as_raw();
    allows_nobody_else(file.mode(), file.uid(), reader)
}

fn allows_nobody_else(mode: u32, owner: u32, reader: u32) -> bool {
    let forbidden = if owner == 0 && reader != 0 { 0o037 } else { 0o077 };
    mode & forbidden == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_read_what_is_root_s_and_nothing_else() {
        let check = |mode| {
            let root_s = allows_nobody_else(mode, 0, 65532);
            (root_s, allows_nobody_else(mode, 65532, 65532), allows_nobody_else(mode, 0, 0))
        };
        for mode in [0o100600, 0o100400] {
            assert_eq!(check(mode), (true, true, true), "{mode:o}");
        }
        for mode in [0o100640, 0o100440] {
            assert_eq!(check(mode), (true, false, false), "{mode:o}");
        }
        for mode in [0o100660, 0o100604, 0o100644, 0o100620, 0o100444, 0o100602] {
            assert_eq!(check(mode), (false, false, false), "{mode:o}");
        }
    }
}
