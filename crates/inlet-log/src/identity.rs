//! The file `log.id`: the log's identity in hex, and a newline.

use std::path::Path;

use crate::disk::{Access, Disk, read_full, write_full};
use crate::error::{Damage, IoError, OpenError, ReadError};
use crate::ledger::{self, Released};
use crate::position::{LogId, Position};

const ID: &str = "log.id";
const ID_NEW: &str = "log.id.new";

/// Reads the identity of the log in a directory; `None` where there is no log yet.
pub(crate) fn read_id(disk: &dyn Disk, dir: &Path) -> Result<Option<LogId>, ReadError> {
    let path = dir.join(ID);
    let file = match disk.open(&path, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(IoError::opening(&path)(error)),
    };
    let mut text = [0; 64];
    let bytes = read_full(&*file, &mut text, 0).map_err(IoError::on("read", &path))?;
    let id = text[..bytes].strip_suffix(b"\n").and_then(|text| str::from_utf8(text).ok());
    match id.and_then(|text| text.parse().ok()) {
        Some(id) => Ok(Some(id)),
        None => {
            let what = "this is no log identity".to_owned();
            Err(Damage { path, offset: 0, what }.into())
        }
    }
}

/// The identity of the log in a directory, made if there is no log yet.
pub(crate) fn make_id(disk: &dyn Disk, dir: &Path) -> Result<LogId, OpenError> {
    let random = || disk.random().map_err(IoError::on("get random bytes for", dir));
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random()?.to_le_bytes());
    bytes[8..].copy_from_slice(&random()?.to_le_bytes());
    let id = LogId::from_bytes(bytes);
    // First: the one that drains the log writes it too, and looks at no log without an identity.
    ledger::write(disk, dir, &Released { first: 1, position: Position::START, store: None })?;
    write_id(disk, dir, id)?;
    Ok(id)
}

/// Writes the identity of a log, durably and in one step.
pub(crate) fn write_id(disk: &dyn Disk, dir: &Path, id: LogId) -> Result<(), IoError> {
    let (new, path) = (dir.join(ID_NEW), dir.join(ID));
    let file = disk.create(&new, Access::Write).map_err(IoError::on("create", &new))?;
    write_full(&*file, format!("{id}\n").as_bytes(), 0).map_err(IoError::on("write", &new))?;
    file.sync().map_err(IoError::on("sync", &new))?;
    disk.rename(&new, &path).map_err(IoError::on("rename", &new))?;
    disk.sync_dir(dir).map_err(IoError::on("sync", dir))
}

/// The damage of a log whose identity is not there though its segments are.
pub(crate) fn lost_id(dir: &Path) -> Damage {
    let what = "the log's identity is missing though there are segments".to_owned();
    Damage { path: dir.join(ID), offset: 0, what }
}
