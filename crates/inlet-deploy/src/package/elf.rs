//! Executables: for which processor, and what they need beside themselves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use object::elf::FileHeader64;
use object::read::elf::{ElfFile64, FileHeader, ProgramHeader};
use object::{Endianness, Object};

use super::{PackageError, read};

/// Where the loader looks for libraries, on Debian and on others.
const DIRECTORIES: [&str; 8] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// The processor an executable is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`, which containers call `amd64`.
    X86_64,
    /// `arm64`.
    Arm64,
}

impl Architecture {
    /// What an image calls it.
    pub fn container_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// What a function calls it.
    pub fn function_name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}

/// An executable, and the shared libraries it was linked with.
#[derive(Debug)]
pub struct Executable {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
    pub(super) architecture: Architecture,
    /// Where each library has to be, and its bytes; the loader among them.
    pub(super) libraries: BTreeMap<PathBuf, Vec<u8>>,
    /// The newest version of the C library whose symbols it uses; `None` where it has all within.
    pub(super) glibc: Option<(u32, u32)>,
}

impl Executable {
    /// Reads the executable at `path` and finds its libraries on this machine.
    pub fn read(path: &Path) -> Result<Self, PackageError> {
        let bytes = read(path)?;
        let found = needs(path, &bytes)?;
        let mut libraries = BTreeMap::new();
        if let Some(loader) = &found.loader {
            libraries.insert(PathBuf::from(loader), read(Path::new(loader))?);
        }
        let mut open = found.libraries.clone();
        while let Some(name) = open.pop() {
            if libraries.keys().any(|path: &PathBuf| path.ends_with(&name)) {
                continue;
            }
            let place = DIRECTORIES
                .iter()
                .map(|directory| Path::new(directory).join(&name))
                .find(|place| place.exists())
                .ok_or_else(|| PackageError::LibraryMissing {
                    path: path.into(),
                    library: name.clone(),
                })?;
            let library = read(&place)?;
            open.extend(needs(&place, &library)?.libraries);
            libraries.insert(place, library);
        }
        let (architecture, glibc) = (found.architecture, found.glibc);
        Ok(Self { path: path.into(), bytes, architecture, libraries, glibc })
    }

    /// The processor it is for.
    pub fn architecture(&self) -> Architecture {
        self.architecture
    }
}

struct Needs {
    architecture: Architecture,
    loader: Option<String>,
    libraries: Vec<String>,
    glibc: Option<(u32, u32)>,
}

fn needs(path: &Path, bytes: &[u8]) -> Result<Needs, PackageError> {
    let refuse = |why: String| PackageError::NotExecutable { path: path.into(), why };
    let file: ElfFile64<'_, Endianness> =
        ElfFile64::parse(bytes).map_err(|error| refuse(error.to_string()))?;
    let architecture = match file.architecture() {
        object::Architecture::X86_64 => Architecture::X86_64,
        object::Architecture::Aarch64 => Architecture::Arm64,
        other => return Err(refuse(format!("it is for {other:?}"))),
    };
    let mut loader = None;
    let header: &FileHeader64<Endianness> = file.elf_header();
    let endian = file.endian();
    let programs =
        header.program_headers(endian, bytes).map_err(|error| refuse(error.to_string()))?;
    for program in programs {
        let place =
            program.interpreter(endian, bytes).map_err(|error| refuse(error.to_string()))?;
        if let Some(place) = place {
            loader = Some(String::from_utf8_lossy(place).into_owned());
        }
    }
    Ok(Needs {
        architecture,
        loader,
        libraries: needed_libraries(&file, bytes)
            .ok_or_else(|| refuse("its dynamic section can't be read".into()))?,
        glibc: newest_glibc(bytes),
    })
}

/// The names in the dynamic section; none where it has none.
fn needed_libraries(file: &ElfFile64<'_, Endianness>, bytes: &[u8]) -> Option<Vec<String>> {
    let endian = file.endian();
    let sections = file.elf_section_table();
    let Some((entries, section)) = sections.dynamic(endian, bytes).ok()? else {
        return Some(Vec::new());
    };
    let strings = sections.strings(endian, bytes, section).ok()?;
    entries
        .iter()
        .filter(|entry| entry.d_tag.get(endian) == u64::from(object::elf::DT_NEEDED))
        .map(|entry| {
            let name = strings.get(u32::try_from(entry.d_val.get(endian)).ok()?).ok()?;
            Some(String::from_utf8_lossy(name).into_owned())
        })
        .collect()
}

/// The newest `GLIBC_2.N` that is named; symbol versions are kept as text.
fn newest_glibc(bytes: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"GLIBC_";
    let versions = memchr::memmem::find_iter(bytes, MARK).filter_map(|at| {
        let text = &bytes[at + MARK.len()..];
        let end = text.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b'.'))?;
        let mut numbers = std::str::from_utf8(&text[..end]).ok()?.split('.');
        Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    });
    versions.max()
}
