//! Which version of Multus a program is: it says so in the build information that Go puts into each program (`go version -m` shows it).

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use nix::libc::O_NONBLOCK;

/// The module that Multus is built from, but for the number of its major version.
const MODULE: &str = "gopkg.in/k8snetworkplumbingwg/multus-cni.";
/// The variable that Multus's own build sets to the version, among the flags of the linker.
const VARIABLE: &str = "multus.version=";
/// Largest build information that is read, in bytes; Multus's has some 6 KiB.
const LARGEST: u64 = 256 << 10;
/// Most sections of a program that are looked at, and the largest table of their names, in bytes.
const MOST_SECTIONS: u16 = 256;
const LARGEST_NAMES: u64 = 64 << 10;

/// The version of Multus that this program was built as, without executing it; `None` where it does not say so, or is no program of a
/// 64-bit little-endian machine.
pub(super) fn version(program: &Path) -> Option<String> {
    // not a pipe, which blocks, nor a device
    if !std::fs::metadata(program).ok()?.is_file() {
        return None;
    }
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(O_NONBLOCK).open(program);
    let information = build_info(&opened.ok()?).ok().flatten()?;
    version_in(&information)
}

/// The version in `runtime/debug.BuildInfo`, in the form of its `String`.
fn version_in(information: &str) -> Option<String> {
    let lines = || {
        information
            .lines()
            .map(|l| l.split('\t').collect::<Vec<_>>())
    };
    let set = lines().find_map(|line| {
        let flags = line.get(1).filter(|_| line[0] == "build")?;
        let (_, rest) = flags.strip_prefix("-ldflags=")?.split_once(VARIABLE)?;
        let is_end = |c: char| c.is_whitespace() || "\"'\\".contains(c);
        rest.split(is_end).next().map(str::to_owned)
    });
    let of_module = || {
        lines().find_map(|line| match line.as_slice() {
            ["mod" | "dep", path, version, ..] if path.starts_with(MODULE) => {
                Some((*version).to_owned())
            }
            _ => None,
        })
    };
    // OpenShift's builds say "rhel9", others "master" or "(devel)"
    let is_version = |text: &String| {
        let digits = text.strip_prefix('v').unwrap_or(text);
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.contains('.')
    };
    let version = set.filter(is_version).or_else(of_module);
    version.filter(is_version).map(|text| {
        let printable = text.chars().filter(char::is_ascii_graphic);
        printable.take(64).collect()
    })
}

/// What is in section `.go.buildinfo`: a magic number, the size of a pointer, flags, padding to 32 bytes, and then two texts with their
/// lengths, the version of Go and the information (as of Go 1.18).
fn build_info(program: &File) -> io::Result<Option<String>> {
    const MAGIC: &[u8] = b"\xff Go buildinf:";
    const FLAGS: usize = 15;
    const HAS_TEXTS: u8 = 2;
    const HEADER: usize = 32;
    /// Of the information's own marks, at its beginning and end.
    const MARK: usize = 16;
    let Some(section) = section(program, b".go.buildinfo")? else {
        return Ok(None);
    };
    let has_texts = section.starts_with(MAGIC)
        && section
            .get(FLAGS)
            .is_some_and(|flags| flags & HAS_TEXTS != 0);
    let texts = section.get(HEADER..).filter(|_| has_texts);
    let information = texts.and_then(|texts| {
        let (_version_of_go, rest) = text(texts)?;
        let (information, _) = text(rest)?;
        let end = information.len().checked_sub(MARK)?;
        std::str::from_utf8(information.get(MARK..end)?).ok()
    });
    Ok(information.map(str::to_owned))
}

/// A text behind its length, and what follows it.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let digits = bytes.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let (length, rest) = bytes.split_at_checked(digits).filter(|_| digits <= 4)?;
    let length = length
        .iter()
        .rev()
        .fold(0, |all, byte| all << 7 | usize::from(byte & 0x7f));
    rest.split_at_checked(length)
}

/// What is in a section of an ELF file, if it has one of this name.
fn section(program: &File, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    /// `Elf64_Ehdr`, `Elf64_Shdr`
    const FILE_HEADER: usize = 64;
    const HEADER: usize = 64;
    /// Class and byte order: 64 bits, little endian.
    const IDENTITY: &[u8] = b"\x7fELF\x02\x01";
    let mut header = [0; FILE_HEADER];
    program.read_exact_at(&mut header, 0)?;
    let count = u16_at(&header, 60).min(MOST_SECTIONS);
    if !header.starts_with(IDENTITY) || usize::from(u16_at(&header, 58)) != HEADER {
        return Ok(None);
    }
    let table = read_at(
        program,
        u64_at(&header, 40),
        u64::from(count) * HEADER as u64,
    )?;
    let sections = || table.chunks_exact(HEADER);
    let place = |section: &[u8]| (u64_at(section, 24), u64_at(section, 32));
    let Some(of_names) = sections().nth(u16_at(&header, 62).into()) else {
        return Ok(None);
    };
    let (offset, size) = place(of_names);
    let names = read_at(program, offset, size.min(LARGEST_NAMES))?;
    let has_name = |section: &&[u8]| {
        let from = names.get(u32_at(section, 0) as usize..);
        from.and_then(|from| from.split(|byte| *byte == 0).next()) == Some(name)
    };
    let Some((offset, size)) = sections().find(has_name).map(place) else {
        return Ok(None);
    };
    read_at(program, offset, size.min(LARGEST)).map(Some)
}

fn read_at(program: &File, offset: u64, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    program.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// A little-endian number at this offset; zero where the bytes end before it.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |number| u16::from_le_bytes(*number))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |number| u32::from_le_bytes(*number))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |number| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELEASED: &str = "path\tgopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus-shim\n\
        mod\tgopkg.in/k8snetworkplumbingwg/multus-cni.v4\t(devel)\t\n\
        dep\tgithub.com/blang/semver\tv3.5.1+incompatible\th1:c=\n\
        build\t-ldflags=\"-X gopkg.in/k8snetworkplumbingwg/multus-cni.v4/pkg/multus.version=v4.2.2 \\t-X x.commit=a\"\n";

    #[test]
    fn a_version_is_what_the_linker_was_told_or_else_the_modules() {
        assert_eq!(version_in(RELEASED).as_deref(), Some("v4.2.2"));
        let of_module = RELEASED
            .replace("-ldflags", "-tags")
            .replace("(devel)", "v4.3.0");
        assert_eq!(version_in(&of_module).as_deref(), Some("v4.3.0"));
        for none in ["", "rhel9", "master", "v4"] {
            let unnamed = RELEASED.replace("=v4.2.2", &format!("={none}"));
            assert_eq!(version_in(&unnamed), None, "{none}");
        }
        assert_eq!(version_in("mod\tgithub.com/other/module\tv1.0.0\t\n"), None);
        assert_eq!(version_in("build\nmod\n\t\n"), None);
    }

    #[test]
    fn what_is_no_program_of_go_has_no_version_and_is_read_up_to_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("multus");
        let header = |offset: u64, sections: u16| {
            let mut header = [0; 64];
            header[..6].copy_from_slice(b"\x7fELF\x02\x01");
            header[40..48].copy_from_slice(&offset.to_le_bytes());
            header[58..60].copy_from_slice(&64u16.to_le_bytes());
            header[60..62].copy_from_slice(&sections.to_le_bytes());
            header.to_vec()
        };
        for bytes in [
            Vec::new(),
            b"#!/bin/sh\n".to_vec(),
            vec![0xff; 4096],
            header(64, 0),
            header(64, u16::MAX),
            header(u64::MAX, 1),
            [header(64, 1), vec![0xff; 64]].concat(),
        ] {
            std::fs::write(&file, &bytes).unwrap();
            assert_eq!(version(&file), None, "{bytes:?}");
        }
        assert_eq!(version(&directory.path().join("none")), None);
        assert_eq!(version(directory.path()), None);
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(version(&pipe), None);
        assert_eq!(version(Path::new("/proc/self/exe")), None);
    }

    #[test]
    fn a_text_has_its_length_before_it() {
        assert_eq!(text(b"\x02abc"), Some((&b"ab"[..], &b"c"[..])));
        let long = [&[0x80, 0x01][..], &[7; 129]].concat();
        assert_eq!(
            text(&long).map(|(text, rest)| (text.len(), rest.len())),
            Some((128, 1))
        );
        for bytes in [&b""[..], b"\x02a", b"\x80", b"\xff\xff\xff\xff\xff\x01a"] {
            assert_eq!(text(bytes), None, "{bytes:?}");
        }
    }
}
