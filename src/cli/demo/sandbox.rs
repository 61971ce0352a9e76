//! Namespaces that can be created without privileges.

use std::{fs, io};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{chdir, getegid, geteuid, pivot_root},
};

use super::CommandFailure;
use crate::node::paths;

/// Ends this process when its parent ends.
pub(super) fn end_with_parent() -> Result<(), CommandFailure> {
    set_pdeathsig(Signal::SIGKILL).map_err(|e| CommandFailure::failed(format!("prctl: {e}")))
}

/// Enters a new user namespace in which this process's one uid is `uid`, and the other namespaces of `flags`, owned by it.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every other error is reported as it is"
)]
pub(super) fn enter_as(uid: u32, flags: CloneFlags) -> Result<(), CommandFailure> {
    let (outer_uid, outer_gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | flags).map_err(|errno| match errno {
        Errno::EPERM | Errno::ENOSPC | Errno::EUSERS => CommandFailure::failed(format!(
            "this machine does not let you make user namespaces ({errno}); allow them \
             (sysctl kernel.apparmor_restrict_unprivileged_userns=0, kernel.unprivileged_userns_clone=1 or user.max_user_namespaces=10000) or run the demo as root"
        )),
        errno => CommandFailure::failed(format!("making namespaces: {errno}")),
    })?;
    // without this an ordinary user may not map a gid
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{uid} {outer_uid} 1")),
        ("gid_map", format!("{uid} {outer_gid} 1")),
    ];
    for (file, text) in maps {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|e| CommandFailure::failed(format!("writing /proc/self/{file}: {e}")))?;
    }
    Ok(())
}

/// Makes an empty root with this program and `/proc` in it, and moves into it.
pub(super) fn empty_root() -> Result<(), CommandFailure> {
    let base = ["/tmp", "/run", "/mnt"]
        .into_iter()
        .find(|p| fs::metadata(p).is_ok_and(|m| m.is_dir()));
    let base = base.ok_or_else(|| {
        CommandFailure::failed("there is none of /tmp, /run and /mnt to mount on")
    })?;
    let at = |path: &str| format!("{base}{path}");
    let mounted = |source: &str, target: &str, kind: Option<&str>, flags: MsFlags| {
        mount(Some(source), target, kind, flags, None::<&str>)
            .map_err(|e| CommandFailure::failed(format!("mounting {source} on {target}: {e}")))
    };
    let made = |result: io::Result<()>| {
        result.map_err(|e| CommandFailure::failed(format!("making the demo's root: {e}")))
    };
    mounted("none", "/", None, MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    mounted("tmpfs", base, Some("tmpfs"), MsFlags::empty())?;
    for directory in ["/proc", "/run", "/etc/mesh-optin", "/manifests", "/old"] {
        made(fs::create_dir_all(at(directory)))?;
    }
    made(fs::copy("/proc/self/exe", at("/mesh-optin")).map(|_| ()))?;
    mounted(
        "/proc",
        &at("/proc"),
        None,
        MsFlags::MS_BIND | MsFlags::MS_REC,
    )?;
    made(fs::write(
        at(paths::CONFIG),
        "{sources: [manifests], manifests: /manifests, deadline: 5s}\n",
    ))?;
    // not chroot: a chrooted process may not make user namespaces
    let moved = pivot_root(base, at("/old").as_str())
        .and_then(|()| chdir("/"))
        .and_then(|()| umount2("/old", MntFlags::MNT_DETACH));
    moved.map_err(|e| CommandFailure::failed(format!("moving into the demo's root: {e}")))
}
