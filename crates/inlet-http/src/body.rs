//! Reading a request's body: to a limit in bytes, within the memory that all bodies share.

use bytes::Bytes;
use inlet_core::budget::Share;
use inlet_core::error::Error;
use inlet_core::failure::Failure;
use inlet_core::rejection::Rejection;
use inlet_server::{Body, BodyError};

/// How much may be set aside at once on the word of a `Content-Length`, in bytes.
const TRUSTED_BYTES_MAX: usize = 64 << 10;

/// Reads the whole body, whose memory is taken from the budget of `share` as it comes. One that
/// comes in one piece is not copied.
///
/// # Errors
/// [`Rejection::BodyTooLarge`] as soon as more than `bytes_max` have come, the reason of
/// [`broken`] where it breaks off, and a failure where the budget has no more.
pub(crate) async fn read(
    mut body: Body,
    bytes_max: usize,
    share: &mut Share,
) -> Result<Bytes, Error> {
    let announced = body.left().and_then(|bytes| usize::try_from(bytes).ok());
    let announced = announced.unwrap_or(bytes_max).min(bytes_max);
    let mut gathered = Gathered::default();
    while let Some(piece) = body.piece().await {
        let piece = piece.map_err(broken)?;
        if piece.len() > bytes_max - gathered.len() {
            return Err(Rejection::BodyTooLarge { limit_bytes: bytes_max }.into());
        }
        gathered.push(piece, announced, share)?;
    }
    Ok(gathered.into_bytes())
}

/// The rejection of a request whose body breaks off.
pub(crate) fn broken(error: BodyError) -> Rejection {
    match error {
        BodyError::Late => Rejection::BodyTimeout,
        BodyError::Malformed(reason) => Rejection::RequestMalformed(reason),
        BodyError::Incomplete => Rejection::BodyIncomplete,
    }
}

/// The pieces of a body that have come.
#[derive(Default)]
enum Gathered {
    #[default]
    Nothing,
    One(Bytes),
    Many(Vec<u8>),
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::One(bytes) => bytes.len(),
            Self::Many(bytes) => bytes.len(),
        }
    }

    /// Adds a piece of a body of at most `announced` bytes. What is allocated for it is taken from
    /// the share first.
    fn push(&mut self, data: Bytes, announced: usize, share: &mut Share) -> Result<(), Failure> {
        *self = match std::mem::take(self) {
            Self::Nothing => {
                share.grow(data.len())?;
                Self::One(data)
            }
            Self::One(first) => {
                let needed = first.len() + data.len();
                let room = needed.max(announced.min(TRUSTED_BYTES_MAX));
                share.grow(room)?;
                let mut all = Vec::with_capacity(room);
                all.extend_from_slice(&first);
                all.extend_from_slice(&data);
                share.shrink_to(share.bytes() - first.len());
                Self::Many(all)
            }
            Self::Many(mut all) => {
                let needed = all.len() + data.len();
                if needed > all.capacity() {
                    let room = needed.max((all.capacity() * 2).min(announced));
                    share.grow(room - all.capacity())?;
                    all.reserve_exact(room - all.len());
                }
                all.extend_from_slice(&data);
                Self::Many(all)
            }
        };
        Ok(())
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Many(bytes) => bytes.into(),
        }
    }
}
