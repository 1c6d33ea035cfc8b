//! The zip of a function: one executable named `bootstrap`, as the runtime `provided.al2023`
//! starts it.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use super::{Executable, PackageError};

/// The C library of Amazon Linux 2023, on which functions run.
/// Source: <https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html> (glibc 2.34).
pub const FUNCTION_GLIBC_MAX: (u32, u32) = (2, 34);

/// The zip for an executable; refused where it would not start there.
pub fn function_zip(executable: &Executable) -> Result<Vec<u8>, PackageError> {
    if let Some(needed) = executable.glibc.filter(|needed| *needed > FUNCTION_GLIBC_MAX) {
        return Err(PackageError::GlibcTooNew { path: executable.path.clone(), needed });
    }
    let pack = |source: std::io::Error| PackageError::Pack { what: "the zip", source };
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("bootstrap", options).map_err(|error| pack(error.into()))?;
    zip.write_all(&executable.bytes).map_err(pack)?;
    Ok(zip.finish().map_err(|error| pack(error.into()))?.into_inner())
}
